"""Image classifiers through timm."""

from __future__ import annotations

import re
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
from synood_cli.models.loading import GRADIENT_DTYPES, loading
from synood_cli.models.protocols import Classifier, LinearLayer
from synood_cli.records import ModelSpec, Precision

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
            name, overlay = _source(spec)
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
        self._model = model.eval().requires_grad_(False).to(device, self.dtype)
        self.num_classes: int = model.num_classes
        labels = model.pretrained_cfg.get("label_names")
        self.class_names: list[str] | None = [str(label) for label in labels] if labels else None
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
        self._size: tuple[int, int] = data["input_size"][1:]
        self._interpolation = "bicubic" if data["interpolation"] == "bicubic" else "bilinear"
        self.width: int = getattr(model, "head_hidden_size", None) or model.num_features
        self._mean = torch.tensor(data["mean"], device=device).view(3, 1, 1)
        self._std = torch.tensor(data["std"], device=device).view(3, 1, 1)

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


def _source(spec: ModelSpec) -> tuple[str, dict[str, Any] | None]:
    """timm's name for `spec`, and what to change in a built-in name's settings so that its revision is kept."""
    if spec.folder is not None:
        return f"local-dir:{spec.folder}", None
    repository = hub_id(spec)
    if repository is not None:
        return f"hf-hub:{repository}" + (f"@{spec.revision}" if spec.revision else ""), None
    if not timm.is_model(spec.name):
        near = timm.list_models(f"{spec.name.split('.')[0]}*", pretrained=True)[:3]
        hint = f"did you mean {', '.join(near)}?" if near else "give a timm name, a hub id org/repository or a folder"
        raise ModelError(f"timm has no model named {spec.name!r}", hint=hint)
    tag = spec.name.partition(".")[2]
    if spec.revision in (None, tag):
        return spec.name, None
    return spec.name, {"hf_hub_id": f"timm/{spec.name}@{spec.revision}"}
