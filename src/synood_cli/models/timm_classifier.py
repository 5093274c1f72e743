"""Image classifiers through timm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo, resolve_model_data_config
from torch import Tensor
from torch.nn.functional import interpolate

from synood_cli.errors import ModelError
from synood_cli.models.hub_files import hub_id
from synood_cli.models.loading import GRADIENT_DTYPES, computes, loading
from synood_cli.models.model_files import cleaned, fetched, shown, weights
from synood_cli.models.parameter_bound import bounded_by
from synood_cli.models.protocols import Classifier, LinearLayer
from synood_cli.records import ModelSpec, Precision, printable

WEIGHTS = "model.safetensors"
LARGEST_SIDE = 4096
"""Pixels of a side of a classifier's input, at most; the largest of timm's have 1,024."""
LONGEST_LABEL = 1000
"""Characters of a label; ImageNet's longest has some 130."""

_IMAGENET_1K = re.compile(r"in1k(_\d+)?$")
"""Weight tags of checkpoints over ImageNet's 1000 classes; a number is the image size ("sail_in1k_384")."""


class TimmClassifier(Classifier):
    """g: a pretrained classifier that timm loads, frozen and in evaluation mode.

    `spec.name` is a built-in name with its weight tag (`resnet50.tv2_in1k`), a hub id (`org/repository`, `hf-hub:` in
    front or not) or a folder in timm's own format. Raises ModelError when there are no weights to load, or when the
    checkpoint's label names are not as many as its logits. Weights of ImageNet-1k, which come without label names, have
    its classes: WordNet ids, with their words as aliases. `precision` fp16 means fp32 here: g is differentiated.
    """

    def __init__(self, spec: ModelSpec, device: str, precision: Precision) -> None:
        self.spec = spec
        self.device = device
        self.dtype = GRADIENT_DTYPES[precision]
        with loading(spec, "classifier", "timm"):
            model = _load(spec)
        self._model = model.eval().requires_grad_(False).to(device, self.dtype)
        self.num_classes: int = model.num_classes
        self.class_names: list[str] | None = _labels(spec, model.pretrained_cfg.get("label_names"))
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ModelError(
                f"{spec.name!r} has {self.num_classes} logits but {len(self.class_names)} label names",
                hint="correct label_names in its config.json",
            )
        self.class_aliases: list[set[str]] | None = [{name} for name in self.class_names] if self.class_names else None
        tag = str(model.pretrained_cfg.get("tag") or "")
        if self.class_names is None and self.num_classes == 1000 and _IMAGENET_1K.search(tag):
            self.class_names, self.class_aliases = imagenet_classes()
        # The size of evaluation: some checkpoints (torchvision's V2 weights) were trained at a smaller one.
        data = resolve_model_data_config(model, use_test_size=True)
        _check_input(spec, data)
        self._size: tuple[int, int] = data["input_size"][1:]
        self._interpolation = "bicubic" if data["interpolation"] == "bicubic" else "bilinear"
        self.width: int = getattr(model, "head_hidden_size", None) or model.num_features
        self._mean = torch.tensor(data["mean"], device=device).view(3, 1, 1)
        self._std = torch.tensor(data["std"], device=device).view(3, 1, 1)

    @computes("classifier")
    def logits(self, pixels: Tensor) -> Tensor:
        """g(x): (B, 3, H, W) in [0, 1], any H and W → (B, C), float32. Differentiable.

        The whole image is resized, with antialiasing, to the checkpoint's evaluation size, without a crop: what is
        cropped away would get no gradient. Then it is normalised as the checkpoint says.
        """
        logits: Tensor = self._model(self._normalised(self._resized(pixels.to(self.device, torch.float32))))
        return logits.float()

    def prepare(self, image: Image.Image) -> Tensor:
        """One RGB image, resized as in `logits`: (3, h, w) in [0, 1], float32 on the CPU. Thread-safe."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)
        return self._resized(pixels[None])[0].clamp(0, 1)

    def prepared_bytes(self, width: int, height: int) -> int:
        """The memory that `prepare` takes for an image of width × height pixels, about: bytes, floats, and rows that
        are scaled already."""
        return 3 * width * height + 12 * width * height + 12 * self._size[1] * height

    @computes("classifier")
    @torch.no_grad()
    def encode_images(self, prepared: Tensor) -> Tensor:
        """f of what `prepare` gives: (B, 3, h, w) → (B, D), float32, so that W f + b are the logits."""
        maps = self._model.forward_features(self._normalised(prepared.to(self.device, torch.float32)))
        features: Tensor = self._model.forward_head(maps, pre_logits=True)
        return features.float()

    def last_layer(self) -> LinearLayer:
        """W and b, float32 on the device. Raises ModelError where the last layer is not linear in the features."""
        layer = self._model.get_classifier()
        if not isinstance(layer, torch.nn.Linear) or layer.in_features != self.width:
            raise ModelError(
                f"the last layer of {self.spec.name!r} is not linear in its features",
                hint="the baselines need a classifier that ends in one linear layer, such as a ResNet or a ViT",
            )
        bias = torch.zeros(self.num_classes, device=self.device) if layer.bias is None else layer.bias.float()
        return LinearLayer(layer.weight.float(), bias)

    def _resized(self, pixels: Tensor) -> Tensor:
        return interpolate(pixels, self._size, mode=self._interpolation, align_corners=False, antialias=True)

    def _normalised(self, pixels: Tensor) -> Tensor:
        return ((pixels - self._mean) / self._std).to(self.dtype)


def imagenet_classes() -> tuple[list[str], list[set[str]]]:
    """WordNet ids of the 1000 classes in logit order, and what each is called: its id, and its words ("tench, Tinca
    tinca"), together and one by one."""
    imagenet = ImageNetInfo("imagenet-1k")
    ids, words = imagenet.label_names(), imagenet.label_descriptions()
    return ids, [{name, synonyms, *synonyms.split(", ")} for name, synonyms in zip(ids, words, strict=True)]


def _labels(spec: ModelSpec, found: Any) -> list[str] | None:
    """The label names of a checkpoint, in logit order, None without any. Raises ModelError for what are no names."""
    names = list(found) if isinstance(found, list | tuple | dict) else found
    if not names:
        return None
    named = isinstance(names, list) and all(
        isinstance(name, str) and name.strip() and name.isprintable() and len(name) <= LONGEST_LABEL for name in names
    )
    if not named:
        raise ModelError(
            f"{spec.name!r:.200}: label_names are no list of names", hint="correct label_names in its config.json"
        )
    return names


def _check_input(spec: ModelSpec, data: dict[str, Any]) -> None:
    """Raise ModelError unless images of the size, mean and deviation that a checkpoint asks for can be."""
    size, mean, deviation = (data[key] for key in ("input_size", "mean", "std"))
    wrong = {
        "input_size": not _numbers(size, 1, LARGEST_SIDE) or not all(type(side) is int for side in size),
        "mean": not _numbers(mean, -1000, 1000),
        "std": not _numbers(deviation, 0.001, 1000),
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ModelError(
                f"{spec.name!r:.200}: pretrained_cfg.{name} is none that images could have",
                hint="correct it in its config.json",
            )


def _numbers(found: Any, least: float, largest: float) -> bool:
    """Whether it is three numbers in that range."""
    is_three = isinstance(found, list | tuple) and len(found) == 3
    return is_three and all(isinstance(part, float | int) and least <= part <= largest for part in found)


def _load(spec: ModelSpec) -> Any:
    """The model that `spec` names, with its weights. Raises ModelError for an unknown name, and for settings or weights
    that are not allowed."""
    if spec.folder is not None or hub_id(spec) is not None:
        files = ("config.json", WEIGHTS)
        folder = fetched(spec, files)
        bound = bounded_by([weights(folder, [WEIGHTS])])
        with shown(folder, ("config.json", "*.safetensors"), _checked) as view, bound:
            return timm.create_model(f"local-dir:{view}", pretrained=True)
    if not timm.is_model(spec.name):
        near = timm.list_models(f"{spec.name.split('.')[0]:.80}*", pretrained=True)[:3]
        hint = f"did you mean {', '.join(near)}?" if near else "give a timm name, a hub id org/repository or a folder"
        raise ModelError(f"timm has no model named {spec.name!r:.200}", hint=hint)
    published = timm.get_pretrained_cfg(spec.name)
    repository = published.hf_hub_id if published else None
    if not repository:
        raise ModelError(f"timm publishes no weights of {spec.name!r} on the hub", hint="choose another classifier")
    revision = None if spec.revision == spec.name.partition(".")[2] else spec.revision
    names = (f"{Path(published.hf_hub_filename).stem}.safetensors",) if published.hf_hub_filename else (WEIGHTS,)
    folder = fetched(ModelSpec(adapter="timm", name=repository, revision=revision), names)
    return timm.create_model(
        spec.name, pretrained=True, pretrained_cfg_overlay={"file": str(weights(folder, names)), "custom_load": False}
    )


def _checked(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """`config.json` of a foreign classifier, without places of weights.

    Raises ModelError unless its architecture is one that timm has built in and its arguments are plain.
    """
    architecture = document.get("architecture")
    plain = isinstance(architecture, str) and ":" not in architecture and "/" not in architecture
    if not plain or not timm.is_model(architecture):
        raise ModelError(
            f"{name}: timm has no architecture {printable(str(architecture)[:80])!r}", hint="use a classifier of timm's"
        )
    arguments = document.get("model_args") or {}
    if not isinstance(arguments, dict):
        raise ModelError(f"{name}: model_args are no table of arguments", hint="fetch the model again")
    for argument, value in arguments.items():
        if argument in _NOT_PLAIN or not _is_plain(value):
            raise ModelError(
                f"{name}: model_args.{printable(str(argument)[:80])} is not allowed", hint="fetch the model again"
            )
    found: dict[str, Any] = cleaned(name, document)
    if isinstance(found.get("pretrained_cfg"), dict):
        for place in ("state_dict", "source"):
            found["pretrained_cfg"].pop(place, None)
    return found


_NOT_PLAIN = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only")
_LARGEST = 2**20
"""Largest number that an argument of an architecture has: 21,843 classes."""


def _is_plain(value: Any) -> bool:
    """Whether an argument is a number, a text, or a list of such."""
    if isinstance(value, list):
        return len(value) <= 64 and all(_is_plain(part) for part in value)
    if isinstance(value, int | float):
        return -_LARGEST <= value <= _LARGEST
    return value is None or isinstance(value, str)
