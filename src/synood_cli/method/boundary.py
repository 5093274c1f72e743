"""The boundary m_out between InD and OOD scores, and which iterate lies nearest to it."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from synood_cli.errors import SynoodError, UsageError


def threshold_at_tpr(scores: Tensor, tpr: float) -> float:
    """η = the largest score such that at least the share `tpr` of the scores is ≥ η (η of Sec. 3, m_out of Eq. 7).

    scores: (N,), higher = more InD. The k-th largest score, k = ⌈tpr · N⌉, without interpolation, so η is one of the
    scores and the share is met exactly; `tpr` is taken as the decimal number that it prints as. Raises UsageError
    for a tpr outside (0, 1], SynoodError for no scores or NaN.
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


def nearest_ood_iterate(scores: Tensor, boundary: float) -> Tensor:
    """argmin |S - m_out| over the iterates with S ≤ m_out: the one nearest the boundary on its OOD side.

    scores: (iterations, B) → (B,) long. Where no iterate is on the OOD side, the nearest of all; the first of equals.
    A NaN score is never chosen before a number.
    """
    distance = (scores - boundary).abs().nan_to_num(nan=torch.inf)
    on_ood_side = scores <= boundary
    allowed = on_ood_side | ~on_ood_side.any(dim=0)
    return distance.where(allowed, torch.inf).argmin(dim=0)
