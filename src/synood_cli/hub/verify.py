"""A head from elsewhere is not trusted: everything is checked, and nothing is allocated on its word alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from synood_cli.errors import StoreError
from synood_cli.models.revisions import BY_CONTENT
from synood_cli.records import ModelSpec, printable
from synood_cli.regular_file import read_regular
from synood_cli.store.files import sha256_bytes
from synood_cli.store.heads import (
    FORMAT,
    INFO_FILE,
    MAX_INFO_BYTES,
    MAX_TENSOR_BYTES,
    REMAKE,
    TENSOR_FILE,
    Head,
    HeadInfo,
    layouts,
)
from synood_cli.store.publication import Publication, labels_sha256

FILES = (INFO_FILE, TENSOR_FILE)
"""The only files that are ever fetched."""

MAX_HEADER_BYTES = 64 * 2**10
"""Room for the list of tensors in `head.safetensors`, of which there are six at most."""

LONGEST_TEXT = 4096
"""Characters of a text in `head.json`, at most; the longest are prompts, several of them joined."""

ROUNDING = 0.01
"""How much the length of a feature may differ from 1: float16 makes it some 0.0005."""

ASK = "ask its author to publish it anew"


def foreign_head(folder: Path, where: str) -> Head:
    """The head in `folder`, which came from `where`, with every check made. Each file is read once.

    Raises StoreError saying what is not as it must be.
    """
    info = parse_foreign(_content(folder / INFO_FILE, MAX_INFO_BYTES, where), where)
    tensors = _content(folder / TENSOR_FILE, MAX_TENSOR_BYTES, where)
    check_tensors(tensors, info, where)
    head = Head.of(info, tensors, f"{where}: {TENSOR_FILE}")
    _check_lengths(head, where)
    return head


def check_unpublished(folder: Path, where: str) -> None:
    """Raise StoreError unless the head in `folder`, as a workspace keeps it, holds what a head holds. Whether that is
    what its author made it cannot say: nothing in it pins the one file to the other.
    """
    head = Head.read(folder)
    _check_texts(head.info, where)
    _check_lengths(head, where)


def _check_lengths(head: Head, where: str) -> None:
    for name in ("ind_features", "negative_features"):
        lengths = np.linalg.norm(head.tensors[name].astype(np.float64), axis=1)
        if np.abs(lengths - 1).max() > ROUNDING:
            raise StoreError(f"{where}: {TENSOR_FILE}: {name} are not of unit length", hint=ASK)


def parse_foreign(content: bytes, where: str) -> HeadInfo:
    """The head that the bytes of a `head.json` from `where` describe. Raises StoreError for one that no synood has
    written."""
    info = HeadInfo.parse(content, f"{where}: {INFO_FILE}")
    said = publication(info, where)
    _check_texts(info, where)
    if said.negative_labels_sha256 != labels_sha256(label.text for label in info.negative_labels):
        raise StoreError(f"{where}: the negative labels are not those that their SHA-256 was taken of", hint=ASK)
    _check_clip(info.clip.model, where)
    return info


def _check_texts(info: HeadInfo, where: str) -> None:
    for place, text in _texts(info.model_dump(), ""):
        if not text.isprintable():
            raise StoreError(f"{where}: {INFO_FILE}{printable_place(place)}: holds control characters", hint=ASK)
        if len(text) > LONGEST_TEXT:
            raise StoreError(f"{where}: {INFO_FILE}{printable_place(place)}: has {len(text):,} characters", hint=ASK)
    names = [part for label in info.ind_labels for part in (label.text, label.class_name)]
    if not all(text.strip() for text in (*names, *(label.text for label in info.negative_labels))):
        raise StoreError(f"{where}: {INFO_FILE}: a label has no text", hint=ASK)


def tensor_size(info: HeadInfo, where: str) -> int:
    """Bytes of `head.safetensors`, as `info` says. Raises StoreError unless the numbers of labels and the width in it
    make that many."""
    said = publication(info, where)
    size = said.tensors.bytes
    content = sum(layout.bytes for layout in layouts(info, said.features).values())
    if size > MAX_TENSOR_BYTES:
        raise StoreError(
            f"{where}: {TENSOR_FILE} is said to have {size:,} bytes; at most {MAX_TENSOR_BYTES:,} are read", hint=ASK
        )
    if not content < size <= content + MAX_HEADER_BYTES:
        raise StoreError(
            f"{where}: {TENSOR_FILE} has {size:,} bytes, but the labels and width in {INFO_FILE} make {content:,}",
            hint=ASK,
        )
    return size


def check_tensors(content: bytes, info: HeadInfo, where: str) -> None:
    """Raise StoreError unless `content` is the `head.safetensors` that `info` was written for."""
    size = tensor_size(info, where)
    if len(content) != size:
        raise StoreError(f"{where}: {TENSOR_FILE} has {len(content)} bytes, {INFO_FILE} says {size}", hint=REMAKE)
    if sha256_bytes(content) != publication(info, where).tensors.sha256:
        raise StoreError(
            f"{where}: {TENSOR_FILE} is not the file that {INFO_FILE} was written for (SHA-256)",
            hint="it was changed or damaged: fetch it again with `synood pull --force`, or ask its author",
        )


def publication(info: HeadInfo, where: str) -> Publication:
    """What a head from elsewhere must have. Raises StoreError for one that was copied from a workspace."""
    if info.publication is None:
        raise StoreError(
            f"{where}: {INFO_FILE} lacks the part `publication`: it was taken out of a workspace as it was",
            hint="synood push HEAD ./FOLDER writes a head for others",
        )
    return info.publication


def printable_place(place: str) -> str:
    """A path of keys in head.json, for a message: no longer than a line, and printable."""
    shown = printable(place.encode("utf-8", "backslashreplace").decode())
    return shown if len(shown) < 80 else f"{shown[:80]}…"


def _content(path: Path, limit: int, where: str) -> bytes:
    hint = f"a head ({FORMAT}) is {' and '.join(FILES)}"
    try:
        return read_regular(path, limit)
    except FileNotFoundError as error:
        raise StoreError(f"{where} has no {path.name}", hint=hint) from error
    except OSError as error:
        raise StoreError(f"{where} has no {path.name} that can be read: {error.strerror}", hint=hint) from error


def _check_clip(spec: ModelSpec, where: str) -> None:
    """Raise StoreError for a CLIP that is not named so that any machine finds the same: a built-in name, a hub id or
    `sha256:`, with the revision of its weights; never a path, a server or another adapter."""
    digest = BY_CONTENT + (spec.revision or "")
    weights = spec.pretrained or ""
    if spec.name.startswith(BY_CONTENT):
        sound = spec.name == digest
    else:
        plain = all(part and part.strip(".") for part in spec.name.split("/")) and not spec.name.startswith("~")
        sound = plain and spec.name.count("/") <= 1 and "\\" not in spec.name and ":" not in spec.name
        sound &= "/" not in weights and (not weights.startswith(BY_CONTENT) or weights == digest)
    if spec.adapter != "open_clip" or spec.url is not None or not spec.revision or not sound:
        raise StoreError(
            f"{where}: the CLIP {printable_place(spec.name)!r} is not named as any machine could find it", hint=ASK
        )


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """(where, text) of every string in a JSON document, names of fields too."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield place, key
            yield from _texts(inner, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{place}.{number}")
