"""RMDS (Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection", 2021): how much nearer an
image's features are to a class than to all classes taken together. Higher = more in-distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from synood_cli.errors import SynoodError

CHUNK = 4096
"""Images whose features are centred at once."""

RTOL = 1e-6
"""Eigenvalues of a covariance below this fraction of its largest one count as zero."""
NOTHING = 1e-12
"""A scatter within the classes below this fraction of the whole scatter is rounding."""


class RelativeMahalanobis(NamedTuple):
    """S(x) = -min_c [d_c(x) - d_0(x)], d_c(x) = (f - μ_c)ᵀ Σ⁺ (f - μ_c), d_0 likewise with the mean μ_0 and the
    covariance Σ_0 of all features. Float64.

    Fewer images than features leave both covariances singular, where an inverse is noise; Σ⁺ is the pseudoinverse,
    which measures distances within the span of the fitted features, as OpenOOD's RMDS does. Neither the order of the
    images nor that of the classes matters.
    """

    class_means: Tensor
    """(C, D)"""
    precision: Tensor
    """Σ⁺, (D, D)"""
    mean: Tensor
    """(D,)"""
    whole_precision: Tensor
    """Σ_0⁺, (D, D)"""

    @classmethod
    def fit(cls, features: Tensor, classes: Tensor) -> RelativeMahalanobis:
        """From (N, D) features and the classes (N,) of their images, numbered without gaps.

        Raises SynoodError where the score has no meaning: for a single class, whose distance is d_0 itself, and where
        no class has two different images, so that there is no spread within classes.
        """
        features = features.double()
        count = int(classes.max()) + 1
        if count < 2:
            raise SynoodError("RMDS compares classes, and there is one class only")
        sizes = torch.bincount(classes, minlength=count).to(features.dtype)
        sums = features.new_zeros(count, features.shape[1]).index_add_(0, classes, features)
        means, mean = sums / sizes[:, None], features.mean(dim=0)
        within = _covariance(features, lambda rows: means[classes[rows]])
        whole = _covariance(features, lambda rows: mean)  # noqa: ARG005 - one centre for all rows
        if float(within.trace()) <= NOTHING * float(whole.trace()):
            raise SynoodError("RMDS needs classes with several different images, and no class has two")
        return cls(means, _pseudoinverse(within), mean, _pseudoinverse(whole))

    def score(self, features: Tensor) -> Tensor:
        """(B, D) → (B,), unbounded."""
        features = features.double()
        background = _squared(features - self.mean, self.whole_precision)
        nearest = torch.full_like(background, torch.inf)
        for class_mean in self.class_means:
            nearest = torch.minimum(nearest, _squared(features - class_mean, self.precision))
        return background - nearest


def _covariance(features: Tensor, centre: Callable[[slice], Tensor]) -> Tensor:
    """The covariance of (N, D) features about the `centre` of each row, by chunks: (D, D)."""
    total = features.new_zeros(features.shape[1], features.shape[1])
    for start in range(0, len(features), CHUNK):
        rows = slice(start, start + CHUNK)
        centred = features[rows] - centre(rows)
        total += centred.T @ centred
    return total / len(features)


def _pseudoinverse(covariance: Tensor) -> Tensor:
    inverse: Tensor = torch.linalg.pinv(covariance, hermitian=True, rtol=RTOL)
    return inverse


def _squared(centred: Tensor, precision: Tensor) -> Tensor:
    """xᵀ P x: (B, D) → (B,)."""
    return (centred @ precision * centred).sum(dim=1)
