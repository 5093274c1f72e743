"""tools/train_playground.py: trainings that go on where they were cut off, and models that load like any other."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from playground_training.classifier import ClassifierTraining
from playground_training.clip import ClipTraining
from playground_training.inpainter import InpainterTraining
from playground_training.language import diffusion_prompt, surroundings, words, write_tokenizer
from playground_training.loop import Execution, Training, learning_rate, train
from playground_training.vae import VaeTraining, any_scene, to_pixels
from safetensors.torch import load_file
from torch.nn.functional import normalize

from synood_cli.models.build import build_encoder, build_inpainter
from synood_cli.playground.world import World
from synood_cli.records import ModelSpec

TOOL = Path(__file__).parents[2] / "tools" / "train_playground.py"
QUICK = Execution(device="cpu", bf16=False, workers=0, checkpoint_every=1, log_every=1, held_out=0)
STEPS, BATCH = 3, 4


class PowerCutError(Exception):
    pass


def run(training: Training, steps: int = STEPS, *, cut_after: int | None = None) -> dict[str, torch.Tensor]:
    """The weights after so many steps, or after a power cut."""

    def log(text: str) -> None:
        if cut_after is not None and f"step {cut_after} of" in text:
            raise PowerCutError

    train(training, training.recipe._replace(steps=steps, batch_size=BATCH), QUICK, log)
    weights: dict[str, torch.Tensor] = training.module.state_dict()
    return weights


def small(training: Training) -> Training:
    """With few scenes to encode."""
    if isinstance(training, InpainterTraining):
        training.pool = 2 * BATCH
    return training


def assert_same(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name


@pytest.fixture(scope="module")
def world() -> World:
    return World(0)


@pytest.fixture(scope="module")
def models(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP and a classifier of one step, and an autoencoder of two."""
    folder = tmp_path_factory.mktemp("models")
    run(ClipTraining(world, folder), 1)
    run(ClassifierTraining(world, folder), 1)
    run(VaeTraining(world, folder), 2)
    return folder


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = ClipTraining.recipe._replace(steps=100, learning_rate=2.0, warm_up=10)
    assert learning_rate(recipe, 0) == pytest.approx(0.2)
    assert learning_rate(recipe, 50) == pytest.approx(1.0)
    assert learning_rate(recipe, 99) == pytest.approx(0.0, abs=1e-3)
    assert max(range(100), key=lambda step: learning_rate(recipe, step)) == 9


@pytest.mark.parametrize("kind", [ClipTraining, InpainterTraining])
def test_an_interrupted_training_gives_the_weights_of_an_undisturbed_one(
    kind: type[Training], world: World, models: Path, tmp_path: Path
) -> None:
    for name in ("undisturbed", "cut"):
        (tmp_path / name).mkdir()
        for first in ("vae", "clip"):
            if first != kind.name:
                (tmp_path / name / first).symlink_to(models / first)
    undisturbed = run(small(kind(world, tmp_path / "undisturbed")))
    with pytest.raises(PowerCutError):
        run(small(kind(world, tmp_path / "cut")), cut_after=2)
    assert not (tmp_path / "cut" / kind.name).exists()
    assert_same(run(small(kind(world, tmp_path / "cut"))), undisturbed)
    untrained = kind(world, tmp_path / "cut").module.state_dict()
    moved = [name for name in untrained if name.endswith("proj.weight")]
    assert len(moved) > 4
    assert all(not torch.equal(untrained[name], undisturbed[name]) for name in moved)


def test_a_killed_training_goes_on(world: World, tmp_path: Path) -> None:
    arguments = ["classifier", str(tmp_path / "killed"), "--batch-size", str(BATCH), "--precision", "fp32"]
    quick = ["--steps", "30", "--checkpoint-every", "1", "--held-out", "1", "--device", "cpu"]
    quick += ["--threads", str(torch.get_num_threads())]  # as here: another number of threads rounds otherwise
    command = [sys.executable, str(TOOL), *arguments, *quick]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed/classifier.checkpoint").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "goes on from step" in again.stderr
    facts = json.loads((tmp_path / "killed/classifier.json").read_text())
    assert (facts["steps"], facts["batch_size"]) == (30, BATCH)
    assert 0 <= facts["validation"]["accuracy"] <= 1
    (tmp_path / "undisturbed").mkdir()
    undisturbed = run(ClassifierTraining(world, tmp_path / "undisturbed"), 30)
    killed = torch.load(tmp_path / "killed/classifier.checkpoint", weights_only=True)
    assert_same(killed["module"], undisturbed)


def test_a_checkpoint_of_other_settings_is_refused(world: World, models: Path) -> None:
    with pytest.raises(SystemExit, match="made with other settings"):
        run(ClassifierTraining(world, models), 7)


@pytest.mark.parametrize("kind", [VaeTraining, InpainterTraining])
def test_what_must_be_trained_first_is_named(kind: type[Training], world: World, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="first"):
        kind(world, tmp_path)


def test_the_inpainter_is_an_ordinary_pipeline(world: World, models: Path) -> None:
    run(small(InpainterTraining(world, models)), 1)
    inpainter = build_inpainter(ModelSpec(adapter="diffusers", name=str(models / "inpainter")), "cpu", "fp32")
    assert (inpainter.resolution, inpainter.latent_shape(), inpainter.max_tokens) == (64, (4, 16, 16), 32)
    assert inpainter.count_tokens("A photo only remain palm tree, rock.") == 11
    random = np.random.default_rng(1)
    scenes = [any_scene(world, random) for _ in range(32)]
    latents = inpainter.encode_images(to_pixels(scenes).permute(0, 3, 1, 2) / 255)
    assert latents.std().item() == pytest.approx(1, rel=0.15)
    # Stable Diffusion's noise schedule: ᾱ at timestep 551, where 0.6 of 20 steps begin.
    roots = (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * step / 999 for step in range(552))
    alpha_bar = math.prod(1 - root**2 for root in roots)
    assert inpainter.alpha_bar(20, 0.6, "ddim").item() == pytest.approx(alpha_bar, rel=1e-4)


def test_the_text_encoder_begins_as_the_text_tower_of_clip(world: World, models: Path) -> None:
    clip = build_encoder(ModelSpec(adapter="open_clip", name=str(models / "clip")), "cpu", "fp32")
    training = InpainterTraining(world, models)
    text = "a photo with palm tree and rock"
    tokens = training.tokenizer(text, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        read = training.module["text_encoder"].eval()(tokens).pooler_output
        tower = load_file(models / "clip" / "open_clip_model.safetensors")
        features = normalize(read @ tower["text_projection"].float(), dim=-1)
    torch.testing.assert_close(features, normalize(clip.encode_texts([text]), dim=-1), rtol=0, atol=1e-5)


def test_a_step_depends_on_its_number_alone(world: World, tmp_path: Path) -> None:
    training = ClipTraining(world, tmp_path)
    first, again, other = training.batch(5, 8), training.batch(5, 8), training.batch(6, 8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["pixels"], other["pixels"])


def test_every_word_of_the_world_is_one_token(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path, 16)
    assert "bear" in words()
    assert all(len(tokenizer.tokenize(word)) == 1 for word in words())
    assert len(tokenizer.tokenize("accountancy")) > 1
    ids = tokenizer("a polar bear").input_ids
    assert max(ids) == ids[-1] == tokenizer.eos_token_id == len(tokenizer) - 1


def test_prompts_name_what_is_to_be_seen(world: World) -> None:
    random = np.random.default_rng(3)
    scene = world.scene("train", "panda", 0)
    things = {*scene.elements, scene.background}
    with_main = [diffusion_prompt(random, scene) for _ in range(400)]
    without = [diffusion_prompt(random, scene.without_main()) for _ in range(400)]
    assert 20 <= with_main.count("") <= 60
    assert all("panda" in prompt for prompt in with_main if prompt)
    for prompt in filter(None, without):
        named = prompt.removeprefix("A photo only remain ").removesuffix(".").split(", ")
        assert set(named) <= things
        assert len(named) >= len(things) - 1
    caption = surroundings(random, scene)
    assert sum(thing in caption for thing in things) >= 2
    assert "panda" not in caption
