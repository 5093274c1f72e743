"""ViM (Wang et al., "ViM: Out-Of-Distribution with Virtual-logit Matching", CVPR 2022): the energy of the logits less a
logit for what lies outside the principal space of the features. Higher = more in-distribution."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from synood_cli.errors import SynoodError

NOTHING = 1e-6
"""A mean residual below this fraction of the mean norm is rounding of the features, which are single precision."""


class VirtualLogit(NamedTuple):
    """S(x) = log Σ_c exp g_c - α ‖R Rᵀ (f - u)‖ with g = W f + b and the origin u = -W⁺ b. Float64.

    R spans what the `dimension` principal directions of the fitted features leave; α scales the residual's norm to
    the largest logit, both in the mean over the fitted images.
    """

    weight: Tensor
    """W, (C, D)"""
    bias: Tensor
    """b, (C,)"""
    origin: Tensor
    """u, (D,)"""
    residual: Tensor
    """R, (D, D - dimension), orthonormal columns"""
    alpha: float

    @classmethod
    def fit(cls, features: Tensor, weight: Tensor, bias: Tensor, dimension: int) -> VirtualLogit:
        """From (N, D) features. Raises SynoodError where the fitted features have no residual, from which α would
        follow: for a `dimension` not below D, for N ≤ `dimension`, and for features that span no more than it."""
        features, weight, bias = features.double(), weight.double(), bias.double()
        count, width = features.shape
        if dimension >= width:
            raise SynoodError(f"ViM's {dimension} principal dimensions leave nothing of {width} features")
        if count <= dimension:
            raise SynoodError(f"ViM's {dimension} principal dimensions need more images than that, not {count}")
        origin = -torch.linalg.pinv(weight) @ bias
        centred = features - origin
        vectors = torch.linalg.eigh(centred.T @ centred / count).eigenvectors  # by ascending eigenvalue
        residual = vectors[:, : width - dimension].contiguous()
        norm = float((centred @ residual).norm(dim=1).mean())
        if norm <= NOTHING * float(centred.norm(dim=1).mean()):
            raise SynoodError(f"ViM's {dimension} principal dimensions hold all that the features of these images span")
        largest = float((features @ weight.T + bias).amax(dim=1).mean())
        return cls(weight, bias, origin, residual, largest / norm)

    def score(self, features: Tensor) -> Tensor:
        """(B, D) → (B,), unbounded."""
        features = features.double()
        energy = torch.logsumexp(features @ self.weight.T + self.bias, dim=1)
        residual: Tensor = ((features - self.origin) @ self.residual).norm(dim=1)
        return energy - self.alpha * residual
