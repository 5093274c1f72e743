"""The miniature classifier g: a narrow residual network over the in-distribution classes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.models import save_for_hf
from torch import Tensor
from torch.nn.functional import cross_entropy

from playground_training.loop import Batch, Figures, Recipe, Training, as_images
from synood_cli.models.build import build_classifier
from synood_cli.playground.canvas import SIZE
from synood_cli.playground.world import Split
from synood_cli.records import ModelSpec

ARCHITECTURE = "resnet10t"
CHANNELS = (32, 64, 128, 256)
"""Half of the architecture's own, so that its file is a quarter as large."""
MEAN, STD = 0.5, 0.25
"""Of every channel: near the world's own."""
SCENES = 1_000_000
"""Scenes of each class that there are to be drawn from; so nearly every one is new."""


class ClassifierTraining(Training):
    """Cross-entropy on scenes of the in-distribution classes; nothing is augmented, since nearly every scene is new."""

    name = "classifier"
    recipe = Recipe(steps=1600, batch_size=128, learning_rate=2e-3, weight_decay=0.05, warm_up=100)

    def build(self) -> Any:
        self.classes = self.world.names("ind")
        data = {
            "input_size": (3, SIZE, SIZE),
            "test_input_size": (3, SIZE, SIZE),
            "pool_size": (SIZE // 32, SIZE // 32),
            "mean": (MEAN,) * 3,
            "std": (STD,) * 3,
            "crop_pct": 1.0,
            "test_crop_pct": 1.0,
            "interpolation": "bicubic",
            "tag": "playground",
            "origin_url": None,
        }
        return timm.create_model(
            ARCHITECTURE, num_classes=len(self.classes), channels=CHANNELS, pretrained_cfg_overlay=data
        )

    def batch(self, step: int, size: int) -> Batch:
        random = np.random.default_rng((self.world.seed, step))
        labels = random.integers(len(self.classes), size=size)
        numbers = random.integers(SCENES, size=size)
        items = [(self.classes[label], int(number)) for label, number in zip(labels, numbers, strict=True)]
        return {"pixels": torch.from_numpy(self.world.batch("train", items).pixels), "labels": torch.from_numpy(labels)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.module((as_images(batch["pixels"]) - MEAN) / STD).float()
        accuracy = (logits.argmax(1) == batch["labels"]).float().mean()
        return {"loss": cross_entropy(logits, batch["labels"]), "accuracy": accuracy}

    def export(self, folder: Path) -> None:
        config = {"num_classes": len(self.classes), "label_names": self.classes}
        save_for_hf(copy.deepcopy(self.module).half(), folder, model_config=config, safe_serialization=True)

    def figures(self, split: Split, device: str, held_out: int) -> Figures:
        """Accuracy, and the mean probability of the named class."""
        classifier = build_classifier(ModelSpec(adapter="timm", name=str(self.folder)), device, "fp32")
        pixels = self.world.batch(split, [(name, number) for name in self.classes for number in range(held_out)]).pixels
        logits = torch.cat([classifier.logits(as_images(chunk)) for chunk in torch.from_numpy(pixels).chunk(8)]).cpu()
        own = torch.arange(len(self.classes)).repeat_interleave(held_out)
        return {
            "accuracy": round((logits.argmax(1) == own).float().mean().item(), 4),
            "mean_confidence": round(logits.softmax(1).amax(1).mean().item(), 4),
            "cross_entropy": round(cross_entropy(logits, own).item(), 4),
        }
