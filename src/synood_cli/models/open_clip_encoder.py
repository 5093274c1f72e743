"""CLIP models through open_clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import open_clip
import torch
from huggingface_hub import snapshot_download
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module

from synood_cli.errors import ModelError
from synood_cli.models.loading import hub_id, loading
from synood_cli.models.protocols import ImageTextEncoder
from synood_cli.records import ModelSpec, Precision

TEXT_BATCH = 256
"""Labels a forward pass of the text tower: large enough to fill a GPU, small enough for any."""


class OpenClipEncoder(ImageTextEncoder):
    """F and H of the paper: a CLIP that open_clip loads, frozen.

    `spec.name` is a built-in name (`ViT-B-16`, with a weight tag or a checkpoint file as `spec.pretrained`), a hub id
    (`org/repository`, `hf-hub:` in front or not) or a folder in open_clip's own format. A weight tag that was trained
    with QuickGELU (OpenAI's) is always run with it. Raises ModelError when there are no weights to load.
    """

    def __init__(self, spec: ModelSpec, device: str, precision: Precision) -> None:
        self.spec = spec
        self.device = device
        with loading(spec, "CLIP encoder", "open_clip"):
            name, pretrained = _source(spec)
            tag = open_clip.get_pretrained_cfg(name, pretrained) if pretrained else {}
            config = open_clip.get_model_config(name)
            if config is None:
                raise ModelError(
                    f"open_clip has no model named {name!r}",
                    hint="give a built-in name such as ViT-B-16, a hub id org/repository or a folder",
                )
            self.quick_gelu: bool = bool(config.get("quick_gelu") or tag.get("quick_gelu"))
            self.width: int = config["embed_dim"]
            model = open_clip.create_model(
                name,
                pretrained,
                precision=precision,
                device=device,
                force_quick_gelu=self.quick_gelu,
                require_pretrained=True,
            )
            self._tokenizer = open_clip.get_tokenizer(name)
        self._model = model.eval().requires_grad_(False)
        self.parameters: int = sum(parameter.numel() for parameter in model.parameters())
        self._input_dtype = open_clip.get_input_dtype(precision) or torch.float32
        self.logit_scale: float = model.logit_scale.exp().item()
        self.preprocessing: dict[str, object] = dict(open_clip.get_model_preprocess_cfg(model))
        size = open_clip.get_model_preprocess_cfg(model)["size"]
        self._input_size: tuple[int, int] = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
        self.image_tower: Module = model.visual
        self.transform: Callable[[Image.Image], Tensor] = image_transform_v2(
            PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
        )

    def prepare(self, image: Image.Image) -> Tensor:
        """open_clip's own evaluation transform of one RGB image: (3, H, W) float32 on the CPU. Thread-safe."""
        return self.transform(image)

    def prepared_bytes(self, width: int, height: int) -> int:
        """The memory that `prepare` takes for an image of width × height pixels, about: Pillow scales the rows, then
        the columns, 4 bytes a pixel; where the short side becomes the input's, a thin image grows along with it."""
        rows, columns = self._input_size
        if self.preprocessing.get("resize_mode", "shortest") == "shortest":
            scale = max(rows, columns) / min(width, height)
            rows, columns = int(height * scale) + 1, int(width * scale) + 1
        return 4 * columns * (height + rows)

    @torch.no_grad()
    def encode_images(self, prepared: Tensor) -> Tensor:
        """F(x) *before* normalisation, float32: (B, 3, H, W) → (B, D)."""
        features: Tensor = self._model.encode_image(prepared.to(self.device, self._input_dtype))
        return features.float()

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """H(y) *before* normalisation, float32: N texts → (N, D). Texts longer than the context are cut at its end."""
        batches = [list(texts[start : start + TEXT_BATCH]) for start in range(0, len(texts), TEXT_BATCH)]
        features = [self._encode_tokens(self._tokenizer(batch)).float() for batch in batches]
        return torch.cat(features) if features else torch.empty(0, self.width, device=self.device)

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        """(N, context) token ids → (N, D).

        A causal tower that is read at the end token never sees what follows it: the padding after the longest text
        of the batch is cut off, which leaves a dozen positions of 77 where the texts are labels.
        """
        model = self._model
        features: Tensor
        if isinstance(model, open_clip.CLIP) and model.attn_mask is not None and model.text_pool_type == "argmax":
            length = int(tokens.argmax(dim=-1).max()) + 1
            cut = {
                "model.positional_embedding": model.positional_embedding[:length],
                "model.attn_mask": model.attn_mask[:length, :length],
            }
            features = functional_call(_TextTower(model), cut, tokens[:, :length].to(self.device))
        else:
            features = model.encode_text(tokens.to(self.device))
        return features


class _TextTower(Module):
    """H of an open_clip model as a module (whose own forward pass normalises): tokens (N, context) → (N, D)."""

    def __init__(self, model: open_clip.CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(tokens)
        return features


def _source(spec: ModelSpec) -> tuple[str, str | None]:
    """What open_clip is asked for: (name, weight tag or file). A hub repository becomes a folder, so that its
    revision, which open_clip cannot be told, is kept."""
    folder = spec.folder
    repository = hub_id(spec)
    if folder is None and repository is not None:
        folder = _fetch(repository, spec.revision)
    if folder is not None:
        if not any(path.suffix in (".safetensors", ".bin", ".pth") for path in folder.iterdir()):
            raise ModelError(f"{folder} holds no weights", hint="expected open_clip_model.safetensors in it")
        return f"local-dir:{folder}", None
    if not spec.pretrained:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(spec.name)) or "none"
        raise ModelError(f"{spec.name!r} needs a weight tag or a checkpoint file", hint=f"its weight tags: {tags}")
    if spec.revision not in (None, spec.pretrained) and not Path(spec.pretrained).is_file():
        raise ModelError(
            f"{spec.name!r} with weights {spec.pretrained!r} is built into open_clip and has no revisions",
            hint="name the hub repository (org/repository) to choose a revision",
        )
    return spec.name, spec.pretrained


def _fetch(repository: str, revision: str | None) -> Path:
    """The local snapshot of a hub repository: settings, tokenizer, and weights as safetensors where there are any."""
    settings = ["*.json", "*.txt", "*.model"]
    folder = Path(
        snapshot_download(repository, revision=revision, allow_patterns=[*settings, "open_clip*.safetensors"])
    )
    if not any(folder.glob("*.safetensors")):
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=[*settings, "open_clip*.bin"]))
    return folder
