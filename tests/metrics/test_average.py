from __future__ import annotations

import numpy as np
import pytest

from synood_cli.errors import SynoodError, UsageError
from synood_cli.metrics.average import bootstrap_sets
from synood_cli.metrics.detection import auroc


def difference(ind, ood):
    return float(ind.mean() - ood.mean())


def test_intervals_of_a_mean_match_its_standard_error():
    """With 95% of a normal distribution within 1.96 deviations; the InD part of the error does not average out."""
    random = np.random.default_rng(0)
    ind = random.standard_normal(400)
    ood = {"a": random.standard_normal(100), "b": 3 * random.standard_normal(100)}
    found = bootstrap_sets(ind, ood, {"difference": difference}, samples=4000, seed=1, level=0.95)
    variances = {name: values.var() / 100 for name, values in ood.items()}
    shared = ind.var() / 400
    for name, values in ood.items():
        half = 1.96 * np.sqrt(shared + variances[name])
        expected = difference(ind, values) + half * np.array([-1, 1])
        np.testing.assert_allclose(found.by_set[name]["difference"], expected, atol=0.08 * half)
    half = 1.96 * np.sqrt(shared + sum(variances.values()) / 4)
    mean = np.mean([difference(ind, values) for values in ood.values()])
    np.testing.assert_allclose(found.average["difference"], mean + half * np.array([-1, 1]), atol=0.08 * half)


def test_the_ind_draw_is_shared_by_the_sets():
    """Two equal constant sets: whatever is drawn, both see the same InD images, so the mean moves as each does."""
    ind = np.random.default_rng(0).standard_normal(30)
    ood = {"a": np.zeros(5), "b": np.zeros(9)}
    found = bootstrap_sets(ind, ood, {"auroc": auroc}, samples=50, seed=2, level=0.9)
    assert found.by_set["a"] == found.by_set["b"] == {"auroc": found.average["auroc"]}
    assert found.average["auroc"].low < found.average["auroc"].high


def test_the_seed_decides():
    scores = np.random.default_rng(0).standard_normal((2, 40))
    results = [
        bootstrap_sets(scores[0], {"a": scores[1]}, {"auroc": auroc}, samples=20, seed=seed, level=0.95)
        for seed in (1, 1, 2)
    ]
    assert results[0] == results[1] != results[2]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="at least one sample"):
        bootstrap_sets([1.0], {"a": [0.0]}, {"auroc": auroc}, samples=0, seed=0, level=0.95)
    with pytest.raises(UsageError, match="the level of an interval"):
        bootstrap_sets([1.0], {"a": [0.0]}, {"auroc": auroc}, samples=1, seed=0, level=1.0)
    with pytest.raises(SynoodError, match="no OOD sets"):
        bootstrap_sets([1.0], {}, {"auroc": auroc}, samples=1, seed=0, level=0.95)
