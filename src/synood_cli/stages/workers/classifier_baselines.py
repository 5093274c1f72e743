"""The baselines of an evaluation on a classifier's features: those of pytorch-ood, and those of our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from synood_cli.errors import ModelError, SynoodError
from synood_cli.evaluated_methods import FITTED, Baseline, BaselineSettings
from synood_cli.method.losses import GeneralisedEntropy
from synood_cli.method.relative_mahalanobis import RelativeMahalanobis
from synood_cli.method.virtual_logit import VirtualLogit
from synood_cli.models.protocols import LinearLayer
from synood_cli.models.pytorch_ood_baselines import PytorchOodBaselines

CHUNK = 1024
"""Images that are scored at once."""

DICE_CHUNK = 16
"""The same for DICE, which makes a (B, C, D) tensor: 262 MB for ImageNet's classes and 2048 features."""

OWN = ("GEN", "RMDS", "ViM")


class ClassifierBaselines:
    """The baselines `names` on a classifier whose last layer is `layer` and whose `logits` of pixels ODIN asks for.

    Features are (B, D); all arithmetic on them is in float64, since images with equal scores cannot be told apart: in
    single precision a softmax above 1 - 6e-8 is 1.
    """

    def __init__(
        self,
        names: Sequence[Baseline],
        layer: LinearLayer,
        logits: Callable[[Tensor], Tensor],
        settings: BaselineSettings,
    ) -> None:
        self.names = list(names)
        self._layer = LinearLayer(layer.weight.double(), layer.bias.double())
        self._settings = settings
        self._library = PytorchOodBaselines([name for name in names if name not in OWN], self._layer, logits, settings)
        self._fitted: dict[Baseline, RelativeMahalanobis | VirtualLogit] = {}

    def fit(self, features: Tensor, labels: Tensor) -> dict[Baseline, str]:
        """Fit those that need it on (N, D) features with the positions (N,) of their classes. Returns why those that
        cannot be fitted cannot: they are dropped from `names`."""
        problems: dict[Baseline, str] = {}
        features = features.double()
        classes = torch.unique(labels, return_inverse=True)[1]  # a class without images leaves no gap
        for name in [name for name in self.names if name in FITTED]:
            try:
                self._fit(name, features, classes)
            except (SynoodError, ValueError, RuntimeError) as error:
                problems[name] = f"cannot be fitted on {len(features)} images: {str(error).splitlines()[0]}"
                self.names.remove(name)
        return problems

    def score(self, name: Baseline, features: Tensor) -> Tensor:
        """(B, D) → (B,) on the CPU, float64; of any baseline but ODIN. Raises ModelError for scores that are not
        finite numbers."""
        chunks = torch.split(features, DICE_CHUNK if name == "DICE" else CHUNK)
        return _finite(name, torch.cat([self._score(name, chunk.double()).cpu() for chunk in chunks]))

    def score_pixels(self, pixels: Tensor) -> Tensor:
        """ODIN: (B, 3, h, w) in [0, 1] → (B,). Raises likewise."""
        return _finite("ODIN", self._library.score_pixels(pixels))

    def predicted(self, features: Tensor) -> Tensor:
        """The class of the largest logit: (B, D) → (B,) long, on the CPU; the lowest of equals."""
        chunks = torch.split(features, CHUNK)
        return torch.cat([self._layer.logits(chunk.double()).argmax(dim=1).cpu() for chunk in chunks])

    def _fit(self, name: Baseline, features: Tensor, classes: Tensor) -> None:
        if name == "RMDS":
            self._fitted[name] = RelativeMahalanobis.fit(features, classes)
        elif name == "ViM":
            dimension = self._settings.vim_dimension or _vim_dimension(features.shape[1])
            self._fitted[name] = VirtualLogit.fit(features, *self._layer, dimension)
        else:
            self._library.fit(name, features, classes)

    def _score(self, name: Baseline, features: Tensor) -> Tensor:
        if name == "GEN":
            return GeneralisedEntropy(temperature=1.0).score(self._layer.logits(features))
        if name in self._fitted:
            return self._fitted[name].score(features)
        return self._library.score(name, features)


def _finite(name: Any, scores: Tensor) -> Tensor:
    broken = int((~scores.isfinite()).sum())
    if broken:
        raise ModelError(f"{name} gives no finite score to {broken} of {len(scores)} images")
    return scores


def _vim_dimension(width: int) -> int:
    """Dimensions of ViM's principal space, by the rule of its public code."""
    return 1000 if width >= 2048 else 512 if width >= 768 else width // 2
