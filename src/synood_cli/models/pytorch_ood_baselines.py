"""OOD scores of a classifier, through pytorch-ood. Higher = more in-distribution: the library's scores are negated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pytorch_ood import detector as library
from torch import Tensor, nn

from synood_cli.errors import ModelError
from synood_cli.evaluated_methods import Baseline, BaselineSettings
from synood_cli.models.protocols import LinearLayer

GRADIENTS = 16
"""Gradients of the last layer that GradNorm holds at once: 16 MB each for ImageNet's classes and 2048 features."""


class PytorchOodBaselines:
    """Baselines on a classifier whose last layer is `layer`: g(x) = W f(x) + b.

    All score the features f, (B, D) float64, but ODIN, which moves pixels along the gradient of `logits`. GradNorm
    takes the gradient of the last layer's weights, ReAct and ASH act on f, as in their papers. GEN, RMDS and ViM are
    not taken from the library: its GEN clamps probabilities at 1e-7, and its RMDS and ViM invert and decompose
    covariances in single precision, which is noise where there are fewer images than features.

    *Deviation:* ASH shapes f after the pooling (as OpenOOD does), where its paper shapes the maps before it.
    """

    def __init__(
        self,
        names: Sequence[Baseline],
        layer: LinearLayer,
        logits: Callable[[Tensor], Tensor],
        settings: BaselineSettings,
    ) -> None:
        self._layer = layer
        self._settings = settings
        self._logits = logits
        self._detectors: dict[Baseline, Any] = {name: self._build(name) for name in names if name != "KNN"}

    def fit(self, name: Baseline, features: Tensor, classes: Tensor) -> None:
        """Fit KNN, DICE or ReAct on (N, D) features with the classes (N,) of their images. Raises ValueError or
        RuntimeError, of the library, for features that it cannot be fitted on."""
        if name == "KNN":
            self._detectors["KNN"] = library.KNN(None, k=min(self._settings.knn_k, len(features)))
        detector = self._detectors[name]
        if name == "ReAct":
            detector.fit_feature_maps(_as_maps(features), classes)
        else:
            detector.fit_features(features.cpu() if name == "KNN" else features, classes)

    def score(self, name: Baseline, features: Tensor) -> Tensor:
        """(B, D) → (B,) of any baseline but ODIN. Raises ModelError for ASH that would prune every feature."""
        width = features.shape[1]
        if name.startswith("ASH") and round(width * self._settings.ash_percentile) == width:
            raise ModelError(f"{name} prunes all of the classifier's {width} features")
        return -self._outlier_scores(self._detectors[name], features).detach()

    def score_pixels(self, pixels: Tensor) -> Tensor:
        """ODIN: (B, 3, h, w) in [0, 1] → (B,), on the CPU."""
        scores: Tensor = -self._detectors["ODIN"].predict(pixels).detach()
        return scores

    def _build(self, name: Baseline) -> Any:
        weight, bias = self._layer
        settings = self._settings
        makers: dict[Baseline, Callable[[], Any]] = {
            "MSP": lambda: library.MaxSoftmax(None),
            "MaxLogit": lambda: library.MaxLogit(None),
            "Energy": lambda: library.EnergyBased(None),
            "ODIN": lambda: library.ODIN(
                _DoubleLogits(self._logits), eps=settings.odin_step, temperature=settings.odin_temperature
            ),
            "GradNorm": lambda: library.GradNorm(
                _linear(self._layer), param_filter=lambda name: name == "weight", micro_batch_size=GRADIENTS
            ),
            "DICE": lambda: library.DICE(None, weight, bias, settings.dice_sparsity),
            "ReAct": lambda: library.ReAct(nn.Identity(), self._from_maps, percentile=settings.react_percentile),
            "ASH-S": lambda: library.ASH(nn.Identity(), self._from_maps, "ash-s", settings.ash_percentile),
            "ASH-B": lambda: library.ASH(nn.Identity(), self._from_maps, "ash-b", settings.ash_percentile),
        }
        return makers[name]()

    def _outlier_scores(self, detector: Any, features: Tensor) -> Tensor:
        if isinstance(detector, library.ReAct | library.ASH):
            scores = detector.predict_feature_maps(_as_maps(features))
        elif isinstance(detector, library.GradNorm):
            scores = detector.predict(features)
        elif isinstance(detector, library.KNN | library.DICE):
            scores = detector.predict_features(features)
        else:
            scores = detector.predict_logits(self._layer.logits(features))
        outlier_scores: Tensor = scores
        return outlier_scores

    def _from_maps(self, maps: Tensor) -> Tensor:
        return self._layer.logits(maps.flatten(1))


class _DoubleLogits(nn.Module):
    """Logits of pixels as the module that the library wants, in float64 on the CPU: at ODIN's temperature of 1000 the
    softmax of all images is nearly uniform, and equal in single precision."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, pixels: Tensor) -> Tensor:
        return self._function(pixels).cpu().double()


def _linear(layer: LinearLayer) -> nn.Linear:
    classes, width = layer.weight.shape
    module = nn.Linear(width, classes, device="meta")
    module.weight, module.bias = nn.Parameter(layer.weight), nn.Parameter(layer.bias)
    return module


def _as_maps(features: Tensor) -> Tensor:
    """(B, D) as feature maps of one pixel."""
    return features[:, :, None, None]
