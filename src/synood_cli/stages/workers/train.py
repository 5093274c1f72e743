"""The two trainings of a head, on embedded images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from synood_cli.config import Execution, TrainLabelsSettings, TrainProjectionSettings
from synood_cli.method.label_tuning import tune_labels
from synood_cli.method.negative_labels import assign_labels
from synood_cli.method.projection import train_projection
from synood_cli.models.loading import choose_device
from synood_cli.stages.embed import Features
from synood_cli.stages.heads import Trained, TrainingJob
from synood_cli.stages.workers.torch_head import CHUNK, TorchHead, numpy_features
from synood_cli.store.heads import Head


class _Trainer:
    def __init__(self, execution: Execution, seed: int) -> None:
        self.device = choose_device(execution.device)
        self.seed = seed

    def assigned(self, head: Head, synthetic: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 11: (position of each image's nearest negative label, its similarity, Y*- sorted)."""
        negatives = torch.tensor(head.tensors["negative_features"], device=self.device)
        nearest, similarity = assign_labels(normalize(synthetic, dim=-1), negatives, CHUNK)
        return nearest, similarity, torch.unique(nearest)

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def trained(
        self,
        head: Head,
        job: TrainingJob,
        tensors: dict[str, Features],
        nearest: Tensor,
        similarity: Tensor,
        losses: list[float],
        tpr: float,
    ) -> Trained:
        """The result, with the threshold that the new tensors need."""
        better = TorchHead.of(Head(head.info, {**head.tensors, **tensors}), self.device)
        threshold = better.threshold(job.calibration.load(), tpr)
        return Trained(tensors, nearest.tolist(), similarity.tolist(), losses, threshold)


class ProjectionWorker(_Trainer):
    """Trains a projection (Eq. 12)."""

    def __init__(self, settings: TrainProjectionSettings, execution: Execution, seed: int) -> None:
        super().__init__(execution, seed)
        self._settings = settings

    def __call__(self, job: TrainingJob) -> Trained:
        """The weights of a projection trained on the job's pairs: the synthetic image with its nearest negative
        label, the selected image with its class, among the InD labels and Y*-."""
        settings, head = self._settings, Head.read(job.head)
        synthetic = torch.tensor(job.synthetic.load(), device=self.device)
        nearest, similarity, chosen = self.assigned(head, synthetic)
        ind = torch.tensor(head.tensors["ind_features"], device=self.device)
        negatives = torch.tensor(head.tensors["negative_features"], device=self.device)
        features = torch.cat([synthetic, torch.tensor(job.ind.load(), device=self.device)])
        targets = torch.cat(
            [len(ind) + torch.searchsorted(chosen, nearest), torch.tensor(job.ind_labels, device=self.device)]
        )
        projection, losses = train_projection(
            features,
            targets,
            torch.cat([ind, negatives[chosen]]),
            logit_scale=head.info.clip.logit_scale,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            cosine_to=settings.final_learning_rate,
            generator=self.generator(),
        )
        weights = {f"projection.{name}": numpy_features(tensor) for name, tensor in projection.state_dict().items()}
        return self.trained(head, job, weights, nearest, similarity, losses, settings.tpr)


class LabelWorker(_Trainer):
    """Tunes the features of Y*- (Eq. 14)."""

    def __init__(self, settings: TrainLabelsSettings, execution: Execution, seed: int) -> None:
        super().__init__(execution, seed)
        self._settings = settings

    def __call__(self, job: TrainingJob) -> Trained:
        """The negative features, of which the rows of Y*- are learned and the others untouched."""
        settings, head = self._settings, Head.read(job.head)
        synthetic = torch.tensor(job.synthetic.load(), device=self.device)
        nearest, similarity, chosen = self.assigned(head, synthetic)
        before = head.tensors["negative_features"]
        tuned, losses = tune_labels(
            normalize(synthetic, dim=-1),
            torch.tensor(before, device=self.device)[chosen],
            torch.searchsorted(chosen, nearest),
            loss=settings.loss,
            logit_scale=head.info.clip.logit_scale,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            cosine=settings.cosine,
            generator=self.generator(),
        )
        negatives = before.copy()
        negatives[chosen.cpu().numpy()] = numpy_features(tuned)
        return self.trained(head, job, {"negative_features": negatives}, nearest, similarity, losses, settings.tpr)
