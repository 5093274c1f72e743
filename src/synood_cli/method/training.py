"""The training loop that the projection (Eq. 12) and the label features (Eq. 14) share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from synood_cli.errors import SynoodError

OnStep = Callable[[int, int, float], None]
"""Called after each step with (steps done, steps in all, loss)."""


def minimise(
    batch_loss: Callable[[Tensor], Tensor],
    optimizer: Optimizer,
    *,
    count: int,
    epochs: int,
    batch_size: int,
    cosine_to: float | None,
    generator: torch.Generator,
    on_step: OnStep | None = None,
) -> list[float]:
    """Steps of `optimizer` on `batch_loss(indices)`, over batches of a fresh permutation of 0..count-1 each epoch.

    batch_loss: indices (b,) long on the CPU → scalar; the last batch of an epoch may be smaller. cosine_to: the
    learning rate decays along a cosine, step by step, to this value; None = constant. generator: a CPU generator, all
    the randomness there is. Returns the loss of each step, ⌈count / batch_size⌉ · epochs in all. Raises SynoodError
    if there is nothing to train on, or if the loss is no longer finite.
    """
    if count == 0:
        raise SynoodError("there is nothing to train on")
    total = epochs * -(-count // batch_size)
    schedule = None if cosine_to is None else CosineAnnealingLR(optimizer, total, eta_min=cosine_to)
    losses: list[float] = []
    for _ in range(epochs):
        for indices in torch.split(torch.randperm(count, generator=generator), batch_size):
            with torch.enable_grad():
                loss = batch_loss(indices)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            losses.append(float(loss.detach()))
            if not torch.isfinite(loss):
                raise SynoodError(
                    f"the loss is {losses[-1]} at training step {len(losses)}", hint="try a smaller learning rate"
                )
            if on_step is not None:
                on_step(len(losses), total, losses[-1])
    return losses
