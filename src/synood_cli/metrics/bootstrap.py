"""How far metrics, and the differences between methods, would move with another draw of test images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synood_cli.errors import SynoodError, UsageError
from synood_cli.metrics.detection import Metric

Draws = NDArray[np.float64]
"""(samples, methods, OOD sets, metrics): the value of each metric in each draw."""


class Interval(NamedTuple):
    """Ends of a confidence interval."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside: of a difference, that it is not chance."""
        return self.low > 0 or self.high < 0


class SetScores(NamedTuple):
    """Scores of M methods on the same images: (M, n) of the InD images, and (M, m) of the OOD images of one set.

    The InD images are the same in every set; a method that adapts to the set scores them differently in each.
    """

    ind: NDArray[np.float64]
    ood: NDArray[np.float64]


def paired_draws(sets: Mapping[str, SetScores], metrics: Mapping[str, Metric], samples: int, seed: int) -> Draws:
    """Each metric of each method on each OOD set, over `samples` draws of images with replacement.

    A draw takes the InD images once for all sets and each OOD set apart, and takes the same images for all methods:
    so differences between methods, and means over sets, may be formed draw by draw. A single image on either side is
    always drawn again, which says nothing about another one: the values of such a set are NaN. metrics: name →
    f(ind, ood), such as `auroc` or a partial of `fpr_at_tpr`. Cost: two metrics of a method on 50,000 + 50,000 scores
    take some 20 ms per draw. Raises UsageError for samples < 1, SynoodError for no OOD sets or InD images that differ
    in number between sets, and what the metrics raise.
    """
    if samples < 1:
        raise UsageError(f"a bootstrap needs at least one sample, not {samples}")
    if not sets:
        raise SynoodError("there are no OOD sets to average over")
    scores = [tuple(np.atleast_2d(np.asarray(part, dtype=np.float64)) for part in pair) for pair in sets.values()]
    count = scores[0][0].shape[1]
    if any(ind.shape[1] != count for ind, _ in scores):
        raise SynoodError("the OOD sets are compared with different numbers of in-distribution images")
    methods = len(scores[0][0])
    generator = np.random.default_rng(seed)
    alone = [place for place, pair in enumerate(scores) if 1 in (pair[0].shape[1], pair[1].shape[1])]
    drawn = np.empty((samples, methods, len(scores), len(metrics)))
    for sample in range(samples):
        ind_draw = _draw(count, generator)
        for place, (ind, ood) in enumerate(scores):
            ood_draw = _draw(ood.shape[1], generator)
            for method in range(methods):
                pair = ind[method, ind_draw], ood[method, ood_draw]
                drawn[sample, method, place] = [metric(*pair) for metric in metrics.values()]
    drawn[:, :, alone] = np.nan
    return drawn


def percentile_interval(values: ArrayLike, level: float) -> Interval | None:
    """The (1 - level)/2 and (1 + level)/2 percentiles of the values; None where a value is NaN. Raises UsageError for a
    level not in (0, 1)."""
    if not 0 < level < 1:
        raise UsageError(f"the level of an interval lies in (0, 1), not at {level}")
    if np.isnan(values).any():
        return None
    low, high = np.quantile(np.asarray(values), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _draw(count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return generator.integers(0, count, count) if count else np.empty(0, np.int64)  # the metric says what is missing
