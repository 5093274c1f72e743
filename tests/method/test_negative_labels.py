import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from synood_cli.errors import SynoodError, UsageError
from synood_cli.method.negative_labels import (
    assign_labels,
    draw_labels,
    ensemble,
    label_similarity_percentile,
    mean_feature,
    mine,
)


def unit(rows, width, seed):
    return functional.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("elements", [1, 13, 91, 100_000])
def test_percentiles_match_a_plain_loop(elements):
    candidates, ind = unit(30, 8, 0), unit(13, 8, 1)
    expected = [
        np.quantile([float(np.dot(c, y)) for y in ind.double().numpy()], 0.95) for c in candidates.double().numpy()
    ]
    found = label_similarity_percentile(candidates, ind, 0.95, elements)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_percentiles_by_hand():
    ind = torch.eye(2)
    candidates = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    assert label_similarity_percentile(candidates, ind, 0.5, 2).tolist() == pytest.approx([0.5, 0.7, -0.5])
    assert label_similarity_percentile(candidates, ind, 1.0, 2).tolist() == pytest.approx([1.0, 0.8, 0.0])
    assert label_similarity_percentile(candidates[:0], ind, 0.5, 2).tolist() == []
    with pytest.raises(UsageError, match=r"\[0, 1\]"):
        label_similarity_percentile(candidates, ind, 95, 2)
    with pytest.raises(SynoodError, match="no in-distribution"):
        label_similarity_percentile(candidates, ind[:0], 0.95, 2)


def test_seventy_thousand_candidates_and_a_thousand_labels_need_little_memory():
    """The whole matrix would be 280 MB, and 840 MB more while it is sorted with its indices."""
    program = """
import resource
import torch
from synood_cli.method.negative_labels import label_similarity_percentile
from synood_cli.stages.workers.mine import SIMILARITIES

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

generator = torch.Generator().manual_seed(0)
candidates, ind = (torch.randn(rows, 16, generator=generator) for rows in (70_000, 1000))
label_similarity_percentile(candidates[:10], ind[:10], 0.95, SIMILARITIES)
before = peak()
found = label_similarity_percentile(candidates, ind, 0.95, SIMILARITIES)
assert found.shape == (70_000,)
print(peak() - before)
"""
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert float(ended.stdout) < 300


def test_an_ensemble_is_the_normalised_mean_of_its_templates():
    one, two = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.0, 1.0], [0.6, 0.8]])
    half = 0.5**0.5
    torch.testing.assert_close(ensemble([one, two]), torch.tensor([[half, half], [0.6, 0.8]]))
    three = unit(2, 2, 5)
    expected = functional.normalize((one.double() + two + three) / 3, dim=1).float()
    torch.testing.assert_close(ensemble(iter([one, two, three])), expected)
    torch.testing.assert_close(one, torch.tensor([[1.0, 0.0], [0.6, 0.8]]))  # untouched
    torch.testing.assert_close(ensemble([5 * one]), one)
    torch.testing.assert_close(ensemble([5 * one, two]), ensemble([one, two]))
    with pytest.raises(SynoodError, match="no template"):
        ensemble([])


def test_an_ensemble_of_raw_features_weighs_a_template_by_its_length():
    """normalise(H_1 + H_2): (3, 0) and (0, 4) give (0.6, 0.8), where unit features give equal parts."""
    one, two = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    torch.testing.assert_close(ensemble([one, two], "raw"), torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(ensemble([one, two], "unit"), torch.tensor([[0.5**0.5, 0.5**0.5]]))
    torch.testing.assert_close(mean_feature([one, two]), torch.tensor([[1.5, 2.0]]))
    torch.testing.assert_close(ensemble([two], "raw"), torch.tensor([[0.0, 1.0]]))


def test_the_least_similar_share_is_mined_in_order():
    assert mine(torch.tensor([0.5, 0.1, 0.9, 0.1, 0.3]), 0.6).tolist() == [1, 3, 4]
    assert mine(torch.tensor([0.2] * 100), 0.03).tolist() == [0, 1, 2]
    assert mine(torch.arange(5.0), 0.1).tolist() == []
    with pytest.raises(UsageError, match="share"):
        mine(torch.arange(5.0), 15)


def test_counts_are_those_of_the_paper_on_imagenet():
    assert len(mine(torch.zeros(56_909), 0.15)) == 8_536
    assert len(mine(torch.zeros(13_091), 0.15)) == 1_963
    assert len(mine(torch.zeros(100), 0.29)) == 29  # 0.29 * 100 is 28.999999999999996 in binary


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_assignment_matches_a_plain_loop(chunk):
    features, negatives = unit(17, 6, 2), unit(9, 6, 3)
    indices, similarity = assign_labels(features, negatives, chunk)
    for row, feature in enumerate(features):
        cosines = [float(feature @ label) for label in negatives]
        assert indices[row] == cosines.index(max(cosines))
        assert similarity[row].item() == pytest.approx(max(cosines), abs=1e-6)


def test_equal_labels_are_assigned_by_the_lowest_index():
    negatives = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert assign_labels(torch.tensor([[1.0, 0.0]] * 3), negatives, 2)[0].tolist() == [1, 1, 1]
    assert assign_labels(torch.empty(0, 2), negatives, 2)[0].tolist() == []
    with pytest.raises(SynoodError, match="no negative labels"):
        assign_labels(negatives, negatives[:0], 2)


def test_labels_are_drawn_without_replacement_as_long_as_there_are_enough():
    def draw(count, seed=0):
        return draw_labels(count, 5, torch.Generator().manual_seed(seed))

    drawn = draw(12)
    assert sorted(drawn[:5]) == sorted(drawn[5:10]) == list(range(5))
    assert drawn[:5] != drawn[5:10]
    assert len(drawn) == 12
    assert draw(3) == drawn[:3]
    assert draw(0) == []
    assert draw(12, seed=1) != drawn
    with pytest.raises(SynoodError, match="no negative labels"):
        draw_labels(1, 0, torch.Generator())
