"""A head with its CLIP as a detector of pytorch-ood: for its benchmarks, and code written for its detectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pytorch_ood.api import DetectorInfo, FeaturesDetector, Paper, Task
from torch import Tensor


class SynoodDetector(FeaturesDetector):  # type: ignore[misc]  # the library is untyped
    """-S of Eq. 2: **higher = more out-of-distribution**, the library's convention.

    Its representation is F(x), CLIP's image features *before* normalisation. Nothing is to be fitted. The models stay
    on the device that they were loaded on: `to` moves none of them, and inputs of any device are taken.
    """

    requires_fit = False
    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="Synthesizing Near-Boundary OOD Samples for Out-of-Distribution Detection",
            venue="ICCV",
            year=2025,
            url="https://arxiv.org/abs/2507.10225",
        ),
        tasks=frozenset({Task.CLASSIFICATION}),
    )

    def __init__(self, encoder: Callable[[Tensor], Tensor], score: Callable[[Tensor], Tensor]) -> None:
        """encoder: prepared images (B, 3, H, W) → F(x), (B, D). score: F(x) → S, (B,)."""
        self.encoder = encoder
        self._score = score

    def predict(self, x: Tensor) -> Tensor:
        """Prepared images (B, 3, H, W) → (B,) on the CPU."""
        outlier_scores: Tensor = self.predict_features(self.encoder(x))
        return outlier_scores

    def predict_features(self, x: Tensor) -> Tensor:
        """F(x), (B, D) → (B,) on the CPU."""
        return -self._score(x)
