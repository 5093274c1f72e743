"""Settings of a CLIP from elsewhere: what open_clip publishes is allowed, and what would fetch or run is not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest

from checkpoints import CLIP_MODEL
from synood_cli.config import bundled
from synood_cli.errors import ModelError
from synood_cli.models.open_clip_settings import checked_settings


def written(folder: Path, document: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("name", open_clip.list_models())
def test_whatever_open_clip_publishes_is_allowed(tmp_path: Path, name: str) -> None:
    settings = open_clip.get_model_config(name)
    found, _ = checked_settings(written(tmp_path, {"model_cfg": settings}))
    assert found == json.loads(json.dumps(settings))


def test_the_bundled_clip_is_allowed() -> None:
    settings, preprocessing = checked_settings(bundled("clip"))
    assert (settings["embed_dim"], preprocessing["size"]) == (128, 64)


CODE = {"trust_remote_code": True}
HOSTILE: list[tuple[str, Any]] = [
    ("text_cfg.tokenizer_kwargs", CODE),
    ("text_cfg.tokenizer_kwargs", {"bpe_path": "/etc/passwd"}),
    ("text_cfg.tokenizer_kwargs", {"cache_dir": "/tmp/elsewhere"}),
    ("text_cfg.hf_model_name", "user/evil"),
    ("text_cfg.hf_model_name", "../evil"),
    ("text_cfg.hf_model_config", {"auto_map": {"AutoModel": "evil.Evil"}}),
    ("text_cfg.trust_remote_code", True),
    ("text_cfg.hf_proj_type", "evil"),
    ("vision_cfg.timm_model_name", "hf-hub:user/evil"),
    ("vision_cfg.timm_model_name", "hf_hub:user/evil"),
    ("vision_cfg.timm_model_name", "local-dir:/tmp/evil"),
    ("vision_cfg.timm_model_name", "nonesuch"),
    ("vision_cfg.timm_model_name", ["resnet18"]),
    ("vision_cfg.norm_kwargs", {"eps": 1e-5, "device": "cuda"}),
    ("vision_cfg.width", 2**40),
    ("vision_cfg.layers", [1, 2, 3, 10**6]),
    ("vision_cfg.image_size", 10**7),
    ("vision_cfg.width", "768"),
    ("vision_cfg.mlp_ratio", float("inf")),
    ("text_cfg.vocab_size", 2**40),
    ("text_cfg.context_length", -1),
    ("custom_text", "yes"),
    ("cast_dtype", "float16"),
    ("embed_dim", True),
]


@pytest.mark.parametrize(("place", "value"), HOSTILE)
def test_anything_else_is_refused_by_name(tmp_path: Path, place: str, value: Any) -> None:
    settings: dict[str, Any] = copy.deepcopy(CLIP_MODEL)
    *parents, last = place.split(".")
    table = settings
    for parent in parents:
        table = table[parent]
    table[last] = value
    with pytest.raises(ModelError) as refused:
        checked_settings(written(tmp_path, {"model_cfg": settings}))
    assert (parents or [last])[0] in refused.value.message


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "is not a JSON object"),
        ({}, "model_cfg: Field required"),
        ({"model_cfg": CLIP_MODEL, "preprocess_cfg": {"mean": "x"}}, "preprocess_cfg.mean"),
        ({"model_cfg": CLIP_MODEL, "preprocess_cfg": {"size": None, "mode": "RGBA"}}, "preprocess_cfg.mode"),
        ({"model_cfg": CLIP_MODEL, "plugins": ["evil"]}, "plugins: is not a setting that is allowed"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        checked_settings(written(tmp_path, document))


def test_deep_nesting_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    for content in (b"[" * 200_000, b"\xff\xfe{}", b'{"a": '):
        (tmp_path / "open_clip_config.json").write_bytes(content)
        with pytest.raises(ModelError, match="is not JSON"):
            checked_settings(tmp_path)
