"""Training that goes on where it was cut off: the same weights as without interruption, on the same machine."""

from __future__ import annotations

import io
import json
import math
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from synood_cli.playground.world import Split, World
from synood_cli.store.files import write_atomic

Batch = dict[str, Tensor]
Figures = dict[str, float]


class Recipe(NamedTuple):
    """AdamW with a linear warm-up and a cosine decay to zero; weight decay on matrices alone."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warm_up: int


class Execution(NamedTuple):
    """Where and how a training runs. `bf16` changes results by rounding, the others not at all.

    `checkpoint_every` and `log_every` are in steps; `workers` are processes that draw scenes ahead; `held_out` are the
    scenes of each class that figures are measured on, 0 for no figures.
    """

    device: str
    bf16: bool
    workers: int
    checkpoint_every: int
    log_every: int
    held_out: int


class Training(ABC):
    """One model to be trained on scenes of `world`. What is drawn at a step depends on the step alone.

    `models` is the folder of the models that are trained already, of which some build on others. `random` is seeded
    anew for every step.
    """

    name: str
    recipe: Recipe

    def __init__(self, world: World, models: Path) -> None:
        self.world = world
        self.models = models
        self.random = torch.Generator()
        torch.manual_seed(world.seed)
        self.module: Any = self.build()

    @abstractmethod
    def build(self) -> Any:
        """The torch module that is trained, with its first weights.

        Raises SystemExit when a model that it builds on is missing.
        """

    @abstractmethod
    def batch(self, step: int, size: int) -> Batch:
        """The training data of a step, on the CPU. Runs in worker processes."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; "loss" is differentiated, the others are logged."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the model in its library's own format, in half precision, into a new folder."""

    @abstractmethod
    def figures(self, split: Split, device: str, held_out: int) -> Figures:
        """How good the exported model is, loaded as any model is, on so many scenes of each in-distribution class."""

    @property
    def folder(self) -> Path:
        return self.models / self.name


def as_images(pixels: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) as the world draws them → (N, 3, H, W) in [0, 1]; the memory stays as it is."""
    return pixels.permute(0, 3, 1, 2) / 255


def save_half(module: nn.Module, path: Path) -> None:
    """The module's weights as fp16 safetensors."""
    tensors = {name: tensor.cpu() for name, tensor in module.state_dict().items()}
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save_file({name: tensor.contiguous() for name, tensor in halves.items()}, path)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def train(training: Training, recipe: Recipe, execution: Execution, log: Callable[[str], None] = say) -> None:
    """Train from the last checkpoint, if there is one, and export.

    Written into `training.models`, for a model NAME: NAME.checkpoint (replaced at each checkpoint), NAME/ (the model)
    and NAME.json (how long it took, and how good it is on validation scenes). Raises SystemExit when the checkpoint is
    another recipe's.
    """
    checkpoint = training.folder.with_suffix(".checkpoint")
    module = training.module.to(execution.device).train()
    optimizer = torch.optim.AdamW(_parameter_groups(module, recipe.weight_decay), fused=False)
    start, seconds = _resume(checkpoint, module, optimizer, recipe, execution.device)
    if start:
        log(f"{training.name}: goes on from step {start} of {recipe.steps}")
    cast = torch.autocast(torch.device(execution.device).type, torch.bfloat16) if execution.bf16 else nullcontext()
    began = time.perf_counter() - seconds
    for step, batch in zip(range(start, recipe.steps), _batches(training, recipe, execution, start), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        training.random.manual_seed(step)
        with cast:
            losses = training.losses({name: tensor.to(execution.device) for name, tensor in batch.items()})
        optimizer.zero_grad()
        torch.autograd.backward(losses["loss"])
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0, error_if_nonfinite=True)
        optimizer.step()
        done = step + 1
        if done % execution.checkpoint_every == 0 or done == recipe.steps:
            seconds = time.perf_counter() - began
            state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
            _save(checkpoint, {**state, "seconds": seconds, "recipe": recipe._asdict()})
        if done % execution.log_every == 0 or done == recipe.steps:
            values = "  ".join(f"{name} {value.item():.4f}" for name, value in losses.items())
            log(f"{training.name}: step {done} of {recipe.steps}, {time.perf_counter() - began:.0f} s  {values}")
    module.eval()
    _export(training)
    figures = training.figures("val", execution.device, execution.held_out) if execution.held_out else {}
    facts = {"steps": recipe.steps, "batch_size": recipe.batch_size, "seconds": round(seconds), "validation": figures}
    write_atomic(training.folder.with_suffix(".json"), (json.dumps(facts, indent=2) + "\n").encode())
    log(f"{training.name}: {json.dumps(facts)}")


def _parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def learning_rate(recipe: Recipe, step: int) -> float:
    rise = min(1.0, (step + 1) / recipe.warm_up)
    return recipe.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


class _Steps(Dataset[Batch]):
    def __init__(self, training: Training, recipe: Recipe, start: int) -> None:
        self.training, self.recipe, self.start = training, recipe, start

    def __len__(self) -> int:
        return self.recipe.steps - self.start

    def __getitem__(self, index: int) -> Batch:
        return self.training.batch(self.start + index, self.recipe.batch_size)


def _batches(training: Training, recipe: Recipe, execution: Execution, start: int) -> Iterator[Batch]:
    if start < recipe.steps:
        # Order is kept; a batch is one item, so that whole batches are drawn side by side.
        yield from DataLoader(
            _Steps(training, recipe, start), batch_size=None, shuffle=False, num_workers=execution.workers
        )


def _resume(
    checkpoint: Path, module: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, device: str
) -> tuple[int, float]:
    if not checkpoint.exists():
        return 0, 0.0
    state = torch.load(checkpoint, map_location=device, weights_only=True)
    if state["recipe"] != recipe._asdict():
        raise SystemExit(f"{checkpoint} was made with other settings ({state['recipe']}): remove it to start anew")
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]


def _save(path: Path, state: dict[str, Any]) -> None:
    content = io.BytesIO()
    torch.save(state, content)
    write_atomic(path, content.getvalue())


def _export(training: Training) -> None:
    target = training.folder
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    training.export(unfinished)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
