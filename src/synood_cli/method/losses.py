"""OOD scores of the classifier g, and the losses that bring an image to their boundary (Eq. 7).

Logits are (B, C): B images, C in-distribution classes. A score is higher for images that look more in-distribution.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


def energy_score(logits: Tensor, temperature: float) -> Tensor:
    """S_E = τ · logsumexp(g / τ), the negative free energy: (B, C) → (B,), unbounded, higher = more InD."""
    return temperature * torch.logsumexp(logits / temperature, dim=1)


@dataclass(frozen=True)
class OodLoss(ABC):
    """A score of g and the loss that Eq. 7 makes of it."""

    temperature: float
    """τ of the energy score; the other choices read the logits as they are."""

    @abstractmethod
    def score(self, logits: Tensor) -> Tensor:
        """(B, C) → (B,), higher = more InD."""

    @abstractmethod
    def loss(self, logits: Tensor, boundary: float) -> Tensor:
        """(B, C) → (B,), one loss per image, never averaged: a sum over images keeps the step of an image
        independent of its batch. `boundary` is m_out, on the scale of `score`."""


class _Hinge(OodLoss):
    """L = max(0, m_out - S): raises the score up to the boundary and stops there.

    *Deviation:* Eq. 7 reads L = m_out - S, which has no floor and would push far into the in-distribution side.
    """

    def loss(self, logits: Tensor, boundary: float) -> Tensor:
        """max(0, boundary - score), (B,), zero with zero gradient once the boundary is reached."""
        return torch.relu(boundary - self.score(logits))


class Energy(_Hinge):
    """Eq. 7: L = max(0, m_out - S_E), S_E = τ · logsumexp(g / τ)."""

    def score(self, logits: Tensor) -> Tensor:
        """S_E, (B,), unbounded."""
        return energy_score(logits, self.temperature)


class MaxLogit(_Hinge):
    """L = max(0, m_out - max g)."""

    def score(self, logits: Tensor) -> Tensor:
        """The largest logit, (B,), unbounded."""
        return logits.amax(dim=1)


@dataclass(frozen=True)
class GeneralisedEntropy(_Hinge):
    """L = max(0, m_out - S), S = -Σ_{j in top M} p_j^γ (1 - p_j)^γ with p = softmax(g): GEN (Liu et al., CVPR 2023),
    whose constants are the defaults."""

    gamma: float = 0.1
    """γ, in (0, 1)."""
    top_classes: int = 100
    """M: how many of the most probable classes the sum runs over."""

    def score(self, logits: Tensor) -> Tensor:
        """Minus the generalised entropy, (B,), in [-M · 4^-γ, 0]; all C classes count if there are fewer than M."""
        log_p = torch.log_softmax(logits, dim=1).sort(dim=1, descending=True).values
        # 1 - p_1 from the other classes: p_1 may round to 1, where log(1 - p_1) has no gradient. No other p is above ½.
        log_not_first = torch.logsumexp(log_p[:, 1:], dim=1, keepdim=True)
        log_not_others = torch.log1p(-log_p[:, 1:].exp())
        log_not_p = torch.cat([log_not_first, log_not_others], dim=1)
        return -(self.gamma * (log_p + log_not_p)[:, : self.top_classes]).exp().sum(dim=1)


class CentredEnergy(OodLoss):
    """L = (m - (logsumexp(g) - mean(g)))², the public release's loss: pulls the score *to* the boundary from both
    sides. *Deviation:* Eq. 7 has the plain energy and only raises it."""

    def score(self, logits: Tensor) -> Tensor:
        """logsumexp(g) - mean(g), (B,), at least log C; unchanged when a constant is added to all logits."""
        return torch.logsumexp(logits, dim=1) - logits.mean(dim=1)

    def loss(self, logits: Tensor, boundary: float) -> Tensor:
        """(boundary - score)², (B,)."""
        return (boundary - self.score(logits)) ** 2


class MaximumSoftmax(OodLoss):
    """L = KL(softmax(g) ‖ uniform) = log C + Σ p log p: flattens the prediction.

    *Deviation:* it lowers the in-distribution score where Eq. 7 raises it, and knows no boundary to stop at.
    """

    def score(self, logits: Tensor) -> Tensor:
        """The largest softmax probability (MSP), (B,), in [1/C, 1]."""
        return logits.softmax(dim=1).amax(dim=1)

    def loss(self, logits: Tensor, boundary: float) -> Tensor:  # noqa: ARG002 - one signature for all losses
        """KL(softmax(g) ‖ uniform), (B,), in [0, log C]; `boundary` plays no part."""
        log_p = torch.log_softmax(logits, dim=1)
        return math.log(logits.shape[1]) + (log_p.exp() * log_p).sum(dim=1)


LOSSES: dict[str, type[OodLoss]] = {
    "energy": Energy,
    "centred-energy": CentredEnergy,
    "msp": MaximumSoftmax,
    "maxlogit": MaxLogit,
    "gen": GeneralisedEntropy,
}
