"""Negative labels: which candidates are far from all in-distribution labels, and which one each image is nearest to.

Features are unit length: K candidates, C in-distribution labels, N negative labels, M images, D = CLIP width.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from synood_cli.errors import SynoodError, UsageError

Average = Literal["unit", "raw"]
"""What the feature of a label under several templates is the mean of: unit features, or the encoder's own."""


def label_similarity_percentile(candidates: Tensor, ind: Tensor, percentile: float, elements: int) -> Tensor:
    """The `percentile` of cos(candidate, y) over the InD labels y: the distance of NegMining (NegLabel, ICLR 2024).

    candidates: (K, D), ind: (C, D) → (K,), in [-1, 1]. percentile: a share in [0, 1] (0.95 for the 95th), linear
    between order statistics like `numpy.quantile`. At most `elements` similarities (at least those of one candidate)
    and their sort exist at once, on the device of `ind`; the candidates stay where they are, the result is on theirs.

    Raises UsageError for a percentile outside [0, 1], SynoodError for no InD labels.
    """
    if not 0 <= percentile <= 1:
        raise UsageError(f"a percentile is a share in [0, 1], not {percentile}", hint="write 0.95 for the 95th")
    if len(ind) == 0:
        raise SynoodError("there are no in-distribution labels to keep away from")
    if len(candidates) == 0:
        return candidates.new_empty(0)
    parts = torch.split(candidates, max(1, elements // len(ind)))
    found = [torch.quantile(part.to(ind.device) @ ind.T, percentile, dim=1) for part in parts]
    return torch.cat(found).to(candidates.device)


def most_similar(candidates: Tensor, ind: Tensor, chunk: int) -> Tensor:
    """max_y cos(candidate, y) over the InD labels: (K, D), (C, D) → (K,). At most (chunk, C) cosines exist at once."""
    if len(candidates) == 0:
        return candidates.new_empty(0)
    return torch.cat([(part @ ind.T).amax(dim=1) for part in torch.split(candidates, chunk)])


def mine(percentiles: Tensor, share: float, of: int | None = None) -> Tensor:
    """The ⌊share · of⌋ candidates least similar to the InD labels (NegMining), or all where that is more.

    percentiles: (K,) → long indices sorted by (percentile, index). of: how many candidates the share is counted on, K
    unless some have been left out. `share` is taken as the decimal number that it prints as. Raises UsageError for a
    share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise UsageError(f"a share of candidates lies in [0, 1], not at {share}")
    # In binary floating point 0.29 * 100 falls short of 29.
    count = int(Fraction(str(float(share))) * (len(percentiles) if of is None else of))
    return percentiles.sort(stable=True).indices[:count]


def draw_labels(count: int, labels: int, generator: torch.Generator) -> list[int]:
    """`count` draws from 0..labels-1, without replacement as long as there are enough: a fresh permutation whenever
    all have been drawn. Fewer draws are the beginning of more.

    generator: a CPU generator, all the randomness there is. Raises SynoodError for no labels.
    """
    if labels == 0:
        raise SynoodError("there are no negative labels to draw prompts from")
    rounds = [torch.randperm(labels, generator=generator).tolist() for _ in range(-(-count // labels))]
    return [label for drawn in rounds for label in drawn][:count]


def ensemble(features: Iterable[Tensor], average: Average = "unit") -> Tensor:
    """The feature of each label y under several templates, (N, D) of unit length.

    "unit": normalise(Σ_t normalise(H(template_t(y)))) (Radford et al. 2021); "raw": normalise(Σ_t H(template_t(y)))
    (CSP's public code), where a template counts by the length of its feature. For a single template both are the same.

    features: for each template t (N, D) *before* normalisation. Raises SynoodError for no template.
    """
    total, count = _sum(features if average == "raw" else (normalize(block, dim=-1) for block in features))
    return total if count == 1 and average == "unit" else normalize(total, dim=-1)


def mean_feature(features: Iterable[Tensor]) -> Tensor:
    """mean_t H(template_t(y)), of whatever length: for each template t (N, D) → (N, D). Raises SynoodError for no
    template."""
    total, count = _sum(features)
    return total / count


def _sum(features: Iterable[Tensor]) -> tuple[Tensor, int]:
    blocks = iter(features)
    total = next(blocks, None)
    if total is None:
        raise SynoodError("there is no template to average over")
    count = 1
    for block in blocks:
        total = total + block if count == 1 else total.add_(block)
        count += 1
    return total, count


def assign_labels(features: Tensor, negatives: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """y⁻(x_syn) = argmax over the negative labels of cos(F(x_syn), H(y)) (Eq. 11), and that cosine.

    features: (M, D), negatives: (N, D) → (indices (M,) long, similarity (M,)); the lowest index of equals. At most
    (chunk, N) similarities exist at once. Raises SynoodError for no negative labels.
    """
    if len(negatives) == 0:
        raise SynoodError("there are no negative labels to assign images to")
    if len(features) == 0:
        return features.new_empty(0, dtype=torch.long), features.new_empty(0)
    best = [(part @ negatives.T).max(dim=1) for part in torch.split(features, chunk)]
    return torch.cat([b.indices for b in best]), torch.cat([b.values for b in best])
