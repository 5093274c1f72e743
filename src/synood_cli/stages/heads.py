"""What the stages that make and use heads have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synood_cli.errors import ModelError, UsageError
from synood_cli.models.known_clips import require_trust
from synood_cli.models.revisions import by_content, located, named_by_content, resolve_revision
from synood_cli.playground import BUNDLED_CLIP
from synood_cli.records import ModelSpec, Precision, local, printable
from synood_cli.stages.clip_trust import is_foreign, trusted_clips
from synood_cli.stages.embed import (
    embed_images,
    selected_items,
)
from synood_cli.stages.run import Run
from synood_cli.stages.selected import SelectedImage, selected_images
from synood_cli.store.draft import Draft
from synood_cli.store.files import sha256_bytes
from synood_cli.store.heads import Head, HeadInfo, clip_places, label_rows
from synood_cli.store.store import Artifact, Store, canonical_json


class Detections(NamedTuple):
    """What a head says of B images: S (Eq. 2; higher = more InD), the position of the nearest InD label, and that of
    the nearest negative label with its cosine similarity. Each (B,)."""

    scores: NDArray[np.float64]
    predicted: NDArray[np.int64]
    nearest_negative: NDArray[np.int64]
    nearest_similarity: NDArray[np.float32]


def head_and_clip(run: Run, head: Artifact) -> tuple[HeadInfo, ModelSpec]:
    """What `head` says of itself, and the CLIP that it belongs to. Of a head from elsewhere the user is told which CLIP
    it is.

    Raises ModelError when that CLIP is not on this machine, or not what it was when the head was made; UsageError for
    one that a head from elsewhere names and that is neither known nor trusted.
    """
    store = run.store
    info = HeadInfo.read(head.folder)
    if is_foreign(store, head):
        run.note(require_trust(info.clip.model, head.name, trusted=trusted_clips(store), trust=run.trust_clip))
    return info, head_clip(info, head.name, store.file_digest, clip_places(store))


def head_clip(
    info: HeadInfo,
    name: str,
    file_digest: Callable[[Path], str],
    places: Iterable[Path] = (),
    *,
    given: Path | None = None,
) -> ModelSpec:
    """The CLIP that the head called `name` belongs to, as it can be loaded here: at the place `given`, a folder or a
    checkpoint file; else where the head says; else, for local weights that are not there (or of a head that was made
    elsewhere, which names them by their content), in `places` or the bundled playground.

    Raises ModelError when it is not there, or is not what it was when the head was made.
    """
    spec = info.clip.model
    if given is not None:
        spec = _placed(spec, given)
    elif spec.folder is None and spec.file is None:
        spec = by_content(spec)
        if named_by_content(spec):
            return located(spec, chain(places, [BUNDLED_CLIP]), file_digest)
    now = resolve_revision(spec, file_digest)
    if now.revision != spec.revision:
        raise ModelError(
            f"{name} was made with another version of the CLIP {spec.name}: {_short(spec.revision)} then, "
            f"{_short(now.revision)} now; its features mean nothing to this one",
            hint="bring the old weights back, or make a new head: synood mine-labels",
        )
    return spec


def require_clip(info: HeadInfo, name: str, found: Mapping[str, Any]) -> None:
    """Raise ModelError when the CLIP that was loaded (`found`: its facts, as in a head) is not run as the head called
    `name` says that its own was: with QuickGELU or not, at its width and logit scale, on images prepared alike.
    """
    clip = info.clip
    near = math.isclose(clip.logit_scale, found["logit_scale"], rel_tol=1e-3)  # exp() differs between machines
    said = {"quick_gelu": clip.quick_gelu, "width": clip.width, **({} if near else {"logit_scale": clip.logit_scale})}
    said |= {f"preprocessing {key}": value for key, value in clip.preprocessing.items()}
    here = {key: found[key] for key in ("quick_gelu", "width", "logit_scale")}
    here |= {f"preprocessing {key}": value for key, value in found["preprocessing"].items()}
    for key in said.keys() & here.keys():
        if canonical_json(said[key]) != canonical_json(here[key]):
            raise ModelError(
                f"{name} was made with a CLIP whose {printable(key)} is {printable(str(said[key]))[:100]}; of "
                f"{clip.model.name} as it is loaded here it is {here[key]}",
                hint="use the CLIP that the head was made with, or make a new head: synood mine-labels",
            )


def _placed(spec: ModelSpec, place: Path) -> ModelSpec:
    """`spec` with its weights at `place`."""
    if local(str(place), Path.exists) is None:
        raise UsageError(
            f"there is no CLIP at {printable(str(place))}", hint="--clip takes a folder or a checkpoint file"
        )
    return spec.model_copy(update={"pretrained" if place.is_file() else "name": str(place.resolve())})


def newest_head(store: Store, methods: Sequence[str]) -> Artifact:
    """The head asked for last among those of these `methods`: what a training starts from unless told otherwise, so
    that a training that is run again does not build on its own result. Raises UsageError when there is none.
    """
    heads = [head for head in store.artifacts("head") if head.status == "complete"]
    fitting = [head for head in heads if head.notes.get("method") in methods]
    if not fitting:
        store.newest("head")  # raises where there is no head at all
        raise UsageError(
            f"every head has been trained so already; none is {' or '.join(methods)}", hint="--from head@N"
        )
    return max(fitting, key=lambda head: head.asked)


def with_ancestors(store: Store, head: Artifact) -> list[Artifact]:
    """`head` and the heads that it was made from, the first one first: the rows of an ablation table."""
    line = [head]
    while (before := store.ancestor(line[0], "head")) is not None:
        line.insert(0, before)
    return line


def embed_selection(run: Run, spec: ModelSpec, selection: Artifact, precision: Precision) -> Artifact:
    """F(x) of every image of a selection."""
    images = selected_images(run.store, selection)
    digest = selection_digest(images)
    return embed_images(run, spec, selected_items(images), digest=digest, precision=precision, what=selection.name)


def selection_digest(images: Sequence[SelectedImage]) -> str:
    """Which set of images it is: features are found by name, and a selection's own digest knows contents only; files
    may have been renamed since."""
    return sha256_bytes(canonical_json([[image.sha256, image.name] for image in images]).encode())


def require_labels(head: Artifact, info: HeadInfo, classes: Sequence[str]) -> None:
    """Raise UsageError when `head` has no label for some of these class folders."""
    known = info.labelled(classes)
    missing = [printable(name) for name in classes if name not in known]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        have = ", ".join(label.class_name for label in info.ind_labels[:5])
        raise UsageError(
            f"{head.name} has no label for {len(missing)} of {len(classes)} classes: {', '.join(missing[:5])}{more}",
            hint=f"its classes are {have}{', …' if len(info.ind_labels) > 5 else ''}: name the class folders alike",
        )


def store_head(
    draft: Draft, head: Head, rows: Mapping[str, Sequence[Mapping[str, Any]]], notes: Mapping[str, Any]
) -> Artifact:
    """Write `head` with its labels and `rows`, and seal the artifact."""
    labels = label_rows(head.info)
    draft.note({"method": head.info.method, "threshold": head.info.threshold, **notes})
    draft.commit({"labels": labels, **rows}, head.write(draft))
    return draft.complete(done=len(labels))


def _short(revision: str | None) -> str:
    return revision[:12] if revision else "unknown"
