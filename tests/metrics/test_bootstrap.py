from functools import partial

import numpy as np
import pytest

from synood_cli.errors import SynoodError, UsageError
from synood_cli.metrics.bootstrap import Interval, SetScores, paired_draws, percentile_interval
from synood_cli.metrics.detection import auroc, fpr_at_tpr

METRICS = {"auroc": auroc, "fpr95": partial(fpr_at_tpr, tpr=0.95, positive="ind")}


def bootstrap_sets(ind, ood, metrics, samples, seed, level):
    """The intervals of one method: by OOD set and metric, and of the mean over the sets by metric."""
    draws = paired_draws({name: SetScores(ind, scores) for name, scores in ood.items()}, metrics, samples, seed)
    by_set = {
        name: {metric: percentile_interval(draws[:, 0, place, k], level) for k, metric in enumerate(metrics)}
        for place, name in enumerate(ood)
    }
    mean = draws[:, 0].mean(axis=1)
    return by_set, {metric: percentile_interval(mean[:, k], level) for k, metric in enumerate(metrics)}


def bootstrap_intervals(ind, ood, metrics, samples, seed, level):
    """Of a single OOD set."""
    return bootstrap_sets(ind, {"ood": ood}, metrics, samples, seed, level)[0]["ood"]


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


def difference(ind, ood):
    return float(ind.mean() - ood.mean())


def test_intervals_of_a_mean_match_its_standard_error():
    """With 95% of a normal distribution within 1.96 deviations; the InD part of the error does not average out."""
    random = np.random.default_rng(0)
    ind = random.standard_normal(400)
    ood = {"a": random.standard_normal(100), "b": 3 * random.standard_normal(100)}
    by_set, average = bootstrap_sets(ind, ood, {"difference": difference}, samples=4000, seed=1, level=0.95)
    variances = {name: values.var() / 100 for name, values in ood.items()}
    shared = ind.var() / 400
    for name, values in ood.items():
        half = 1.96 * np.sqrt(shared + variances[name])
        expected = difference(ind, values) + half * np.array([-1, 1])
        np.testing.assert_allclose(by_set[name]["difference"], expected, atol=0.08 * half)
    half = 1.96 * np.sqrt(shared + sum(variances.values()) / 4)
    mean = np.mean([difference(ind, values) for values in ood.values()])
    np.testing.assert_allclose(average["difference"], mean + half * np.array([-1, 1]), atol=0.08 * half)


def test_the_ind_draw_is_shared_by_the_sets():
    """Two equal constant sets: whatever is drawn, both see the same InD images, so the mean moves as each does."""
    ind = np.random.default_rng(0).standard_normal(30)
    ood = {"a": np.zeros(5), "b": np.zeros(9)}
    by_set, average = bootstrap_sets(ind, ood, {"auroc": auroc}, samples=50, seed=2, level=0.9)
    assert by_set["a"] == by_set["b"] == {"auroc": average["auroc"]}
    assert average["auroc"].low < average["auroc"].high


def test_the_seed_decides():
    scores = np.random.default_rng(0).standard_normal((2, 40))
    results = [
        bootstrap_sets(scores[0], {"a": scores[1]}, {"auroc": auroc}, samples=20, seed=seed, level=0.95)
        for seed in (1, 1, 2)
    ]
    assert results[0] == results[1] != results[2]


def test_no_ood_sets_are_refused():
    with pytest.raises(SynoodError, match="no OOD sets"):
        bootstrap_sets([1.0], {}, {"auroc": auroc}, samples=1, seed=0, level=0.95)


def two_methods(noise):
    """A method, and another whose scores are the same but for `noise` and a shift between InD and OOD of 0.1."""
    generator = np.random.default_rng(0)
    ind, ood = generator.normal(1, 1, 300), generator.normal(0, 1, 300)
    better = ind + 0.1 + noise * generator.normal(0, 1, 300), ood + noise * generator.normal(0, 1, 300)
    return SetScores(np.stack([ind, better[0]]), np.stack([ood, better[1]]))


def test_all_methods_are_drawn_the_same_images():
    scores = np.arange(50.0)
    sets = {"a": SetScores(np.stack([scores, 2 * scores]), np.stack([scores, 2 * scores]))}
    draws = paired_draws(sets, {"mean": lambda ind, ood: float(ind.mean() + 100 * ood.mean())}, 30, seed=3)
    assert draws.shape == (30, 2, 1, 1)
    np.testing.assert_allclose(draws[:, 1], 2 * draws[:, 0])


def test_a_paired_difference_is_seen_where_apart_intervals_overlap():
    draws = paired_draws({"a": two_methods(noise=0.02)}, {"auroc": auroc}, 300, seed=0)[:, :, 0, 0]
    first, second = (percentile_interval(draws[:, method], 0.95) for method in (0, 1))
    assert first.high > second.low
    difference = percentile_interval(draws[:, 1] - draws[:, 0], 0.95)
    assert difference.excludes_zero
    assert difference.low > 0
    apart = percentile_interval(draws[:, 1] - np.roll(draws[:, 0], 1), 0.95)  # other images for each
    assert apart.high - apart.low > 5 * (difference.high - difference.low)
    assert not apart.excludes_zero


def test_a_paired_difference_of_means_matches_the_paired_t_interval():
    """The standard error of a mean difference over the same images is that of the differences."""
    sets = two_methods(noise=0.5)
    draws = paired_draws({"a": sets}, {"mean": lambda ind, ood: float(ind.mean())}, 4000, seed=1)[:, :, 0, 0]
    found = percentile_interval(draws[:, 1] - draws[:, 0], 0.95)
    each = sets.ind[1] - sets.ind[0]
    half = 1.96 * each.std() / np.sqrt(len(each))
    np.testing.assert_allclose(found, each.mean() + half * np.array([-1, 1]), atol=0.08 * half)


def test_equal_methods_do_not_differ():
    scores = np.tile(np.random.default_rng(1).normal(0, 1, 40), (2, 1))
    draws = paired_draws({"a": SetScores(scores, scores - 1)}, METRICS, 20, seed=0)
    assert percentile_interval(draws[:, 1, 0, 0] - draws[:, 0, 0, 0], 0.95) == Interval(0.0, 0.0)
    assert not Interval(0.0, 0.0).excludes_zero
    assert Interval(-0.2, -0.1).excludes_zero


def test_an_adapting_method_may_score_the_ind_images_differently_in_each_set():
    sets = {"a": SetScores([1.0, 1.0], [0.0, 0.0]), "b": SetScores([0.0, 0.0], [1.0, 1.0])}
    draws = paired_draws(sets, {"auroc": auroc}, 5, seed=0)
    assert draws[:, 0, :, 0].tolist() == [[1.0, 0.0]] * 5


def test_sets_with_other_numbers_of_ind_images_are_refused():
    with pytest.raises(SynoodError, match="different numbers"):
        paired_draws({"a": SetScores([1.0, 1.0], [0.0]), "b": SetScores([1.0], [0.0])}, METRICS, 5, seed=0)


@pytest.mark.parametrize(("ind", "ood"), [([1.0], [0.0, 0.5]), ([1.0, 2.0], [0.0]), ([1.0], [0.0])])
def test_a_single_image_has_no_interval(ind, ood):
    """It is drawn every time, so that every draw says the same: that is no certainty about another image."""
    draws = paired_draws({"a": SetScores(ind, ood)}, METRICS, 5, seed=0)
    assert np.isnan(draws).all()
    assert percentile_interval(draws[:, 0, 0, 0], 0.95) is None


def test_a_set_of_a_single_image_takes_the_interval_of_the_average_only():
    sets = {"a": SetScores([1.0, 2.0], [0.0, 1.5]), "b": SetScores([1.0, 2.0], [0.0])}
    draws = paired_draws(sets, {"auroc": auroc}, 50, seed=0)[:, 0, :, 0]
    assert percentile_interval(draws[:, 0], 0.95) is not None
    assert percentile_interval(draws.mean(axis=1), 0.95) is None
