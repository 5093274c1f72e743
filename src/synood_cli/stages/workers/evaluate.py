"""Scores embedded images with a head, or with its InD labels alone (MCM)."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from synood_cli.config import Execution
from synood_cli.method.scores import mcm_score, predicted_class
from synood_cli.models.loading import choose_device
from synood_cli.stages.evaluate import EvaluationJob, McmScores
from synood_cli.stages.heads import Detections
from synood_cli.stages.workers.torch_head import CHUNK, TorchHead
from synood_cli.store.heads import Head


class EvaluationWorker:
    """Needs no CLIP: images come as features."""

    def __init__(self, execution: Execution, mcm_temperature: float) -> None:
        self._device = choose_device(execution.device)
        self._mcm_temperature = mcm_temperature

    def __call__(self, job: EvaluationJob) -> Detections:
        """The head's detections (Eq. 2)."""
        return TorchHead.of(Head.read(job.head), self._device).detect(job.images.load())

    def mcm(self, job: EvaluationJob) -> McmScores:
        """MCM on CLIP's own features, whatever the head's projection: (scores, predicted class) of each image."""
        ind = torch.tensor(Head.read(job.head).tensors["ind_features"], device=self._device)
        scores, predicted = [], []
        for chunk in torch.split(torch.tensor(job.images.load()), CHUNK):
            image = normalize(chunk.to(self._device), dim=-1)
            scores.append(mcm_score(image, ind, self._mcm_temperature))
            predicted.append(predicted_class(image, ind))
        return McmScores(torch.cat(scores).cpu().numpy(), torch.cat(predicted).cpu().numpy())
