"""CLIP's detection scores (Eq. 2). Higher = more in-distribution.

Features are unit length: image (B, D), InD labels (C, D), negative labels (N, D). Images are independent: pass as many
at once as memory for (B, C + N) similarities allows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from synood_cli.errors import SynoodError


def neglabel_score(image: Tensor, ind: Tensor, negatives: Tensor, temperature: float, groups: Tensor | None) -> Tensor:
    """S(x) = Σ_InD exp(cos/τ) / (Σ_InD exp(cos/τ) + Σ_neg exp(cos/τ)) (Eq. 2): (B,), in [0, 1].

    groups: (G, n) rows of `negatives` (see `grouping`): S is computed against each group alone and averaged over
    groups; None = against all negative labels at once. Written as sigmoid(logsumexp_InD - logsumexp_neg), so that no
    exponential overflows at τ = 0.01. In float64, whatever the features are: in float32 a gap above 16.6 between the
    two rounds to 1, and images beyond it could not be told apart. Raises SynoodError for no labels of either kind.
    """
    if len(ind) == 0 or len(negatives) == 0:
        raise SynoodError(f"Eq. 2 needs labels of both kinds: {len(ind)} in-distribution, {len(negatives)} negative")
    return ind_share(image @ ind.T, image @ negatives.T, temperature, groups)


def ind_share(ind_cosines: Tensor, negative_cosines: Tensor, temperature: float, groups: Tensor | None) -> Tensor:
    """S of Eq. 2 from the cosines (B, C) and (B, N) themselves, in float64; see `neglabel_score`."""
    ind_mass = torch.logsumexp(_double(ind_cosines) / temperature, dim=1, keepdim=True)
    similarities = _double(negative_cosines) / temperature
    grouped = similarities[:, None, :] if groups is None else similarities[:, groups.to(similarities.device)]
    return torch.sigmoid(ind_mass - torch.logsumexp(grouped, dim=2)).mean(dim=1)


def _double(cosines: Tensor) -> Tensor:
    """In float64; on the CPU where the device has none (MPS)."""
    return cosines.cpu().double() if cosines.device.type == "mps" else cosines.double()


def grouping(count: int, groups: int, seed: int) -> Tensor:
    """A partition of the negative labels for Eq. 2: (groups, count // groups) long, on the CPU.

    The indices 0..count-1 are permuted with `seed` and cut into rows, the remainder dropped. Fewer labels than groups:
    one group per label. Raises SynoodError for no labels or no groups.
    """
    if count < 1 or groups < 1:
        raise SynoodError(f"{count} negative labels cannot be split into {groups} groups")
    rows = min(groups, count)
    permutation = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return permutation[: count // rows * rows].reshape(rows, -1)


def mcm_score(image: Tensor, ind: Tensor, temperature: float) -> Tensor:
    """max_y softmax(cos/τ) over the InD labels (MCM, Ming et al., NeurIPS 2022): (B,), in [1/C, 1]."""
    return (image @ ind.T / temperature).softmax(dim=1).amax(dim=1)


def predicted_class(image: Tensor, ind: Tensor) -> Tensor:
    """argmax_y cos(F(x), H(y)) over the InD labels: (B,) long; the lowest index of equals."""
    return (image @ ind.T).argmax(dim=1)
