import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synood_cli.errors import SynoodError, UsageError
from synood_cli.method.boundary import nearest_ood_iterate, threshold_at_tpr


def test_the_threshold_is_the_order_statistic_that_keeps_the_share():
    scores = torch.arange(1.0, 21.0)[torch.randperm(20, generator=torch.Generator().manual_seed(1))]
    assert threshold_at_tpr(scores, 0.95) == 2.0  # 19 of 20 are at least 2
    assert threshold_at_tpr(scores, 0.951) == 1.0
    assert threshold_at_tpr(scores, 1.0) == 1.0
    assert threshold_at_tpr(scores, 0.01) == 20.0
    assert threshold_at_tpr(torch.arange(100.0), 0.55) == 45.0  # 0.55 * 100 is 55.00000000000001 in binary


def test_equal_scores_and_float32_are_kept_as_they_are():
    assert threshold_at_tpr(torch.full((7,), 0.1), 0.5) == torch.tensor(0.1).item()
    assert threshold_at_tpr(torch.tensor([3.0]), 0.95) == 3.0


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40), st.integers(1, 100))
def test_the_threshold_is_the_largest_that_enough_scores_reach(values, percent):
    tpr = percent / 100
    scores = torch.tensor(values)
    eta = threshold_at_tpr(scores, tpr)
    needed = math.ceil(Fraction(percent, 100) * len(values))
    assert int((scores >= eta).sum()) >= needed
    assert int((scores > eta).sum()) < needed
    assert eta in values


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
