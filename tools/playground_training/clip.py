"""The miniature CLIP: a small residual network and a text tower of two layers, for every concept of the world."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from playground_training.language import label, surroundings, write_tokenizer
from playground_training.loop import Batch, Figures, Recipe, Training, save_half
from synood_cli.models.build import build_encoder
from synood_cli.playground.backgrounds import BACKGROUNDS
from synood_cli.playground.canvas import SIZE
from synood_cli.playground.scenes import Scene
from synood_cli.playground.world import Split, World
from synood_cli.records import ModelSpec

MEAN, STD = 0.5, 0.25
"""Of every channel: near the world's own."""
HIGHEST_LOGIT_SCALE = 100.0
CONTEXT_LENGTH = 16
"""Tokens of the longest text: enough for two things of two words."""
SCENES = 1_000_000
"""Scenes of each concept that there are to be drawn from; so nearly every one is new."""
EACH = 5
"""Scenes of each concept that figures are measured on; ten times as many of the in-distribution ones."""


def model_config(vocabulary: int) -> dict[str, object]:
    return {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": SIZE,
            "timm_model_name": "resnet10t",
            "timm_pool": "avg",
            "timm_proj": "linear",
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocabulary,
            "hf_tokenizer_name": "its own, in this folder",
            "width": 128,
            "heads": 4,
            "layers": 2,
        },
    }


class ClipTraining(Training):
    """Contrastive training: each batch of images against its captions, both ways.

    The images of a batch show different main objects. Half of the captions name it, half two of the things around it.
    """

    name = "clip"
    recipe = Recipe(steps=2400, batch_size=128, learning_rate=1e-3, weight_decay=0.05, warm_up=200)

    def __init__(self, world: World, models: Path) -> None:
        self.world = world
        torch.manual_seed(world.seed)
        with tempfile.TemporaryDirectory() as folder:
            self.tokenizer = write_tokenizer(Path(folder), CONTEXT_LENGTH)
        self.config = model_config(len(self.tokenizer))
        self.module = open_clip.CLIP(**self.config)

    def batch(self, step: int, size: int) -> Batch:
        random = np.random.default_rng((self.world.seed, step))
        names = random.choice(list(self.world.concepts), size, replace=False)
        drawn = self.world.batch("train", [(str(name), int(random.integers(SCENES))) for name in names])
        captions = []
        for scene in drawn.scenes:
            main = scene.main or scene.background
            about_main = random.uniform() < 0.5 or not scene.elements
            captions.append(label(random, main) if about_main else surroundings(random, scene))
        return {"pixels": torch.from_numpy(drawn.pixels), "tokens": self._tokens(captions)}

    def losses(self, batch: Batch, random: torch.Generator) -> dict[str, Tensor]:
        pixels = batch["pixels"].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        images = self.module.encode_image((pixels / 255 - MEAN) / STD)
        texts = self.module.encode_text(batch["tokens"])
        cosines = normalize(images.float(), dim=-1) @ normalize(texts.float(), dim=-1).T
        logits = self.module.logit_scale.exp() * cosines.float()
        own = torch.arange(len(logits), device=logits.device)
        loss = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
        return {"loss": loss, "accuracy": (logits.argmax(1) == own).float().mean()}

    def after_step(self) -> None:
        with torch.no_grad():
            self.module.logit_scale.clamp_(max=math.log(HIGHEST_LOGIT_SCALE))

    def export(self, folder: Path) -> None:
        write_tokenizer(folder, CONTEXT_LENGTH)
        preprocessing = {"size": SIZE, "mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic"}
        config = {"model_cfg": self.config, "preprocess_cfg": preprocessing}
        (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
        save_half(self.module, folder / "open_clip_model.safetensors")

    def figures(self, folder: Path, split: Split, device: str) -> Figures:
        """Zero-shot accuracy among the in-distribution names and among all names, with the prompt of labels; the share
        of scenes whose every element is nearer than the average absent one (`elements_ranked`: an AUROC); and the
        accuracy of the background, with the prompt of tags."""
        encoder = build_encoder(ModelSpec(adapter="open_clip", name=str(folder)), device, "fp32")
        ind, everything = self.world.names("ind"), list(self.world.concepts)

        def texts(template: str, names: Iterable[str]) -> Tensor:
            return encoder.encode_texts([template.format(name) for name in names])

        def images(names: list[str], each: int) -> tuple[Tensor, list[Scene]]:
            drawn = self.world.batch(split, [(name, number) for name in names for number in range(each)])
            prepared = torch.stack([encoder.prepare(Image.fromarray(image)) for image in drawn.pixels])
            features = [encoder.encode_images(chunk) for chunk in prepared.split(500)]
            return normalize(torch.cat(features), dim=-1), drawn.scenes

        features, scenes = images(ind, 10 * EACH)
        own = torch.arange(len(ind), device=features.device).repeat_interleave(10 * EACH)
        labels = texts("the nice {}", ind)
        named = (features @ labels.T).argmax(1) == own
        tags = [*self.world.names("context"), *BACKGROUNDS]
        similarities = (features @ texts("a photo with {}", tags).T).cpu()
        present = torch.tensor([[tag in (*scene.elements, scene.background) for tag in tags] for scene in scenes])
        z_scores = (similarities - similarities.mean(1, keepdim=True)) / similarities.std(1, keepdim=True)
        found = z_scores.topk(4).indices
        others, _ = images(everything, EACH)
        theirs = torch.arange(len(everything), device=features.device).repeat_interleave(EACH)
        among_all = (others @ texts("the nice {}", everything).T).argmax(1) == theirs
        return {
            "zero_shot_accuracy_ind": round(named.float().mean().item(), 4),
            "zero_shot_accuracy_all_names": round(among_all.float().mean().item(), 4),
            "precision_of_best_4_tags": round(present.gather(1, found).float().mean().item(), 4),
            "precision_by_chance": round(present.float().mean().item(), 4),
            "logit_scale": round(encoder.logit_scale, 2),
        }

    def _tokens(self, captions: list[str]) -> Tensor:
        tokens: Tensor = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=CONTEXT_LENGTH, return_tensors="pt"
        ).input_ids
        return tokens
