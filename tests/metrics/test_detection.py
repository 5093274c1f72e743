import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from synood_cli.errors import SynoodError, UsageError
from synood_cli.metrics.detection import accuracy, aupr_in, aupr_out, auroc, fpr_at_tpr

SCORES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=25)  # few values, so many ties


def stacked(ind, ood):
    return np.r_[np.ones(len(ind)), np.zeros(len(ood))], np.r_[ind, ood]


def test_by_hand():
    ind, ood = [4.0, 3.0, 2.0, 0.5], [1.0, 0.0, 2.0]
    # pairs won: 3 + 3 + 2.5 + 1 of 12
    assert auroc(ind, ood) == pytest.approx(9.5 / 12)
    # 3 of 4 InD reach 2; one OOD image of three does too
    assert fpr_at_tpr(ind, ood, 0.75, "ind") == pytest.approx(1 / 3)
    assert fpr_at_tpr(ind, ood, 0.76, "ind") == pytest.approx(2 / 3)
    # 2 of 3 OOD do not exceed 1; one InD image of four does not either
    assert fpr_at_tpr(ind, ood, 0.66, "ood") == pytest.approx(1 / 4)
    assert fpr_at_tpr(ind, ood, 0.67, "ood") == pytest.approx(2 / 4)
    assert aupr_in(ind, ood) == pytest.approx((1 + 1 + 3 / 4 + 4 / 6) / 4)
    assert aupr_out(ind, ood) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_the_two_conventions_differ():
    ind, ood = np.arange(100.0), np.r_[np.full(90, -1.0), np.full(10, 1000.0)]
    assert fpr_at_tpr(ind, ood, 0.95, "ind") == 0.1
    assert fpr_at_tpr(ind, ood, 0.95, "ood") == 1.0


def test_constant_scores_are_chance_and_never_flattered():
    constant = np.zeros(10)
    assert auroc(constant, constant) == 0.5
    assert fpr_at_tpr(constant, constant, 0.95, "ind") == 1.0
    assert fpr_at_tpr(constant, constant, 0.95, "ood") == 1.0
    assert aupr_in(constant, np.zeros(30)) == 0.25
    assert aupr_out(constant, np.zeros(30)) == 0.75


def test_perfect_and_inverted_scores():
    low, high = np.arange(5.0), np.arange(10.0, 15.0)
    for metric in (auroc, aupr_in, aupr_out):
        assert metric(high, low) == 1.0
    assert auroc(low, high) == 0.0
    assert fpr_at_tpr(high, low, 1.0, "ind") == fpr_at_tpr(high, low, 1.0, "ood") == 0.0
    assert fpr_at_tpr(low, high, 1.0, "ind") == fpr_at_tpr(low, high, 1.0, "ood") == 1.0


@given(SCORES, SCORES)
def test_agrees_with_scikit_learn(ind, ood):
    labels, scores = stacked(ind, ood)
    assert auroc(ind, ood) == pytest.approx(roc_auc_score(labels, scores))
    assert aupr_in(ind, ood) == pytest.approx(average_precision_score(labels, scores))
    assert aupr_out(ind, ood) == pytest.approx(average_precision_score(1 - labels, -scores))


def test_agrees_with_scikit_learn_on_continuous_scores_of_either_precision():
    generator = np.random.default_rng(0)
    ind, ood = generator.normal(1, 1, 4000).astype(np.float32), generator.normal(0, 2, 3000).astype(np.float32)
    labels, scores = stacked(ind, ood)
    assert auroc(ind, ood) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert aupr_in(ind, ood) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert aupr_out(ind, ood) == pytest.approx(average_precision_score(1 - labels, -scores), abs=1e-12)


@given(SCORES, SCORES, st.integers(1, 100))
def test_fpr_is_the_first_point_of_the_roc_curve_that_reaches_the_tpr(ind, ood, percent):
    labels, scores = stacked(ind, ood)
    for positive, truth, sign in (("ind", labels, 1), ("ood", 1 - labels, -1)):
        fpr, tpr, _ = roc_curve(truth, sign * scores, drop_intermediate=False)
        count = len(ind) if positive == "ind" else len(ood)
        needed = math.ceil(Fraction(percent, 100) * count)
        first = next(i for i, t in enumerate(tpr) if round(t * count) >= needed)
        assert fpr_at_tpr(ind, ood, percent / 100, positive) == pytest.approx(fpr[first])


@given(SCORES, SCORES)
def test_swapping_roles_and_signs_swaps_conventions(ind, ood):
    mirrored = [-s for s in ood], [-s for s in ind]
    assert fpr_at_tpr(ind, ood, 0.95, "ood") == fpr_at_tpr(*mirrored, 0.95, "ind")
    assert aupr_out(ind, ood) == aupr_in(*mirrored)
    assert auroc(ind, ood) == pytest.approx(auroc(*mirrored))


def test_infinite_scores_are_ordered():
    assert auroc([np.inf, 1.0], [-np.inf, 2.0]) == 0.75


@pytest.mark.parametrize(("ind", "ood"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0]), ([1.0], [0.0, np.nan])])
def test_scores_that_mean_nothing_are_refused(ind, ood):
    for metric in (auroc, aupr_in, aupr_out, lambda i, o: fpr_at_tpr(i, o, 0.95, "ind")):
        with pytest.raises(SynoodError, match=r"no scores of|not a number"):
            metric(ind, ood)


def test_a_tpr_outside_its_range_is_refused():
    for tpr in (0.0, 1.5):
        with pytest.raises(UsageError, match="true positive rate"):
            fpr_at_tpr([1.0], [0.0], tpr, "ind")


def test_accuracy():
    assert accuracy([0, 2, 1, 1], np.array([0, 2, 2, 1])) == 0.75
    for predicted, labels in (([], []), ([1], [1, 2])):
        with pytest.raises(SynoodError, match="one prediction per label"):
            accuracy(predicted, labels)
