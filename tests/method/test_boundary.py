import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synood_cli.errors import SynoodError, UsageError
from synood_cli.method.boundary import nearest_ood_iterate, score_at_tpr, threshold_at_tpr


def test_the_score_that_keeps_the_share_is_an_order_statistic():
    scores = torch.arange(1.0, 21.0)[torch.randperm(20, generator=torch.Generator().manual_seed(1))]
    assert score_at_tpr(scores, 0.95) == 2.0  # 19 of 20 are at least 2
    assert score_at_tpr(scores, 0.951) == 1.0
    assert score_at_tpr(scores, 1.0) == 1.0
    assert score_at_tpr(scores, 0.01) == 20.0
    assert score_at_tpr(torch.arange(100.0), 0.55) == 45.0  # 0.55 * 100 is 55.00000000000001 in binary


def test_the_threshold_is_halfway_to_the_next_lower_score_on_the_logit():
    scores = torch.tensor([0.5, 0.9, 0.1, 0.9, 0.1], dtype=torch.float64)
    assert threshold_at_tpr(scores, 0.6) == pytest.approx(0.25)  # odds 1 and 1/9, so 1/3
    for tpr in (0.2, 0.4):  # both 0.9 pass or neither
        assert threshold_at_tpr(scores, tpr) == pytest.approx(0.75)  # odds 9 and 1, so 3


def test_where_no_score_is_lower_the_threshold_lies_a_little_below():
    for scores in ([0.5], [0.9, 0.5], [0.5, 0.5, 0.5]):
        assert threshold_at_tpr(torch.tensor(scores), 1.0) == pytest.approx(1 / (1 + math.exp(0.01)))
    assert threshold_at_tpr(torch.tensor([1e-20]), 1.0) == pytest.approx(1e-20 * math.exp(-0.01))
    assert threshold_at_tpr(torch.zeros(3), 0.5) == 0.0
    assert 1 - 1e-15 < threshold_at_tpr(torch.ones(3), 0.5) <= 1 - 4e-16  # four steps: a last bit may be lost


def test_saturated_scores_and_neighbours_are_parted():
    one_below = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)).item()
    assert one_below < threshold_at_tpr(torch.tensor([1.0, one_below]), 0.5) < 1
    assert 0 < threshold_at_tpr(torch.tensor([1.0, 0.0]), 0.5) < 1
    near_one = torch.tensor([1 - 1e-12, 1 - 1e-10], dtype=torch.float64)  # both are 1 in float32
    assert 1 - threshold_at_tpr(near_one, 0.5) == pytest.approx(1e-11, rel=1e-3)
    assert 0 < threshold_at_tpr(torch.tensor([2**-149, 0.0]), 0.5) <= 2**-149
    neighbours = torch.tensor([1.0, math.nextafter(1, 0)], dtype=torch.float64)
    assert threshold_at_tpr(neighbours, 0.5) == 1.0


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.integers(1, 100))
def test_the_threshold_parts_those_that_must_pass_from_the_others(values, percent):
    scores = torch.tensor(values)
    eta = threshold_at_tpr(scores, percent / 100)
    needed = math.ceil(Fraction(percent, 100) * len(values))
    lowest = sorted(values, reverse=True)[needed - 1]
    assert [value >= eta for value in values] == [value >= lowest for value in values]
    assert float(repr(eta)) == eta
    assert eta not in values or eta in (0.0, lowest)


def test_thresholds_that_mean_nothing_are_refused():
    with pytest.raises(SynoodError, match="no scores"):
        threshold_at_tpr(torch.empty(0), 0.95)
    with pytest.raises(SynoodError, match="1 of 2"):
        threshold_at_tpr(torch.tensor([1.0, torch.nan]), 0.95)
    for tpr in (0.0, 1.01, -1.0):
        with pytest.raises(UsageError, match="true positive rate"):
            threshold_at_tpr(torch.tensor([1.0]), tpr)


def test_the_iterate_nearest_the_boundary_on_its_ood_side():
    scores = torch.tensor(
        [
            # OOD side wins, none on it, exactly on it, tie: first, NaN ignored
            [1.0, 9.0, 2.0, 3.0, torch.nan],
            [4.0, 6.0, 5.0, 3.0, 9.0],
            [5.1, 7.0, 4.9, 2.0, 7.0],
        ]
    )
    assert nearest_ood_iterate(scores, 5.0).tolist() == [1, 1, 1, 0, 2]
