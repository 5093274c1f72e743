"""Randomness that belongs to an image, not to a run: batch size, order, shards and resuming change nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def image_seed(run_seed: int, image_key: str) -> int:
    """The first 63 bits of sha256(run seed, image key): in [0, 2⁶³), the same on every platform.

    `image_key` may hold lone surrogates, as names of files that are not UTF-8 do.
    """
    identity = f"{run_seed}\0{image_key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(identity).digest()[:8], "big") >> 1


def image_noise(seed: int, shape: Sequence[int]) -> Tensor:
    """ε ~ N(0, I) of Eq. 4 for one image: float32 of `shape`, drawn on the CPU from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)
