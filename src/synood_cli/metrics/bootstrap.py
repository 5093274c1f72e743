"""How far a metric would move with another draw of test images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from synood_cli.errors import UsageError
from synood_cli.metrics.detection import Metric


class Interval(NamedTuple):
    """Ends of a confidence interval."""

    low: float
    high: float


def bootstrap_intervals(
    ind: ArrayLike, ood: ArrayLike, metrics: Mapping[str, Metric], samples: int, seed: int, level: float
) -> dict[str, Interval]:
    """The (1 - level)/2 and (1 + level)/2 percentiles of each metric over `samples` draws with replacement.

    InD and OOD images are drawn apart, each as many as there are; all metrics see the same draws. metrics: name →
    f(ind, ood), such as `auroc` or a partial of `fpr_at_tpr`. Cost: four metrics on 50,000 + 50,000 scores take some
    40 ms per draw. Raises UsageError for samples < 1 or a level outside (0, 1), and what the metrics raise.
    """
    if samples < 1:
        raise UsageError(f"a bootstrap needs at least one sample, not {samples}")
    if not 0 < level < 1:
        raise UsageError(f"the level of an interval lies in (0, 1), not at {level}")
    ind_scores, ood_scores = (np.asarray(scores, dtype=np.float64).ravel() for scores in (ind, ood))
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in metrics}
    for _ in range(samples):
        ind_draw = ind_scores[generator.integers(0, max(ind_scores.size, 1), ind_scores.size)]
        ood_draw = ood_scores[generator.integers(0, max(ood_scores.size, 1), ood_scores.size)]
        for name, metric in metrics.items():
            drawn[name].append(metric(ind_draw, ood_draw))
    tails = [(1 - level) / 2, (1 + level) / 2]
    return {name: Interval(*map(float, np.quantile(values, tails))) for name, values in drawn.items()}
