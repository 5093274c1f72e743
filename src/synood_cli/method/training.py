"""The training loop that the projection (Eq. 12) and the label features (Eq. 14) share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from synood_cli.errors import SynoodError

CosinePer = Literal["step", "epoch"]
"""When a cosine schedule moves the learning rate: after every step, or at the end of every epoch."""

OnStep = Callable[[int, int, float], None]
"""Called after each step with (steps done, steps in all, loss)."""


class Descent(NamedTuple):
    """An optimizer, and where its learning rate goes: along a cosine to `cosine_to`, in equal parts per step or per
    epoch (per epoch it stays above `cosine_to`, which it would reach after the last one); None = constant."""

    optimizer: Optimizer
    cosine_to: float | None
    cosine_per: CosinePer = "step"


def steps_per_epoch(count: int, batch_size: int) -> int:
    """⌈count / batch_size⌉: the last batch of an epoch may be smaller."""
    return -(-count // batch_size)


def minimise(
    batch_loss: Callable[[Tensor], Tensor],
    *descents: Descent,
    count: int,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
    steps: int | None = None,
    on_step: OnStep | None = None,
) -> list[float]:
    """Steps of every optimizer on `batch_loss(indices)`, over batches of a fresh permutation of 0..count-1 each epoch.

    batch_loss: indices (b,) long on the CPU → scalar; the last batch of an epoch may be smaller. generator: a CPU
    generator, all the randomness there is. Returns the loss of each step: `steps` of them, or without that
    ⌈count / batch_size⌉ · epochs. Raises SynoodError if there is nothing to train on, or if the loss is no longer
    finite.
    """
    if count == 0:
        raise SynoodError("there is nothing to train on")
    epoch = steps_per_epoch(count, batch_size)
    total = epochs * epoch if steps is None else steps
    schedules = [
        (CosineAnnealingLR(descent.optimizer, -(-total // every), eta_min=descent.cosine_to), every)
        for descent in descents
        for every in [epoch if descent.cosine_per == "epoch" else 1]
        if descent.cosine_to is not None
    ]
    losses: list[float] = []
    for indices in islice(_batches(count, batch_size, generator), total):
        with torch.enable_grad():
            loss = batch_loss(indices)
        for descent in descents:
            descent.optimizer.zero_grad()
        torch.autograd.backward(loss)
        for descent in descents:
            descent.optimizer.step()
        losses.append(float(loss.detach()))
        for schedule, every in schedules:
            if len(losses) % every == 0:
                schedule.step()
        if not torch.isfinite(loss):
            raise SynoodError(
                f"the loss is {losses[-1]} at training step {len(losses)}", hint="try a smaller learning rate"
            )
        if on_step is not None:
            on_step(len(losses), total, losses[-1])
    return losses


def _batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of one permutation after another, without end."""
    while True:
        yield from torch.split(torch.randperm(count, generator=generator), batch_size)
