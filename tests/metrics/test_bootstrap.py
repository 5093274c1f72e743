from functools import partial

import numpy as np
import pytest

from synood_cli.errors import SynoodError, UsageError
from synood_cli.metrics.bootstrap import bootstrap_intervals
from synood_cli.metrics.detection import auroc, fpr_at_tpr

METRICS = {"auroc": auroc, "fpr95": partial(fpr_at_tpr, tpr=0.95, positive="ind")}


def scores():
    generator = np.random.default_rng(3)
    return generator.normal(1, 1, 400), generator.normal(0, 1, 200)


def test_intervals_hold_the_estimate_and_are_reproduced_by_the_seed():
    ind, ood = scores()
    intervals = bootstrap_intervals(ind, ood, METRICS, 200, 0, 0.95)
    assert list(intervals) == ["auroc", "fpr95"]
    for name, metric in METRICS.items():
        assert intervals[name].low < metric(ind, ood) < intervals[name].high
    assert bootstrap_intervals(ind, ood, METRICS, 200, 0, 0.95) == intervals
    assert bootstrap_intervals(ind, ood, METRICS, 200, 1, 0.95) != intervals


def test_the_width_is_that_of_the_normal_approximation():
    ind, ood = scores()
    # Hanley & McNeil 1982
    area = auroc(ind, ood)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (len(ind) - 1) * (q1 - area**2) + (len(ood) - 1) * (q2 - area**2)) / (
        len(ind) * len(ood)
    )
    low, high = bootstrap_intervals(ind, ood, {"auroc": auroc}, 500, 0, 0.95)["auroc"]
    assert high - low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.2)


def test_a_wider_level_is_a_wider_interval_and_the_ends_are_percentiles():
    ind, ood = scores()
    narrow = bootstrap_intervals(ind, ood, METRICS, 100, 0, 0.5)["auroc"]
    wide = bootstrap_intervals(ind, ood, METRICS, 100, 0, 0.95)["auroc"]
    assert wide.low < narrow.low < narrow.high < wide.high
    drawn = []
    bootstrap_intervals(ind, ood, {"auroc": lambda i, o: drawn.append(auroc(i, o)) or drawn[-1]}, 100, 0, 0.5)
    assert narrow == pytest.approx(tuple(np.quantile(drawn, [0.25, 0.75])))


def test_ind_and_ood_images_are_drawn_apart_with_replacement():
    sizes, distinct = set(), []

    def look(ind, ood):
        sizes.add((len(ind), len(ood)))
        distinct.append(len(np.unique(ind)) / len(ind))
        assert ind.min() >= 1000 > ood.max()
        return 0.0

    bootstrap_intervals(np.arange(1000.0, 2000.0), np.arange(300.0), {"look": look}, 20, 0, 0.95)
    assert sizes == {(1000, 300)}
    assert np.mean(distinct) == pytest.approx(1 - np.exp(-1), abs=0.01)


def test_constant_scores_have_an_interval_of_no_width():
    assert bootstrap_intervals(np.ones(5), np.ones(4), {"auroc": auroc}, 10, 0, 0.95)["auroc"] == (0.5, 0.5)


def test_what_means_nothing_is_refused():
    with pytest.raises(UsageError, match="at least one sample"):
        bootstrap_intervals([1.0], [0.0], METRICS, 0, 0, 0.95)
    with pytest.raises(UsageError, match="level"):
        bootstrap_intervals([1.0], [0.0], METRICS, 5, 0, 95)
    with pytest.raises(SynoodError, match="no scores"):
        bootstrap_intervals([], [0.0], METRICS, 5, 0, 0.95)
    with pytest.raises(SynoodError, match="not a number"):
        bootstrap_intervals([np.nan], [0.0], METRICS, 5, 0, 0.95)
