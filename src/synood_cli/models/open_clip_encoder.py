"""CLIP models through open_clip."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.model import resize_pos_embed
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module

from synood_cli.errors import ModelError
from synood_cli.models.checkpoint_file import check_checkpoint_file
from synood_cli.models.equal_batches import in_equal_batches
from synood_cli.models.hub_files import hub_id
from synood_cli.models.loading import computes, loading, said_by
from synood_cli.models.model_files import PLAIN_WEIGHTS, TOKENIZER, existing, fetched, shown, weights
from synood_cli.models.open_clip_settings import CONFIG, checked_settings
from synood_cli.models.parameter_bound import bounded_by
from synood_cli.models.protocols import ImageTextEncoder
from synood_cli.records import ModelSpec, Precision, printable

TEXT_BATCH, CPU_TEXTS = 256, 32
"""Texts of a forward pass of the text tower: large enough to fill a GPU, small enough for any; and on the CPU, where a
few texts pay for the whole pass."""

TEXT_STEP = 8
"""Texts are cut to multiples of so many tokens: their passes have few shapes, and the shape is a text's own."""

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
"""Names of a CLIP's weights, the first one that exists."""

NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
"""The smallest text tower, in place of the CLIP's own where only images are embedded."""

_IMAGE = "visual."
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "position_ids", "attn_mask")


class _Source(NamedTuple):
    """Where a CLIP comes from: its settings, its weights, and the folder that may hold its tokenizer (None: built
    in)."""

    model: dict[str, Any]
    preprocessing: dict[str, Any]
    weights: Path
    folder: Path | None


class OpenClipEncoder(ImageTextEncoder):
    """F and H of the paper: a CLIP that open_clip builds, frozen.

    `spec.name` is a built-in name (`ViT-B-16`, with a weight tag or a checkpoint file as `spec.pretrained`), a hub id
    (`org/repository`, `hf-hub:` in front or not) or a folder in open_clip's own format. A weight tag that was trained
    with QuickGELU (OpenAI's) is always run with it. Only the image tower is built until a text is embedded.

    Weights are safetensors; only the checkpoint file that the user names may be one of PyTorch's, read as weights
    alone. Settings of a folder or repository are checked first (`checked_settings`). Raises ModelError when there
    are no weights to load.
    """

    def __init__(self, spec: ModelSpec, device: str, precision: Precision) -> None:
        self.spec = spec
        self.device = device
        self._precision = precision
        with loading(spec, "CLIP encoder", "open_clip"):
            source = self._source = _find(spec)
            self.quick_gelu: bool = bool(source.model.get("quick_gelu"))
            self.width: int = source.model["embed_dim"]
            state, others = _image_weights(source.weights)
            model = self._build({**source.model, "text_cfg": NO_TEXT, "custom_text": False, "multimodal_cfg": None})
            _load_image_tower(model, state, source.weights)
            self.logit_scale: float = _logit_scale(state.get("logit_scale", model.logit_scale), source.weights)
        self._model: Module | None = None
        self._tokenizer: Callable[[Sequence[str]], Tensor] | None = None
        self.parameters: int = others + sum(parameter.numel() for parameter in model.visual.parameters())
        self._input_dtype = open_clip.get_input_dtype(precision) or torch.float32
        self.preprocessing: dict[str, object] = dict(open_clip.get_model_preprocess_cfg(model))
        size = open_clip.get_model_preprocess_cfg(model)["size"]
        sides = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
        shortest = self.preprocessing.get("resize_mode", "shortest") == "shortest"
        self.transform_bytes = partial(_transform_bytes, sides, shortest)
        self.image_tower: Module = model.visual.eval().requires_grad_(False)
        self.transform: Callable[[Image.Image], Tensor] = image_transform_v2(
            PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
        )

    def prepare(self, image: Image.Image) -> Tensor:
        """open_clip's own evaluation transform of one RGB image: (3, H, W) float32 on the CPU. Thread-safe."""
        return self.transform(image)

    def prepared_bytes(self, width: int, height: int) -> int:
        """The memory that `prepare` takes for an image of width × height pixels, about."""
        return self.transform_bytes(width, height)

    @computes("CLIP encoder")
    @torch.no_grad()
    def encode_images(self, prepared: Tensor) -> Tensor:
        """F(x) *before* normalisation, float32: (B, 3, H, W) → (B, D)."""
        found = self.image_tower(prepared.to(self.device, self._input_dtype))
        features: Tensor = found[0] if isinstance(found, tuple) else found  # a CoCa's tower gives its tokens too
        return features.float().reshape(len(prepared), self.width)

    @computes("CLIP encoder")
    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """H(y) *before* normalisation, float32: N texts → (N, D). Texts longer than the context are cut at its
        end. A text's features do not depend on the others."""
        if not texts:
            return torch.empty(0, self.width, device=self.device)
        model, tokenize = self._with_text_tower()
        tokens = tokenize(list(texts))
        lengths = _lengths(model, tokens)
        rows = CPU_TEXTS if torch.device(self.device).type == "cpu" else TEXT_BATCH
        features = torch.empty(len(texts), self.width, device=self.device)
        for length in sorted(set(lengths.tolist())):
            [chosen] = (lengths == length).nonzero(as_tuple=True)
            encode = partial(self._encode_tokens, model, length=length)
            features[chosen.to(self.device)] = in_equal_batches(encode, tokens[chosen], rows)
        return features

    def _with_text_tower(self) -> tuple[Module, Callable[[Sequence[str]], Tensor]]:
        """Both towers and the tokenizer, built when the first text is embedded."""
        if self._model is None or self._tokenizer is None:
            source = self._source
            with loading(self.spec, "CLIP encoder", "open_clip"), ExitStack() as stack:
                settings = dict(source.model)
                if text_model := settings["text_cfg"].get("hf_model_name"):
                    config = ("config.json",)
                    folder = fetched(_published(text_model), config)
                    shown_config = stack.enter_context(shown(folder, config))
                    settings["text_cfg"] = {**settings["text_cfg"], "hf_model_name": str(shown_config)}
                model = self._build(settings)
                _load_both_towers(model, source.weights)
                self._tokenizer = _tokenizer(self.spec, source)
            self._model = model.eval().requires_grad_(False)
            self.image_tower = model.visual
        return self._model, self._tokenizer

    def _build(self, settings: Mapping[str, Any]) -> Any:
        """The model of these settings, with random weights."""
        given = {key: value for key, value in settings.items() if value is not None}
        with tempfile.TemporaryDirectory(prefix="synood-model-") as folder:
            document = {"model_cfg": given, "preprocess_cfg": self._source.preprocessing}
            (Path(folder) / CONFIG).write_text(json.dumps(document), encoding="utf-8")
            with bounded_by([self._source.weights]):
                return open_clip.create_model(
                    f"local-dir:{folder}",
                    load_weights=False,
                    pretrained_text=False,
                    precision=self._precision,
                    device=self.device,
                    force_quick_gelu=self.quick_gelu,
                )

    def _encode_tokens(self, model: Any, tokens: Tensor, *, length: int) -> Tensor:
        """(N, context) token ids, of which the first `length` are read → (N, D), float32."""
        features: Tensor
        if _reads_end_token(model):
            cut = {
                "model.positional_embedding": model.positional_embedding[:length],
                "model.attn_mask": model.attn_mask[:length, :length],
            }
            features = functional_call(_TextTower(model), cut, tokens[:, :length].to(self.device))
        else:
            features = model.encode_text(tokens.to(self.device))
        return features.float()


def _transform_bytes(sides: tuple[int, int], shortest: bool, width: int, height: int) -> int:
    """The memory that the transform takes for an image of width × height pixels, about: Pillow scales the rows, then
    the columns, 4 bytes a pixel. Where the `shortest` side becomes the input's, a thin image grows along with it."""
    rows, columns = sides
    if shortest:
        scale = max(rows, columns) / min(width, height)
        rows, columns = int(height * scale) + 1, int(width * scale) + 1
    return 4 * columns * (height + rows)


def _lengths(model: Module, tokens: Tensor) -> Tensor:
    """How many of its tokens the tower must read of each text: (N, context) → (N,).

    A causal tower that is read at the end token never sees what follows it: the padding after that is cut off, up to a
    multiple of TEXT_STEP, which leaves some 8 positions of 77 where the texts are labels.
    """
    count, context = tokens.shape
    if not _reads_end_token(model):
        return torch.full((count,), context)
    return ((tokens.argmax(dim=-1) // TEXT_STEP + 1) * TEXT_STEP).clamp(max=context)


def _reads_end_token(model: Module) -> bool:
    return isinstance(model, open_clip.CLIP) and model.attn_mask is not None and model.text_pool_type == "argmax"


class _TextTower(Module):
    """H of an open_clip model as a module (whose own forward pass normalises): tokens (N, context) → (N, D)."""

    def __init__(self, model: open_clip.CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(tokens)
        return features


def _find(spec: ModelSpec) -> _Source:
    """Where the CLIP that `spec` names comes from, fetched from the hub if need be.

    Raises ModelError for an unknown name, a checkpoint that is none, and settings that are not allowed.
    """
    if spec.folder is not None or hub_id(spec) is not None:
        folder = fetched(spec, (CONFIG, *WEIGHTS))
        model, preprocessing = checked_settings(folder)
        return _Source(model, preprocessing, weights(folder, WEIGHTS), folder)
    model = open_clip.get_model_config(spec.name)
    if model is None:
        raise ModelError(
            f"open_clip has no model named {spec.name!r:.200}",
            hint="give a built-in name such as ViT-B-16, a hub id org/repository or a folder",
        )
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(spec.name)) or "none"
    if not spec.pretrained:
        raise ModelError(f"{spec.name!r} needs a weight tag or a checkpoint file", hint=f"its weight tags: {tags}")
    checkpoint = spec.file
    if checkpoint is not None:
        check_checkpoint_file(checkpoint, spec.name)
        return _Source(model, {}, checkpoint, None)
    if spec.revision not in (None, spec.pretrained):
        raise ModelError(
            f"{spec.name!r} with weights {spec.pretrained!r} is built into open_clip and has no revisions",
            hint="name the hub repository (org/repository) to choose a revision",
        )
    published = open_clip.get_pretrained_cfg(spec.name, spec.pretrained)
    if not published:
        raise ModelError(
            f"{spec.pretrained!r:.200} is not a known tag of {spec.name}, nor a file", hint=f"its weight tags: {tags}"
        )
    if published.get("quick_gelu"):
        model = {**model, "quick_gelu": True}
    return _Source(model, published, _published_weights(published), None)


def _published_weights(published: Mapping[str, Any]) -> Path:
    """The safetensors file of a weight tag, fetched from the repository that open_clip names for it."""
    repository, _, file = str(published["hf_hub"]).rpartition("/")
    names = (f"{Path(file).stem}.safetensors",) if file else WEIGHTS
    folder = fetched(ModelSpec(adapter="open_clip", name=repository), names)
    try:
        return weights(folder, names)
    except ModelError as error:
        raise ModelError(
            f"{repository} publishes no safetensors ({names[0]}), and other files, which can run code, are not read",
            hint="choose another weight tag; or download its file and, if you trust it, name it: --pretrained FILE",
        ) from error


def _image_weights(path: Path) -> tuple[dict[str, Tensor], int]:
    """(weights of the image tower and the logit scale by name; number of all the other parameters)."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            kept = {name for name in names if name.startswith(_IMAGE) or name == "logit_scale"}
            others = (math.prod(file.get_slice(name).get_shape()) for name in _parameters(names) if name not in kept)
            if any(name.startswith(_IMAGE) for name in kept):
                return {name: file.get_tensor(name) for name in kept}, sum(others) + ("logit_scale" in kept)
    try:
        state: dict[str, Tensor] = open_clip.factory.load_state_dict(str(path), weights_only=True)
    except UnpicklingError as error:
        raise ModelError(
            f"{printable(str(path))} holds more than weights, and other Python objects are not loaded",
            hint="where you trust it, save its weights alone: torch.save(model.state_dict(), 'checkpoint.pt')",
        ) from error
    return state, sum(state[name].numel() for name in _parameters(state) if not name.startswith(_IMAGE))


def _parameters(names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    return [name for name in names if not name.endswith(_BUFFERS)]


def _load_image_tower(model: Any, state: Mapping[str, Tensor], path: Path) -> None:
    found = open_clip.convert.convert_state_dict(model, dict(state))
    resize_pos_embed(found, model)
    tower = {name.removeprefix(_IMAGE): tensor for name, tensor in found.items() if name.startswith(_IMAGE)}
    if not tower:
        raise ModelError(f"{printable(str(path))} holds no image tower", hint="give the weights of a CLIP")
    if not all(tower[name].is_floating_point() for name, _ in model.visual.named_parameters() if name in tower):
        raise ModelError(f"{printable(str(path))} holds weights that are no floating-point numbers", hint=PLAIN_WEIGHTS)
    try:
        model.visual.load_state_dict(tower, strict=True)
    except RuntimeError as error:
        raise _do_not_fit(path, error) from error


def _load_both_towers(model: Module, path: Path) -> None:
    try:
        open_clip.load_checkpoint(model, str(path), weights_only=True)
    except RuntimeError as error:
        raise _do_not_fit(path, error) from error


def _do_not_fit(path: Path, error: RuntimeError) -> ModelError:
    return ModelError(
        f"{printable(str(path))}: the weights do not fit the settings: {said_by(error)}",
        hint="settings and weights belong to different models: fetch both again",
    )


def _logit_scale(stored: Tensor, path: Path) -> float:
    """The factor of the cosines, whose logarithm is `stored`. Raises ModelError when it is no positive number."""
    scale = stored.float().exp().item() if stored.numel() == 1 else math.nan
    if not 0 < scale < math.inf:
        raise ModelError(
            f"{printable(str(path))}: logit_scale is not the logarithm of a number",
            hint="use other weights of it",
        )
    return scale


def _published(name: str) -> ModelSpec:
    """The repository of a text model or tokenizer that open_clip's own settings name."""
    return ModelSpec(adapter="transformers", name=f"hf-hub:{_MOVED.get(name, name)}")


_MOVED = {
    **{name: f"FacebookAI/{name}" for name in ("roberta-base", "xlm-roberta-base", "xlm-roberta-large")},
    "bert-base-uncased": "google-bert/bert-base-uncased",
}
"""Where the names from before the hub had organisations have gone."""


def _tokenizer(spec: ModelSpec, source: _Source) -> Callable[[Sequence[str]], Tensor]:
    """What makes tokens of texts: (N,) → (N, context). A folder or repository has its own, never another one's."""
    text = source.model["text_cfg"]
    arguments = {key: value for key, value in (text.get("tokenizer_kwargs") or {}).items() if value is not None}
    context: int = text.get("context_length", 77)
    name = text.get("hf_tokenizer_name")
    if not name:
        plain: Callable[[Sequence[str]], Tensor] = SimpleTokenizer(context_length=context, **arguments)
        return plain
    files = (*TOKENIZER, "config.json")  # which names the class of a tokenizer that does not
    own = source.folder is not None
    folder = fetched(spec if own else _published(name), files)
    with shown(folder, files) as view:
        if not existing(view, TOKENIZER):
            raise ModelError(f"{printable(str(folder))} holds no tokenizer", hint="fetch the model again, completely")
        found: Callable[[Sequence[str]], Tensor] = HFTokenizer(
            str(view),
            context_length=context,
            tokenizer_mode=text.get("tokenizer_mode"),
            trust_remote_code=False,
            local_files_only=True,
            **arguments,
        )
    return found
