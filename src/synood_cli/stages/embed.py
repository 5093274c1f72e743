"""Embed: a set of images or texts goes through CLIP once; every later stage reads the features from the store.

A `features` artifact holds shards of up to SHARD_ROWS rows (`shard-00000.safetensors`, key "features"), float32:
F(x) of images, H(y) of texts, both *before* normalisation. Row r of all shards in order is position r of
table `embedded`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from synood_cli.data.images import NOT_PREPARED, TOO_THIN, read_image
from synood_cli.data.known_files import untouched
from synood_cli.errors import ItemError, StoreError, SynoodError
from synood_cli.records import AnyImage, ModelSpec, Place, Precision
from synood_cli.stages.run import Run, batches
from synood_cli.stages.selected import SelectedImage
from synood_cli.store.draft import Draft
from synood_cli.store.files import sha256_bytes
from synood_cli.store.heads import Clip
from synood_cli.store.store import Artifact, Store, canonical_json

T = TypeVar("T")
Features = NDArray[np.float32]

SHARD_ROWS = 1024
"""Items of a shard, which is what an interruption loses at most: a minute of a CPU. At width 512 it is 2 MB."""

BATCHES_PER_JOB = 8
"""Batches of images that go to a worker at once, so that it can decode the next while the model runs."""

TEXTS_PER_JOB = 256
"""Texts that go to a worker at once."""

NOT_FINITE = "its features are not finite numbers; try --precision fp32"
"""Why a picture that can be read has no features: it will have none the next time either."""


class Item(NamedTuple):
    """One image to embed: where it lies, what it is called in the store, and its class ('' if none)."""

    place: Place
    name: str
    class_name: str


class Embedded(NamedTuple):
    """What became of a job: features of what could be read, (reason or None) of each item, facts of the model, and of
    images the SHA-256 (hex) of what was read (None where nothing was)."""

    features: Features
    problems: list[str | None]
    facts: dict[str, Any]
    digests: list[str | None]


class Rows(NamedTuple):
    """Rows of a features artifact, by position: how features travel to a worker."""

    folder: Path
    positions: list[int]

    def load(self) -> Features:
        """(len(positions), D) float32."""
        return load_features(self.folder)[self.positions]


def embed_images(
    run: Run,
    spec: ModelSpec,
    images: Sequence[Item],
    *,
    digest: str,
    precision: Precision,
    what: str,
    role: Literal["clip", "classifier"] = "clip",
) -> Artifact:
    """F(x) of each image, before normalisation; of the role "classifier", what g's last layer is given. `digest` says
    which set of images it is; `what` names it to the user.

    An image that cannot be read is a failure of the artifact and has no row. Raises SynoodError when none can be.
    """
    work = _Work(
        "images",
        [image.place for image in images],
        [image.name for image in images],
        [image.class_name for image in images],
        run.execution.batch_size * BATCHES_PER_JOB,
        "embed" if role == "clip" else "classify",
        role,
    )
    features = _embed(run, spec, work, digest, precision, f"{work.worker} {what}")
    if not features.items_done:
        name, reason = run.store.failures(features)[0]
        raise SynoodError(f"none of the {len(images)} images ({what}) can be read; {name}: {reason}")
    return features


def embed_texts(run: Run, spec: ModelSpec, texts: Sequence[str], *, precision: Precision, what: str) -> Artifact:
    """H(y) of each text, before normalisation. A text that this CLIP has embedded before, for whatever set, is not
    again."""
    digest = sha256_bytes(canonical_json(list(texts)).encode())
    work = _Work("texts", texts, texts, [""] * len(texts), TEXTS_PER_JOB)
    return _embed(run, spec, work, digest, precision, f"embed {what}")


def folder_items(images: Iterable[AnyImage]) -> list[Item]:
    """The images of an image set as they are now, as items: one that is touched later is not embedded."""
    return [Item(untouched(image.place), image.name, image.class_name) for image in images]


def selected_items(images: Iterable[SelectedImage]) -> list[Item]:
    """The images of a selection, as items: what is embedded is what was selected."""
    return [Item(image.place, image.name, image.class_name) for image in images]


def spread(items: Sequence[T], limit: int | None) -> Sequence[T]:
    """`limit` of the items at equal distances, so that a sorted list is covered from end to end; None = all."""
    if limit is None or limit >= len(items):
        return items
    return [items[place * len(items) // limit] for place in range(limit)]


def load_features(folder: Path, first: int = 0, last: int | None = None) -> Features:
    """The rows of a features artifact from `first` up to, without, `last` as one (rows, D) array; unsaid, all of them.
    Of the shards no more than these rows are in memory. Raises StoreError when there are no shards.
    """
    paths = sorted(folder.glob("shard-*.safetensors"))
    if not paths:
        raise StoreError(f"there are no features in {folder}", hint="run the same command again")
    try:
        with contextlib.ExitStack() as stack:
            shards = [stack.enter_context(safe_open(path, "np")).get_slice("features") for path in paths]
            starts = np.cumsum([0, *(shard.get_shape()[0] for shard in shards)]).tolist()
            last = starts[-1] if last is None else min(last, starts[-1])
            features = np.empty((max(0, last - first), shards[0].get_shape()[1]), dtype=np.float32)
            for shard, start, end in zip(shards, starts, starts[1:], strict=False):
                low, high = max(first, start), min(last, end)
                if low < high:
                    features[low - first : high - first] = shard[low - start : high - start]
            return features
    except (OSError, SafetensorError) as error:
        hint = "remove that folder, then run the same command again: they are made anew"
        raise StoreError(f"cannot read the features in {folder}: {error}", hint=hint) from error


def positions(store: Store, features: Artifact) -> dict[str, int]:
    """The position of each embedded item, by name."""
    return {row["item"]: row["position"] for row in store.rows(features, "embedded")}


def clip_facts(spec: ModelSpec, features: Artifact) -> Clip:
    """The CLIP that made `features`, without loading it."""
    facts = {name: value for name, value in features.notes["clip"].items() if name in Clip.model_fields}
    return Clip(model=spec, **facts)


def surface_failures(draft: Draft, features: Iterable[Artifact], of: str = "") -> None:
    """Record in `draft` the images that `features` lack, each once: its result was made without them. `of` is the
    data set that they belong to, where there are several.
    """
    found = dict.fromkeys(failure for made in features for failure in draft.store.failures(made))
    for item, reason in found:
        draft.fail(f"{of}/{item}" if of else item, reason)


class _Work(NamedTuple):
    """What is to be embedded: places or texts, their names in the store, their classes; how many go into one job; and
    which worker runs which model (`role`) over them."""

    kind: Literal["images", "texts"]
    inputs: Sequence[Place | str]
    names: Sequence[str]
    classes: Sequence[str]
    job_size: int
    worker: Literal["embed", "classify"] = "embed"
    role: Literal["clip", "classifier"] = "clip"


class _Known(NamedTuple):
    """Features of texts that earlier sets hold: `rows`, by the index of the text, of `features`."""

    rows: dict[int, int]
    features: Features
    facts: dict[str, Any]

    def completed(self, part: Sequence[int], fresh: Embedded | None) -> Embedded:
        """What becomes of `part`, when `fresh` is what became of those that are not known."""
        if fresh is not None and len(fresh.problems) == len(part):
            return fresh
        made = iter(fresh.features if fresh else ())
        features = [self.features[self.rows[index]] if index in self.rows else next(made) for index in part]
        nothing: list[str | None] = [None] * len(part)
        return Embedded(np.stack(features), nothing, fresh.facts if fresh else self.facts, nothing)


_NOTHING = _Known({}, np.empty((0, 0), dtype=np.float32), {})


def _known_texts(store: Store, asked: Artifact, spec: ModelSpec, work: _Work) -> _Known:
    """The texts of `work` that another complete set, embedded as `asked` is to be, holds already."""
    wanted = set(work.names)
    row_of: dict[str, int] = {}
    found: list[Features] = []
    clip: dict[str, Any] = {}
    for other in reversed(store.artifacts("features")):
        if (other.stage, other.status, other.settings) != (asked.stage, "complete", asked.settings):
            continue
        if store.models(other)["clip"].identity() != spec.identity():
            continue
        here = {text: row for text, row in positions(store, other).items() if text in wanted and text not in row_of}
        if here:
            with contextlib.suppress(StoreError):  # its files are gone: its texts are embedded anew
                features = load_features(other.folder)[list(here.values())]
                row_of |= {text: len(row_of) + place for place, text in enumerate(here)}
                found.append(features)
                clip = other.notes["clip"]
        if len(row_of) == len(wanted):
            break
    if not found:
        return _NOTHING
    rows = {index: row_of[text] for index, text in enumerate(work.names) if text in row_of}
    return _Known(rows, np.concatenate(found), clip)


def _embed(run: Run, spec: ModelSpec, work: _Work, digest: str, precision: Precision, what: str) -> Artifact:
    # The features of a set do not depend on who asks for them: neither the caller's --limit (which is in the digest)
    # nor its --force (the same model gives the same features) makes another set.
    def begin(retry_failed: bool) -> Draft:
        return replace(run, limit=None, force=False, retry_failed=retry_failed, dry_run=False).begin(
            "features",
            f"{work.worker}-{work.kind}",
            items=len(work.names),
            # Texts of earlier versions have unit length, which is another result.
            settings={"precision": precision} | ({"length": "raw"} if work.kind == "texts" else {}),
            inputs={},
            models={work.role: spec},
            digests={work.kind: digest},
            seeded=False,
        )

    draft = begin(retry_failed=False)
    if draft.artifact.reused and _curable(draft, work):
        draft = begin(retry_failed=True)
    if draft.artifact.reused:
        return draft.artifact
    shards = list(batches(range(len(work.names)), SHARD_ROWS))
    finished, row = _finished(draft, work, shards)
    run.progress.start(what, len(work.names), sum(len(shard) for shard in shards[:finished]))
    parts = [list(batches(shard, work.job_size)) for shard in shards[finished:]]
    known = _known_texts(run.store, draft.artifact, spec, work) if work.kind == "texts" else _NOTHING
    todo = [[index for index in part if index not in known.rows] for part in chain.from_iterable(parts)]
    options = {"spec": spec, "execution": run.execution, "precision": precision}
    jobs = ([work.inputs[index] for index in missing] for missing in todo if missing)
    fresh = run.runner.map(work.worker, options, jobs, method=work.kind)
    results = (
        known.completed(part, next(fresh) if missing else None)
        for part, missing in zip(chain.from_iterable(parts), todo, strict=True)
    )
    for number, shard_parts in enumerate(parts, start=finished):
        row += _store_shard(run, draft, work, number, row, zip(shard_parts, results, strict=False))
    return draft.complete()


def _store_shard(
    run: Run, draft: Draft, work: _Work, number: int, first_row: int, results: Iterator[tuple[Sequence[int], Embedded]]
) -> int:
    """Collect one shard's results and commit them; returns the number of its rows."""
    features: list[Features] = []
    rows: list[dict[str, Any]] = []
    problems: list[tuple[str, str]] = []
    facts: dict[str, Any] = {}
    for part, result in results:
        facts = result.facts
        features.append(result.features)
        for index, problem, sha256 in zip(part, result.problems, result.digests, strict=True):
            if problem is None:
                row = {"item": work.names[index], "class_name": work.classes[index], "sha256": sha256}
                rows.append({"position": first_row + len(rows), **row})
            else:
                problems.append((work.names[index], problem))
        run.progress.advance(len(part))
    path = f"shard-{number:05d}.safetensors"
    draft.write_file(path, save({"features": np.concatenate(features)}))
    for name, problem in problems:
        draft.fail(name, problem)
    draft.note({work.role: facts})
    known = draft.keys("embedded", "position")
    draft.commit({"embedded": rows}, [path], done=sum(row["position"] not in known for row in rows))
    return len(rows)


def _finished(draft: Draft, work: _Work, shards: Sequence[Sequence[int]]) -> tuple[int, int]:
    """How many leading shards an interrupted run has left finished, and their rows. Their failures, which the store
    forgets on resuming, are recorded again; a shard that lacks an image which can be read by now is done again.
    """
    files, embedded = draft.keys("files", "path"), draft.keys("embedded", "item")
    number = rows = 0
    for shard in shards:
        if f"shard-{number:05d}.safetensors" not in files:
            break
        missing = [index for index in shard if work.names[index] not in embedded]
        problems = [(work.names[index], _reading_problem(work.inputs[index])) for index in missing]
        if any(problem is None for _, problem in problems):
            break
        for name, problem in problems:
            draft.fail(name, problem or "")
        rows += len(shard) - len(missing)
        number += 1
    return number, rows


def _curable(draft: Draft, work: _Work) -> bool:
    """Whether an image that could not be read can be read by now."""
    places = dict(zip(work.names, work.inputs, strict=True))
    failed = [item for item, reason in draft.store.failures(draft.artifact) if not _lasting(reason)]
    return any(_reading_problem(places[item]) is None for item in failed)


def _lasting(reason: str) -> bool:
    """Whether a picture that can be read has no features for this `reason` of the model's."""
    return reason in (NOT_FINITE, TOO_THIN) or reason.startswith(NOT_PREPARED)


def _reading_problem(place: Place | str) -> str | None:
    if isinstance(place, str):  # a text
        return None
    try:
        read_image(place)
    except ItemError as error:
        return error.message
    return None
