"""Small heads in a store, made by hand: two InD labels, three negative labels, width 4."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from synood_cli.config import PushSettings
from synood_cli.hub.address import HubAddress
from synood_cli.hub.push import published_files
from synood_cli.records import ModelSpec
from synood_cli.store.draft import Draft
from synood_cli.store.heads import Calibration, Clip, Head, HeadInfo, IndLabel, NegativeLabel
from synood_cli.store.store import Artifact, Store

Files = dict[str, bytes]
WIDTH = 4
OPENAI = ModelSpec(adapter="open_clip", name="ViT-B-16", pretrained="openai", revision="openai")
HUB_CLIP = ModelSpec(adapter="open_clip", name="org/clip", revision="0" * 40)
HOSTILE = "<script>alert(1)</script> | `x` [y](z) \x1b[2J"
"""A label that is markup, HTML and a terminal's command at once."""


def description(**changed: Any) -> HeadInfo:
    values = {
        "clip": Clip(
            model=changed.pop("model", HUB_CLIP),
            quick_gelu=True,
            preprocessing={"size": [224, 224]},
            width=WIDTH,
            logit_scale=100.0,
        ),
        "ind_labels": (IndLabel(text="cat", class_name="n02123045"), IndLabel(text=HOSTILE, class_name=HOSTILE)),
        "ind_template": "the nice {}",
        "negative_labels": tuple(
            NegativeLabel(text=text, part_of_speech="noun", similarity=0.5) for text in ("rope", "λ", HOSTILE)
        ),
        "templates": {"noun": "the nice {}"},
        "temperature": 0.01,
        "groups": 2,
        "group_seed": 7,
        "threshold": 0.75,
        "calibration": Calibration(images=12, source="selection@1", tpr=0.95, trained_on=False),
        "versions": {"synood": "0"},
    }
    return HeadInfo(**{**values, **changed})


def tensors(projection: bool = False) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"ind_features": (2, WIDTH), "negative_features": (3, WIDTH)}
    if projection:
        shapes |= {"projection.linear.weight": (WIDTH, WIDTH)}
        shapes |= {f"projection.{name}": (WIDTH,) for name in ("linear.bias", "norm.weight", "norm.bias")}
    made = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name in ("ind_features", "negative_features"):
        made[name] /= np.linalg.norm(made[name], axis=1, keepdims=True)
    return made


def put_head(
    store: Store, *, projection: bool = False, settings: dict[str, Any] | None = None, **info: Any
) -> Artifact:
    """A complete head artifact."""
    spec = info.get("model", HUB_CLIP)
    models = {"clip": spec}
    draft = Draft.begin(store, "head", "mine-labels", settings=settings or {}, inputs={}, models=models, seed=3)
    head = Head(description(projection=projection, **info), tensors(projection))
    draft.note({"method": head.info.method})
    draft.commit({}, head.write(draft))
    return draft.complete(done=5)


def files_of(store: Store, head: Artifact, **options: Any) -> Files:
    """The files of `head` as `push` would send them to user/head."""
    values = {**PushSettings().model_dump(), **options}
    return published_files(store, head, HubAddress("user/head"), **values)


def changed_info(files: Files, **changed: Any) -> Files:
    """`files` with other values in head.json, by dotted name (``clip__width=5``)."""
    document = json.loads(files["head.json"])
    for name, value in changed.items():
        *parents, last = name.split("__")
        place = document
        for parent in parents:
            place = place[parent]
        place[last] = value
    return {**files, "head.json": json.dumps(document).encode()}


def changed_tensors(files: Files, **changed: Any) -> Files:
    """`files` with other tensors (None: without that one), and size and digest in head.json made to fit."""
    content = save({name: t for name, t in {**load(files["head.safetensors"]), **changed}.items() if t is not None})
    return with_tensor_file(files, content)


def with_tensor_file(files: Files, content: bytes) -> Files:
    """`files` with other bytes as head.safetensors, whose size and digest head.json says."""
    said = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return changed_info({**files, "head.safetensors": content}, publication__tensors=said)


def write_files(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
