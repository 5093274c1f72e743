"""The boundary m_out between InD and OOD scores, and which iterate lies nearest to it."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from synood_cli.errors import SynoodError, UsageError


def score_at_tpr(scores: Tensor, tpr: float) -> float:
    """The largest score that at least the share `tpr` of the scores reaches: m_out of Eq. 7.

    scores: (N,), higher = more InD. The k-th largest score, k = ⌈tpr · N⌉, without interpolation; `tpr` is taken as the
    decimal number that it prints as. Raises UsageError for a tpr outside (0, 1], SynoodError for no scores or NaN.
    """
    if not 0 < tpr <= 1:
        raise UsageError(f"a true positive rate lies in (0, 1], not at {tpr}")
    if scores.numel() == 0:
        raise SynoodError("there are no scores to take a threshold from")
    if scores.isnan().any():
        raise SynoodError(f"{int(scores.isnan().sum())} of {scores.numel()} scores are not a number")
    # In binary floating point 0.55 * 100 exceeds 55, which would count one score too many.
    count = math.ceil(Fraction(str(float(tpr))) * scores.numel())
    return float(scores.flatten().sort(descending=True).values[count - 1])


def threshold_at_tpr(scores: Tensor, tpr: float) -> float:
    """η of Sec. 3: σ((logit(a) + logit(b)) / 2), where a is the lowest score that must pass (see `score_at_tpr`) and b
    the highest score below a. In float64.

    scores: (N,) S of Eq. 2, in [0, 1], higher = more InD. The scores ≥ η are those ≥ a: the share `tpr` or, where
    several scores equal a, more. Between two scores, because rounding moves a score by some 1e-6: at a itself it would
    decide whether that image passes. S that float64 rounds to 0 or 1 counts as the number next to it that is not.

    Where no score is below a (TPR 1, one image, all scores equal), η lies LOWEST_MARGIN below a on the logit, and at
    least 4 float64 steps; at a = 0, η is 0. Raises as `score_at_tpr`.
    """
    lowest = score_at_tpr(scores, tpr)
    lower = scores[scores < lowest]
    if lower.numel() == 0:
        return max(0.0, min(_sigmoid(_logit(lowest) - LOWEST_MARGIN), lowest * (1 - 2**-51))) if lowest > 0 else lowest
    below = float(lower.max())
    between = _sigmoid((_logit(lowest) + _logit(below)) / 2)
    return between if below < between <= lowest else lowest  # neighbours in float64 have nothing between them


LOWEST_MARGIN = 0.01
"""How far η is from the lowest score of all, on the logit: a hundred times what the cosines' float32 moves it."""


def _logit(score: float) -> float:
    inside = min(max(score, math.ulp(0.0)), 1 - 2**-53)  # the numbers next to 0 and 1
    return math.log(inside) - math.log1p(-inside)


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def nearest_ood_iterate(scores: Tensor, boundary: float) -> Tensor:
    """argmin |S - m_out| over the iterates with S ≤ m_out: the one nearest the boundary on its OOD side.

    scores: (iterations, B) → (B,) long. Where no iterate is on the OOD side, the nearest of all; the first of equals.
    A NaN score is never chosen before a number.
    """
    distance = (scores - boundary).abs().nan_to_num(nan=torch.inf)
    on_ood_side = scores <= boundary
    allowed = on_ood_side | ~on_ood_side.any(dim=0)
    return distance.where(allowed, torch.inf).argmin(dim=0)
