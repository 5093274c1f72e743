"""Batches of one size: what a model says of an input does not depend on how many others came along.

Libraries choose their kernels by a tensor's shape, and another kernel rounds otherwise: a CLIP feature moves by 1e-6
when its batch has another size. So every forward pass takes the same number of rows, and one that has fewer inputs is
filled with zeros. On some CPUs (MKL on AVX2 or SSE) the kernels also round one row otherwise than the next: what must
not depend on the others at all is computed there by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

CPU_IMAGES = 1
"""Images of a forward pass on the CPU, whatever the batch size, so that no CPU can give an image two features. The
price: ViT-B/32 on one core takes 99 ms an image, and 66 where four go together."""


def rows_at_once(device: str, batch_size: int) -> int:
    """Images of a forward pass on this device."""
    return CPU_IMAGES if torch.device(device).type == "cpu" else batch_size


def filled(inputs: Tensor, rows: int) -> Tensor:
    """The inputs, then zeros: (N, …) → (rows, …), N ≤ rows."""
    return pad(inputs, [0, 0] * (inputs.ndim - 1) + [0, rows - len(inputs)])


def in_equal_batches(function: Callable[[Tensor], Tensor], inputs: Tensor, rows: int) -> Tensor:
    """function(inputs), which works row by row, computed `rows` rows at a time, always: (N, …) → (N, …), N > 0. Each
    part is a copy: where its rows began in memory decides nothing."""
    return torch.cat([function(filled(part, rows))[: len(part)] for part in torch.split(inputs, rows)])
