"""`open_clip_config.json` of a foreign folder: read, and every setting checked before open_clip sees it.

What open_clip would follow without asking (code of a tokenizer's repository, files, other repositories, models
of timm's hub) has no place in these settings: a key that is not listed here, or a value of another type, is refused.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import open_clip
import timm
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synood_cli.errors import ModelError
from synood_cli.models.model_files import settings
from synood_cli.records import printable

CONFIG = "open_clip_config.json"
MAX_TOKENS = 2**16
"""Patches of an image, at most: 224 pixels in patches of 14 are 256."""


Pair = Annotated[list[int], Field(min_length=2, max_length=2)]
"""Height and width."""


class Settings(BaseModel):
    """Base: a number is a number, a text a text, and nothing else is there."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Activation(Settings):
    """Arguments of the activation."""

    approximate: Literal["none", "tanh"] = "none"


class Norm(Settings):
    """Arguments of the normalisation."""

    eps: float = Field(1e-5, gt=0, lt=1)


class Blocks(Settings):
    """What both towers say of their transformer."""

    mlp_ratio: float | int = Field(4.0, gt=0, le=64)
    ls_init_value: float | None = None
    final_ln_after_pool: bool = False
    output_tokens: bool = False
    act_kwargs: Activation | None = None
    norm_kwargs: Norm | None = None
    block_type: Literal["default", "custom"] | None = None
    qk_norm: bool = False
    scaled_cosine_attn: bool = False
    scale_heads: bool = False
    scale_attn_inner: bool = False
    scale_attn: bool = False
    scale_fc: bool = False


class Vision(Blocks):
    """`vision_cfg`: open_clip's own towers, or an architecture of timm's by its plain name, without weights."""

    layers: int | list[int] = 12
    width: int = Field(768, ge=1, le=2**15)
    head_width: int = Field(64, ge=1, le=2**15)
    patch_size: int | Pair | None = 16
    image_size: int | Pair = 224
    patch_dropout: float | int = Field(0.0, ge=0, le=1)
    attentional_pool: bool | Literal["parallel", "cascade"] = False
    attn_pooler_queries: int = Field(256, ge=1, le=4096)
    attn_pooler_heads: int = Field(8, ge=1, le=1024)
    no_ln_pre: bool = False
    pos_embed_type: Literal["learnable", "sin_cos_2d"] = "learnable"
    pool_type: Literal["tok", "avg", "none", ""] = "tok"
    timm_model_name: str | None = None
    timm_model_pretrained: bool | None = False
    timm_pool: Literal["avg", "token", "map", "abs_attn", "rot_attn", "max", "avgmax", ""] = "avg"
    timm_proj: Literal["linear", "mlp", "none", ""] | None = "linear"
    timm_proj_bias: bool = False
    timm_drop: float | int = Field(0.0, ge=0, le=1)
    timm_drop_path: float | int | None = Field(None, ge=0, le=1)


class TokenizerArguments(Settings):
    """Arguments of open_clip's wrapper around a tokenizer; none reaches the tokenizer's own library."""

    clean: Literal["whitespace", "lower", "canonicalize"] | None = None
    strip_sep_token: bool | None = None


class Text(Blocks):
    """`text_cfg`."""

    context_length: int = Field(77, ge=1, le=4096)
    vocab_size: int = Field(49408, ge=1, le=2**22)
    width: int = Field(512, ge=1, le=2**15)
    heads: int = Field(8, ge=1, le=1024)
    layers: int = Field(12, ge=1, le=256)
    embed_cls: bool = False
    pad_id: int = Field(0, ge=0)
    eos_id: int = Field(2, ge=0)
    no_causal_mask: bool = False
    pool_type: Literal["argmax", "eos", "first", "last", "none"] = "argmax"
    proj_bias: bool = False
    proj_type: Literal["linear", "none"] | None = "linear"
    hf_tokenizer_name: str | None = None
    tokenizer_mode: Literal["clips", ""] | None = None
    tokenizer_kwargs: TokenizerArguments | None = None
    hf_model_name: str | None = None
    hf_model_pretrained: bool | None = None
    hf_proj_type: Literal["linear", "mlp"] | None = "mlp"
    hf_pooler_type: Literal["mean_pooler", "max_pooler", "cls_pooler", "cls_last_hidden_state_pooler"] | None = None


class Multimodal(Blocks):
    """`multimodal_cfg` of a CoCa; only its presence matters here, for images and texts are embedded without it."""

    context_length: int = Field(77, ge=1, le=4096)
    vocab_size: int = Field(49408, ge=1, le=2**22)
    width: int = Field(512, ge=1, le=2**15)
    heads: int = Field(8, ge=1, le=1024)
    layers: int = Field(12, ge=1, le=256)
    dim_head: int = Field(64, ge=1, le=4096)
    n_queries: int = Field(256, ge=1, le=4096)
    attn_pooler_heads: int = Field(8, ge=1, le=1024)


class ClipSettings(Settings):
    """`model_cfg`."""

    embed_dim: int = Field(ge=1, le=2**15)
    vision_cfg: Vision
    text_cfg: Text
    multimodal_cfg: Multimodal | None = None
    custom_text: bool = False
    quick_gelu: bool = False
    init_logit_scale: float | int | None = None
    init_logit_bias: float | int | None = None
    nonscalar_logit_scale: bool = False
    output_dict: bool = False


class Preprocessing(Settings):
    """`preprocess_cfg`."""

    size: int | Pair | None = None
    mode: Literal["RGB"] | None = None
    mean: list[Annotated[float, Field(ge=-1000, le=1000)]] | None = Field(None, min_length=3, max_length=3)
    std: list[Annotated[float, Field(ge=0.001, le=1000)]] | None = Field(None, min_length=3, max_length=3)
    interpolation: Literal["bicubic", "bilinear", "random"] | None = None
    resize_mode: Literal["shortest", "longest", "squash"] | None = None
    fill_color: int | None = Field(None, ge=0, le=255)


class ConfigFile(Settings):
    """`open_clip_config.json`."""

    model_cfg: ClipSettings
    preprocess_cfg: Preprocessing = Preprocessing()


def checked_settings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(model_cfg, preprocess_cfg) of the CLIP in `folder`, as written, once every setting is allowed.

    Raises ModelError that names the setting otherwise.
    """
    document = settings(folder, CONFIG)
    where = printable(str(folder / CONFIG))
    try:
        found = ConfigFile.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = printable(".".join(str(part) for part in first["loc"] if str(part) in _plain(first))[:120])
        unknown = "is not a setting that is allowed" if first["type"] == "extra_forbidden" else first["msg"]
        raise ModelError(f"{where}: {place}: {unknown}", hint=_HINT) from error
    _check_vision(found.model_cfg.vision_cfg, where)
    text = found.model_cfg.text_cfg
    if text.hf_model_name is not None and text.hf_model_name not in _published_text_models():
        raise ModelError(
            f"{where}: text_cfg.hf_model_name: {printable(text.hf_model_name[:80])!r} is no text model that open_clip "
            "publishes a CLIP with",
            hint=_HINT,
        )
    return document["model_cfg"], document.get("preprocess_cfg", {})


_HINT = "only plain settings of a model are read, nothing that would fetch or run code: ask the CLIP's author"


def _plain(error: Any) -> list[str]:
    """The parts of an error's place that are names of settings; pydantic puts the members of unions among them."""
    return [str(part) for part in error["loc"] if not (str(part)[:1].isupper() or "[" in str(part))]


def _check_vision(vision: Vision, where: str) -> None:
    layers = vision.layers if isinstance(vision.layers, list) else [vision.layers]
    sizes = vision.image_size if isinstance(vision.image_size, list) else [vision.image_size]
    patch_size = 32 if vision.patch_size is None else vision.patch_size
    patches = patch_size if isinstance(patch_size, list) else [patch_size]
    if not (1 <= len(layers) <= 4 and all(1 <= count <= 256 for count in layers)):
        raise ModelError(f"{where}: vision_cfg.layers: {str(vision.layers)[:80]} are no numbers of layers", hint=_HINT)
    fits = all(1 <= size <= 8192 for size in sizes) and all(1 <= patch <= 8192 for patch in patches)
    if not fits or (max(sizes) // min(patches)) ** 2 > MAX_TOKENS:
        raise ModelError(f"{where}: vision_cfg: no image size and patch size of a CLIP", hint=_HINT)
    name = vision.timm_model_name
    if name is not None and (":" in name or "/" in name or not timm.is_model(name)):
        raise ModelError(
            f"{where}: vision_cfg.timm_model_name: timm has no architecture {printable(name[:80])!r}", hint=_HINT
        )


@cache
def _published_text_models() -> frozenset[str]:
    """The text models that open_clip's own settings name."""
    names = (open_clip.get_model_config(name)["text_cfg"].get("hf_model_name") for name in open_clip.list_models())
    return frozenset(name for name in names if name)
