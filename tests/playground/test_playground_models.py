"""The trained miniatures, loaded as real models are, on validation scenes that no training saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

import synood_cli.playground
from synood_cli.models.build import build_classifier, build_encoder
from synood_cli.playground.world import World
from synood_cli.records import ModelSpec

MODELS = Path(synood_cli.playground.__file__).parent / "models"
SCENES = 5


@pytest.fixture(scope="module")
def validation() -> tuple[list[str], list[Image.Image], torch.Tensor]:
    """The in-distribution names, five scenes of each, and the position of each scene's name."""
    world = World(0)
    names = list(world.names("ind"))
    pictures = [world.scene("val", name, index).image for name in names for index in range(SCENES)]
    return names, pictures, torch.arange(len(names)).repeat_interleave(SCENES)


def test_clip_knows_most_animals_by_name(validation) -> None:
    names, pictures, labels = validation
    clip = build_encoder(ModelSpec(adapter="open_clip", name=str(MODELS / "clip")), "cpu", "fp32")
    images = clip.encode_images(torch.stack([clip.prepare(picture) for picture in pictures]))
    texts = normalize(clip.encode_texts([f"the nice {name}" for name in names]), dim=-1)
    accuracy = ((images @ texts.T).argmax(dim=1) == labels).double().mean().item()
    assert 0.62 < accuracy < 0.85  # 71.5% on all validation scenes


def test_the_classifier_knows_the_in_distribution_animals(validation) -> None:
    names, pictures, labels = validation
    g = build_classifier(ModelSpec(adapter="timm", name=str(MODELS / "classifier")), "cpu", "fp32")
    assert g.class_names == names
    pixels = torch.stack([torch.tensor(list(picture.tobytes()), dtype=torch.uint8) for picture in pictures])
    logits = g.logits(pixels.view(-1, 64, 64, 3).permute(0, 3, 1, 2).float() / 255)
    assert (logits.argmax(dim=1) == labels).double().mean().item() > 0.85  # 91% on all validation scenes


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*")) < 32_000_000


def test_they_name_no_path_of_the_machine_that_trained_them() -> None:
    configs = {path: json.loads(path.read_text()) for path in MODELS.rglob("*config*.json")}
    assert len(configs) >= 6
    assert not [path for path, config in configs.items() if "/" in str(config.get("_name_or_path", ""))]
