"""The trainings of a head, on embedded images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from synood_cli.config import Execution, TrainLabelsSettings, TrainProjectionSettings
from synood_cli.errors import UsageError
from synood_cli.method.joint import train_jointly
from synood_cli.method.label_tuning import tune_labels
from synood_cli.method.negative_labels import assign_labels, mean_feature
from synood_cli.method.projection import Projection, train_projection
from synood_cli.method.training import steps_per_epoch
from synood_cli.models.loading import choose_device
from synood_cli.stages.embed import Features, Rows
from synood_cli.stages.training import Trained, TrainingJob
from synood_cli.stages.workers.torch_head import CHUNK, TorchHead, numpy_features
from synood_cli.store.heads import Head


class _Lesson:
    """A training job on a device: the head, the features of its images (before normalisation), and what was learned."""

    def __init__(self, job: TrainingJob, device: str) -> None:
        self.job = job
        self.device = device
        self.head = Head.read(job.head)
        self.ind_text, self.negatives = (
            torch.tensor(self.head.tensors[name], device=device) for name in ("ind_features", "negative_features")
        )
        self.ind = self.load(job.ind)
        self.classes = torch.tensor(job.ind_labels, device=device)
        self.logit_scale = self.head.info.clip.logit_scale

    def load(self, rows: Rows) -> Tensor:
        return torch.tensor(rows.load(), device=self.device)

    @property
    def synthetic(self) -> Tensor:
        if self.job.synthetic is None:
            raise UsageError("this training needs synthetic images")
        return self.load(self.job.synthetic)

    def assigned(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 11 for images of unit length: (position of each one's nearest negative label, its similarity, Y*-
        sorted)."""
        nearest, similarity = assign_labels(images, self.negatives, CHUNK)
        return nearest, similarity, torch.unique(nearest)

    def starting_labels(self, chosen: Tensor) -> Tensor:
        """What the features of `chosen` are learned from: the head's, at the length that the text tower gave them
        (under several templates, that of their mean), or at unit length where the job does not name their prompts."""
        start = self.negatives[chosen]
        if self.job.labels is None:
            return start
        lengths = torch.empty(len(self.negatives))
        for embedded, places in self.job.labels:
            raw = mean_feature(torch.from_numpy(block) for block in embedded.blocks())
            lengths[places] = raw.norm(dim=-1)
        return start * lengths.to(self.device)[chosen, None]

    def with_labels(self, chosen: Tensor, tuned: Tensor) -> dict[str, Features]:
        """The negative features, of which the rows `chosen` are learned and the others untouched."""
        negatives = self.head.tensors["negative_features"].copy()
        negatives[chosen.cpu().numpy()] = numpy_features(tuned)
        return {"negative_features": negatives}

    def trained(
        self,
        tensors: dict[str, Features],
        assigned: tuple[Tensor, Tensor] | None,
        losses: list[float],
        epoch: int,
        tpr: float,
    ) -> Trained:
        """The result, with the threshold that the new tensors need."""
        better = TorchHead.of(Head(self.head.info, {**self.head.tensors, **tensors}), self.device)
        threshold = better.threshold(self.job.calibration.load(), tpr)
        nearest, similarity = ([], []) if assigned is None else (found.tolist() for found in assigned)
        return Trained(tensors, nearest, similarity, losses, epoch, threshold)


def _weights(projection: Projection) -> dict[str, Features]:
    return {f"projection.{name}": numpy_features(tensor) for name, tensor in projection.state_dict().items()}


class ProjectionWorker:
    """Trains a projection (Eq. 12)."""

    def __init__(self, settings: TrainProjectionSettings, execution: Execution, seed: int) -> None:
        self._settings = settings
        self._device = choose_device(execution.device)
        self._seed = seed

    def __call__(self, job: TrainingJob) -> Trained:
        """The weights of a projection trained on the job's pairs: the synthetic image with its nearest negative
        label, the selected image with its class, among the InD labels and Y*-. Without synthetic images, on the
        selected ones with their classes, among the InD labels and all negative ones."""
        settings, lesson = self._settings, _Lesson(job, self._device)
        features, targets, negatives, assigned = lesson.ind, lesson.classes, lesson.negatives, None
        if job.synthetic is not None:
            synthetic = lesson.synthetic
            nearest, similarity, chosen = lesson.assigned(normalize(synthetic, dim=-1))
            features = torch.cat([synthetic, features])
            targets = torch.cat([len(lesson.ind_text) + torch.searchsorted(chosen, nearest), targets])
            negatives, assigned = negatives[chosen], (nearest, similarity)
        projection, losses = train_projection(
            features,
            targets,
            torch.cat([lesson.ind_text, negatives]),
            logit_scale=lesson.logit_scale,
            epochs=settings.epochs,
            steps=settings.steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            cosine_to=settings.final_learning_rate,
            cosine_per=settings.cosine_per,
            generator=torch.Generator().manual_seed(self._seed),
        )
        epoch = steps_per_epoch(len(features), settings.batch_size)
        return lesson.trained(_weights(projection), assigned, losses, epoch, settings.tpr)


class LabelWorker:
    """Tunes the features of Y*- (Eq. 14), by one of the strategies of Table 5; the joint one learns a projection by
    the settings `projection` along with them."""

    def __init__(
        self,
        settings: TrainLabelsSettings,
        execution: Execution,
        seed: int,
        projection: TrainProjectionSettings | None = None,
    ) -> None:
        self._settings = settings
        self._device = choose_device(execution.device)
        self._seed = seed
        self._projection = projection

    def __call__(self, job: TrainingJob) -> Trained:
        """The negative features, of which the rows of Y*- are learned and the others untouched; by the joint strategy
        also the weights of a projection."""
        lesson = _Lesson(job, self._device)
        synthetic = lesson.synthetic
        seen = normalize(synthetic, dim=-1)
        if self._settings.strategy == "separate-with-projection":
            seen = TorchHead.of(lesson.head, self._device).image_features(synthetic)
        nearest, similarity, chosen = lesson.assigned(seen)
        rows = torch.searchsorted(chosen, nearest)
        weights: dict[str, Features] = {}
        if self._projection is None:
            tuned, losses = self._tune(lesson, seen, chosen, rows)
        else:
            projection, tuned, losses = self._tune_jointly(lesson, synthetic, chosen, rows, self._projection)
            weights = _weights(projection)
        epoch = steps_per_epoch(len(synthetic), self._settings.batch_size)
        tensors = lesson.with_labels(chosen, tuned) | weights
        return lesson.trained(tensors, (nearest, similarity), losses, epoch, self._settings.tpr)

    def _tune(self, lesson: _Lesson, images: Tensor, chosen: Tensor, rows: Tensor) -> tuple[Tensor, list[float]]:
        settings = self._settings
        return tune_labels(
            images,
            lesson.starting_labels(chosen),
            rows,
            loss=settings.loss,
            logit_scale=lesson.logit_scale,
            epochs=settings.epochs,
            steps=settings.steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            cosine=settings.cosine,
            cosine_per=settings.cosine_per,
            generator=torch.Generator().manual_seed(self._seed),
        )

    def _tune_jointly(
        self, lesson: _Lesson, synthetic: Tensor, chosen: Tensor, rows: Tensor, projection: TrainProjectionSettings
    ) -> tuple[Projection, Tensor, list[float]]:
        settings = self._settings
        return train_jointly(
            synthetic,
            lesson.ind,
            lesson.starting_labels(chosen),
            rows,
            lesson.ind_text,
            lesson.classes,
            loss=settings.loss,
            logit_scale=lesson.logit_scale,
            epochs=settings.epochs,
            steps=settings.steps,
            batch_size=settings.batch_size,
            projection_learning_rate=projection.learning_rate,
            projection_weight_decay=projection.weight_decay,
            projection_cosine_to=projection.final_learning_rate,
            projection_cosine_per=projection.cosine_per,
            label_learning_rate=settings.learning_rate,
            label_momentum=settings.momentum,
            label_weight_decay=settings.weight_decay,
            label_cosine=settings.cosine,
            label_cosine_per=settings.cosine_per,
            generator=torch.Generator().manual_seed(self._seed),
        )
