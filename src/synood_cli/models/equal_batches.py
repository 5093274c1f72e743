"""Batches of one size: what a model says of an input does not depend on how many others came along.

Libraries choose their kernels by a tensor's shape, and another kernel rounds otherwise: a CLIP feature moves by 1e-6
when its batch has another size. It moves neither with what is in the other rows nor with its own row. So every forward
pass takes the same number of rows, and one that has fewer inputs is filled with zeros.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

CPU_IMAGES = 4
"""Images of a forward pass on the CPU, whatever the batch size: more are hardly faster there (ViT-B/32 on one core: 66
ms an image, 62 at 8, 99 one by one), and a single image pays for the whole pass."""


def rows_at_once(device: str, batch_size: int) -> int:
    """Images of a forward pass on this device."""
    return CPU_IMAGES if torch.device(device).type == "cpu" else batch_size


def filled(inputs: Tensor, rows: int) -> Tensor:
    """The inputs, then zeros: (N, …) → (rows, …), N ≤ rows."""
    return pad(inputs, [0, 0] * (inputs.ndim - 1) + [0, rows - len(inputs)])


def in_equal_batches(function: Callable[[Tensor], Tensor], inputs: Tensor, rows: int) -> Tensor:
    """function(inputs), which works row by row, computed `rows` rows at a time, always: (N, …) → (N, …), N > 0."""
    return torch.cat([function(filled(part, rows))[: len(part)] for part in torch.split(inputs, rows)])
