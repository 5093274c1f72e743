"""How well scores tell in-distribution from OOD images. Scores are one-dimensional, higher = more in-distribution.

A metric takes (scores of InD images, scores of OOD images) and gives a number in [0, 1]. Equal scores are never split:
a threshold that one of them passes, all of them pass. Raises SynoodError for no scores or NaN; infinities are ordered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synood_cli.errors import SynoodError, UsageError

Scores = NDArray[np.float64]
Metric = Callable[[Scores, Scores], float]


def auroc(ind: ArrayLike, ood: ArrayLike) -> float:
    """P(S_ind > S_ood) + P(S_ind = S_ood) / 2: the area under the ROC curve; 1 is perfect, 0.5 is chance."""
    ind_scores, ood_scores = _sorted(ind, "in-distribution"), _sorted(ood, "OOD")
    below = np.searchsorted(ood_scores, ind_scores, side="left").sum()
    not_above = np.searchsorted(ood_scores, ind_scores, side="right").sum()
    return float((below + not_above) / 2 / (len(ind_scores) * len(ood_scores)))


def fpr_at_tpr(ind: ArrayLike, ood: ArrayLike, tpr: float, positive: Literal["ind", "ood"]) -> float:
    """The share of negatives taken for positives at the strictest threshold that catches the share `tpr` of the
    positives; 0 is perfect. FPR95 at tpr = 0.95.

    positive "ind": the share of OOD images with S ≥ η, η = the largest threshold that at least `tpr` of the InD images
    reach (MCM, NegLabel, CSP, SynOOD). positive "ood": the share of InD images with S ≤ η, η = the smallest threshold
    that at least `tpr` of the OOD images do not exceed (OpenOOD v1.5, AdaNeg). η is one of the positives' scores,
    never interpolated; a negative equal to η counts as false positive. Raises UsageError for a tpr outside (0, 1].
    """
    if not 0 < tpr <= 1:
        raise UsageError(f"a true positive rate lies in (0, 1], not at {tpr}")
    ind_scores, ood_scores = _sorted(ind, "in-distribution"), _sorted(ood, "OOD")
    if positive == "ind":
        positives, negatives = ind_scores, ood_scores
    else:
        positives, negatives = -ood_scores[::-1], -ind_scores[::-1]
    # In binary floating point 0.55 * 100 exceeds 55, which would ask for one positive too many.
    count = math.ceil(Fraction(str(float(tpr))) * len(positives))
    return float(_at_least(negatives, positives[-count]) / len(negatives))


def aupr_in(ind: ArrayLike, ood: ArrayLike) -> float:
    """Average precision with InD as positive: Σ_n (R_n - R_{n-1}) P_n over thresholds S ≥ η; 1 is perfect."""
    return _average_precision(_sorted(ind, "in-distribution"), _sorted(ood, "OOD"))


def aupr_out(ind: ArrayLike, ood: ArrayLike) -> float:
    """Average precision with OOD as positive: Σ_n (R_n - R_{n-1}) P_n over thresholds S ≤ η; 1 is perfect."""
    return _average_precision(-_sorted(ood, "OOD")[::-1], -_sorted(ind, "in-distribution")[::-1])


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """The share of images whose predicted class is their label: top-1 accuracy on InD images."""
    guesses, truth = np.asarray(predicted), np.asarray(labels)
    if guesses.shape != truth.shape or guesses.size == 0:
        raise SynoodError(f"accuracy needs one prediction per label: {guesses.size} and {truth.size}")
    return float((guesses == truth).mean())


def _sorted(scores: ArrayLike, kind: str) -> Scores:
    values = np.asarray(scores, dtype=np.float64).ravel()
    if values.size == 0:
        raise SynoodError(f"there are no scores of {kind} images")
    broken = int(np.isnan(values).sum())
    if broken:
        raise SynoodError(f"{broken} of {values.size} scores of {kind} images are not a number")
    return np.sort(values)


def _at_least(ascending: Scores, thresholds: Scores | np.float64) -> NDArray[np.intp]:
    """How many of the ascending scores are ≥ each threshold."""
    reached: Any = len(ascending) - np.searchsorted(ascending, thresholds, side="left")
    return np.asarray(reached)


def _average_precision(positives: Scores, negatives: Scores) -> float:
    """Each positive adds 1/P to the recall at its own score, so the sum is the mean of the precisions there."""
    true, false = _at_least(positives, positives), _at_least(negatives, positives)
    return float((true / (true + false)).mean())
