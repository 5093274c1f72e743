"""Scores embedded images with a head, or with its InD labels alone (MCM)."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch.nn.functional import normalize

from synood_cli.config import Execution
from synood_cli.method.adaneg import adaneg
from synood_cli.method.scores import grouping, mcm_score, predicted_class
from synood_cli.models.loading import choose_device, precise_device
from synood_cli.stages.contenders import EvaluationJob, Predictions, StreamJob
from synood_cli.stages.heads import Detections
from synood_cli.stages.resources import Timing
from synood_cli.stages.workers.torch_head import CHUNK, TorchHead
from synood_cli.store.heads import Head

WARM_UP, REPEATS = 20, 200
"""Runs of each score that do not count, and runs that a median is taken of."""


class EvaluationWorker:
    """Needs no CLIP: images come as features."""

    def __init__(self, execution: Execution, mcm_temperature: float) -> None:
        self._device = choose_device(execution.device)
        self._mcm_temperature = mcm_temperature

    def __call__(self, job: EvaluationJob) -> Detections:
        """The head's detections (Eq. 2)."""
        return TorchHead.of(Head.read(job.head), self._device).detect(job.images.load())

    def ungrouped(self, job: EvaluationJob) -> Detections:
        """The same against all negative labels at once: Eq. 2 as it is written, without NegLabel's grouping."""
        head = TorchHead.of(Head.read(job.head), self._device)
        head.groups = None
        return head.detect(job.images.load())

    def mcm(self, job: EvaluationJob) -> Predictions:
        """MCM on CLIP's own features, whatever the head's projection. In float64: near-uniform probabilities that
        single precision cannot tell apart would tie."""
        device = precise_device(self._device)
        ind = torch.tensor(Head.read(job.head).tensors["ind_features"], device=device).double()
        scores, predicted = [], []
        for chunk in torch.split(torch.tensor(job.images.load()), CHUNK):
            image = normalize(chunk.to(device).double(), dim=-1)
            scores.append(mcm_score(image, ind, self._mcm_temperature))
            predicted.append(predicted_class(image, ind))
        return Predictions(torch.cat(scores).cpu().numpy(), torch.cat(predicted).cpu().numpy())

    def stream(self, job: StreamJob) -> tuple[Predictions, Predictions]:
        """AdaNeg's scores of the InD and of the OOD images of a stream, with the head's labels and projection."""
        stored, device = Head.read(job.head), precise_device(self._device)
        head, settings = TorchHead.of(stored, device), job.settings
        parts = [
            head.image_features(chunk.to(device))
            for rows in (job.ind, job.ood)
            for chunk in torch.split(torch.tensor(rows.load()), CHUNK)
        ]
        images, order = torch.cat(parts), torch.tensor(job.order)
        count = len(head.negatives)
        groups = grouping(count, settings.groups, stored.info.group_seed) if settings.groups else None
        streamed = adaneg(
            images[order.to(device)],
            head.ind,
            head.negatives,
            temperature=head.temperature,
            groups=None if groups is None else groups.to(device),
            **settings.model_dump(exclude={"groups"}),
        )
        scores, predicted = torch.empty(len(order), dtype=torch.float64), torch.empty(len(order), dtype=torch.long)
        scores[order], predicted[order] = streamed.scores.cpu(), streamed.predicted.cpu()
        ends = len(job.ind.positions)
        return (
            Predictions(scores[:ends].numpy(), predicted[:ends].numpy()),
            Predictions(scores[ends:].numpy(), predicted[ends:].numpy()),
        )

    def timing(self, path: Path) -> Timing:
        """Milliseconds to score one embedded image with the head, and with the head less its projection, which is
        NegLabel on as many labels: medians over repeated runs, in turn, after some that do not count."""
        head = TorchHead.of(Head.read(path), self._device)
        neglabel = TorchHead.of(Head.read(path), self._device)
        neglabel.projection = None
        image = torch.randn(1, head.ind.shape[1], generator=torch.Generator().manual_seed(0)).to(self._device)
        runs = [[self._milliseconds(each, image) for each in (head, neglabel)] for _ in range(WARM_UP + REPEATS)]
        medians = torch.tensor(runs[WARM_UP:]).median(dim=0).values.tolist()
        return Timing(self._device, *medians)

    def _milliseconds(self, head: TorchHead, image: torch.Tensor) -> float:
        start = time.perf_counter()
        head.scores(image).cpu()  # waits for the device
        return 1000 * (time.perf_counter() - start)
