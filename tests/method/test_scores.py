import math

import pytest
import torch
from torch.nn import functional

from synood_cli.errors import SynoodError
from synood_cli.method.scores import grouping, mcm_score, neglabel_score, predicted_class


def unit(rows, width, seed):
    return functional.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


IMAGES, IND, NEGATIVES = unit(5, 8, 0), unit(3, 8, 1), unit(11, 8, 2)


def plain_score(image, negatives, temperature):
    ind = sum(math.exp(float(image @ y) / temperature) for y in IND.double())
    return ind / (ind + sum(math.exp(float(image @ y) / temperature) for y in negatives.double()))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_equation_2_matches_a_plain_loop(temperature):
    found = neglabel_score(IMAGES, IND, NEGATIVES, temperature, None)
    expected = [plain_score(image, NEGATIVES, temperature) for image in IMAGES.double()]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_grouped_scores_are_the_mean_over_groups():
    groups = grouping(11, 3, seed=4)
    found = neglabel_score(IMAGES, IND, NEGATIVES, 0.1, groups)
    for score, image in zip(found.tolist(), IMAGES.double(), strict=True):
        each = [plain_score(image, NEGATIVES[group], 0.1) for group in groups]
        assert score == pytest.approx(sum(each) / 3, rel=1e-4)
    assert not torch.allclose(found, neglabel_score(IMAGES, IND, NEGATIVES, 0.1, None), atol=1e-3)


def test_small_temperatures_do_not_overflow():
    image = torch.tensor([[1.0, 0.0]])
    ind, negatives = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.99, 0.1411], [0.0, 1.0]])
    # cosines 1 and 0.99: exp(100) overflows float32 long before; the gap of 1 decides
    assert neglabel_score(image, ind, negatives, 0.01, None).item() == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-4)
    assert neglabel_score(image, ind, negatives, 1e-4, None).item() == 1.0
    assert neglabel_score(image, negatives[1:], ind, 1e-4, None).item() == 0.0


def test_images_that_float32_would_call_equal_are_told_apart():
    image, ind = torch.tensor([[1.0, 0.0], [0.8, 0.6]]), torch.tensor([[1.0, 0.0]])
    negatives = torch.tensor([[-0.8, 0.6]])  # cosines apart by 1.8 and 1.08
    for groups in (None, torch.tensor([[0]])):
        found = neglabel_score(image, ind, negatives, 0.06, groups)
        assert (1 - found).tolist() == pytest.approx([math.exp(-30), math.exp(-18)], rel=1e-2)
        assert found.dtype == torch.float64
        assert found.float().tolist() == [1.0, 1.0]


def test_images_are_independent_of_their_batch():
    groups = grouping(11, 2, seed=0)
    whole = neglabel_score(IMAGES, IND, NEGATIVES, 0.01, groups)
    alone = torch.cat([neglabel_score(IMAGES[i : i + 1], IND, NEGATIVES, 0.01, groups) for i in range(5)])
    torch.testing.assert_close(whole, alone, rtol=0, atol=1e-6)


def test_a_score_needs_labels_of_both_kinds():
    with pytest.raises(SynoodError, match="3 in-distribution, 0 negative"):
        neglabel_score(IMAGES, IND, NEGATIVES[:0], 0.01, None)


def test_grouping_is_a_partition_with_the_remainder_dropped():
    groups = grouping(11, 3, seed=7)
    assert groups.shape == (3, 3)
    assert len(set(groups.flatten().tolist())) == 9
    assert torch.equal(groups, grouping(11, 3, seed=7))
    assert not torch.equal(groups, grouping(11, 3, seed=8))
    assert groups.flatten().tolist() != sorted(groups.flatten().tolist())
    assert grouping(10_499, 100, seed=0).shape == (100, 104)


def test_fewer_labels_than_groups_give_one_group_per_label():
    groups = grouping(4, 100, seed=0)
    assert groups.shape == (4, 1)
    assert sorted(groups.flatten().tolist()) == [0, 1, 2, 3]
    for count, rows in ((0, 5), (5, 0)):
        with pytest.raises(SynoodError, match="cannot be split"):
            grouping(count, rows, seed=0)


def test_mcm_is_the_largest_softmax_over_in_distribution_labels():
    for score, image in zip(mcm_score(IMAGES, IND, 0.1).tolist(), IMAGES.double(), strict=True):
        exponentials = [math.exp(float(image @ y) / 0.1) for y in IND.double()]
        assert score == pytest.approx(max(exponentials) / sum(exponentials), rel=1e-4)


def test_the_predicted_class_is_the_nearest_label():
    assert predicted_class(IND, IND).tolist() == [0, 1, 2]
    assert predicted_class(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])).item() == 1
