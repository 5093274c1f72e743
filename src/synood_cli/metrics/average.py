"""Metrics over several OOD sets: their mean, and how far each and the mean would move with other test images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from synood_cli.errors import SynoodError, UsageError
from synood_cli.metrics.bootstrap import Interval
from synood_cli.metrics.detection import Metric


class SetIntervals(NamedTuple):
    """Intervals by metric: of each OOD set by name, and of the mean over the sets."""

    by_set: dict[str, dict[str, Interval]]
    average: dict[str, Interval]


def bootstrap_sets(
    ind: ArrayLike, ood: Mapping[str, ArrayLike], metrics: Mapping[str, Metric], samples: int, seed: int, level: float
) -> SetIntervals:
    """The (1 - level)/2 and (1 + level)/2 percentiles of each metric on each OOD set, and of its mean over the sets,
    over `samples` draws with replacement.

    A draw takes the InD images once for all sets, since every set is compared with the same ones, and each OOD set
    apart. metrics: name → f(ind, ood). Raises UsageError for samples < 1 or a level outside (0, 1), SynoodError for
    no OOD sets, and what the metrics raise.
    """
    if samples < 1:
        raise UsageError(f"a bootstrap needs at least one sample, not {samples}")
    if not 0 < level < 1:
        raise UsageError(f"the level of an interval lies in (0, 1), not at {level}")
    if not ood:
        raise SynoodError("there are no OOD sets to average over")
    ind_scores = np.asarray(ind, dtype=np.float64).ravel()
    sets = {name: np.asarray(scores, dtype=np.float64).ravel() for name, scores in ood.items()}
    generator = np.random.default_rng(seed)
    drawn = np.empty((samples, len(sets), len(metrics)))
    for sample in range(samples):
        ind_draw = generator.choice(ind_scores, ind_scores.size)
        for place, scores in enumerate(sets.values()):
            ood_draw = generator.choice(scores, scores.size)
            drawn[sample, place] = [metric(ind_draw, ood_draw) for metric in metrics.values()]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    mean_low, mean_high = np.quantile(drawn.mean(axis=1), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return SetIntervals(
        {name: _intervals(metrics, low[place], high[place]) for place, name in enumerate(sets)},
        _intervals(metrics, mean_low, mean_high),
    )


def _intervals(metrics: Mapping[str, Metric], low: ArrayLike, high: ArrayLike) -> dict[str, Interval]:
    ends = zip(metrics, np.asarray(low).tolist(), np.asarray(high).tolist(), strict=True)
    return {name: Interval(bottom, top) for name, bottom, top in ends}
