"""Fits the baselines on a classifier, and scores embedded images with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from synood_cli.config import Execution
from synood_cli.errors import ModelError
from synood_cli.evaluated_methods import Baseline, BaselineSettings
from synood_cli.models.build import build_classifier
from synood_cli.models.loading import choose_device, precise_device
from synood_cli.models.protocols import LinearLayer
from synood_cli.records import ModelSpec, Precision
from synood_cli.stages.baselines import BaselineJob, BaselineScores, Fitting
from synood_cli.stages.workers.classifier_baselines import ClassifierBaselines
from synood_cli.stages.workers.embed import ImageReader
from synood_cli.stages.workers.synthesize import InDistributionClassifier, class_columns


class BaselineWorker:
    """Holds g, and the baselines as they were fitted."""

    def __init__(
        self,
        spec: ModelSpec,
        execution: Execution,
        precision: Precision,
        names: Sequence[Baseline],
        settings: BaselineSettings,
        classes: Sequence[str],
        fitting: Fitting | None,
    ) -> None:
        self._device = choose_device(execution.device)
        classifier = build_classifier(spec, self._device, precision)
        self._reader = ImageReader(classifier, self._device, execution)
        columns, layer = class_columns(classifier, classes), classifier.last_layer()
        if columns is not None:
            layer = LinearLayer(layer.weight[columns], layer.bias[columns])
        self._precise = precise_device(self._device)
        layer = LinearLayer(*(tensor.to(self._precise) for tensor in layer))
        logits = InDistributionClassifier(classifier, classes).logits
        self._baselines = ClassifierBaselines(names, layer, logits, settings)
        self._problems: dict[Baseline, str] = {}
        if fitting is not None:
            features = torch.tensor(fitting.images.load(), device=self._precise)
            self._problems = self._baselines.fit(features, torch.tensor(fitting.labels, device=self._precise))

    def __call__(self, job: BaselineJob) -> BaselineScores:
        """What every baseline that could be fitted says of the images."""
        features = torch.tensor(job.images.load(), device=self._precise)
        scores, problems = {}, dict(self._problems)
        for name in self._baselines.names:
            try:
                found = self._odin(job) if name == "ODIN" else self._baselines.score(name, features)
                scores[name] = found.numpy()
            except ModelError as error:
                problems[name] = error.message
        return BaselineScores(scores, problems, self._baselines.predicted(features).numpy().astype(np.int64))

    def _odin(self, job: BaselineJob) -> Tensor:
        scores = [torch.empty(0, dtype=torch.float64)]
        for prepared, reasons, _ in self._reader.batches(job.places):
            if any(reasons):
                raise ModelError("an image that could be read before cannot be read again")
            if len(prepared):
                scores.append(self._baselines.score_pixels(prepared.to(self._device)))
        return torch.cat(scores)
