"""Which version of a model is meant, found out without loading it (nor torch): part of an artifact's identity."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from synood_cli.errors import ModelError, SynoodError
from synood_cli.models.hub_files import ask_commit, known_commit, largest
from synood_cli.models.model_files import FILES, existing
from synood_cli.records import ModelSpec, printable

HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's answer before doing without it."""

BY_CONTENT = "sha256:"
"""In front of a digest: weights that are named by their content, wherever they lie."""


def resolve_revision(spec: ModelSpec, file_digest: Callable[[Path], str]) -> ModelSpec:
    """`spec` with the revision that fixes its weights, as far as it can be known without the network failing the run:

    - a folder: the digest of its model files' paths and contents (`file_digest` gives a file's);
    - a hub id: the commit that its branch means: in the local cache, else on the hub; a commit stays;
    - a built-in timm name: the commit of the repository that timm loads it from, else its weight tag;
    - a built-in open_clip name: its weight tag, or the digest of its checkpoint file.

    What cannot be found out stays as given, and so does what has no weights of its own (a server, clip-tags).
    """
    if spec.adapter in ("openai-server", "clip-tags"):
        return spec
    if spec.folder is not None:
        return spec.model_copy(update={"revision": folder_digest(spec.folder, spec.adapter, file_digest)})
    if spec.name.startswith(("local-dir:", "/", ".", "~")):
        return spec
    if spec.adapter == "open_clip" and "/" not in spec.name:
        found = file_digest(spec.file) if spec.file is not None else spec.pretrained
    elif spec.adapter == "timm" and "/" not in spec.name:
        tag = spec.name.partition(".")[2]
        found = (hub_commit(f"timm/{spec.name}", spec.revision) or tag) if tag else None
    else:
        found = hub_commit(spec.name.removeprefix("hf-hub:"), spec.revision)
    return spec.model_copy(update={"revision": found or spec.revision})


def by_content(spec: ModelSpec) -> ModelSpec:
    """`spec` as another machine can read it: a local folder or checkpoint file is named `sha256:` and its digest, which
    is its revision, instead of by its place; the address of a server is left out.
    """
    local = spec.folder is not None or spec.name.startswith(("local-dir:", "/", ".", "~"))
    checkpoint = not local and "/" in (spec.pretrained or "")
    digest = f"{BY_CONTENT}{spec.revision or 'unknown'}"
    changed = {"name": digest} if local else {"pretrained": digest} if checkpoint else {}
    return spec.model_copy(update={**changed, "url": None})


def named_by_content(spec: ModelSpec) -> bool:
    """Whether `spec` names local weights by their digest, so that its place on this machine must be known."""
    return spec.name.startswith(BY_CONTENT) or (spec.pretrained or "").startswith(BY_CONTENT)


def located(spec: ModelSpec, places: Iterable[Path], file_digest: Callable[[Path], str]) -> ModelSpec:
    """Inverse of `by_content`: `spec` with the first of `places` (folders or checkpoint files) that holds what it names
    by digest. A spec that names nothing so is returned as it is.

    Raises ModelError when no place holds it.
    """
    if not named_by_content(spec):
        return spec
    field = "name" if spec.name.startswith(BY_CONTENT) else "pretrained"
    digest = str(getattr(spec, field)).removeprefix(BY_CONTENT)
    for place in places:
        if place.is_dir() and field == "name":
            found = folder_digest(place, spec.adapter, file_digest)
        elif place.is_file() and field == "pretrained":
            found = file_digest(place)
        else:
            continue
        if found == digest:
            return spec.model_copy(update={field: str(place.resolve())})
    what = "folder" if field == "name" else "checkpoint file"
    raise ModelError(
        f"the head belongs to a CLIP in a local {what} with the digest {digest[:12]}…, which is not here",
        hint=f"get that {what} from the head's author, then say where it lies: --clip PATH, or once for a workspace: "
        "synood pull HEAD --clip PATH",
    )


def folder_digest(folder: Path, adapter: str, file_digest: Callable[[Path], str]) -> str:
    """SHA-256, in hex, over the sorted (path, content digest) of the files in `folder` that belong to a model of the
    library `adapter`. Nothing else beside them counts, nor is looked at: the folder may be anything.

    Raises ModelError for a file that is larger than any model's: it is not read.
    """
    digest = hashlib.sha256()
    for name in existing(folder, FILES[adapter]):
        if (folder / name).is_file():
            size, limit = (folder / name).stat().st_size, largest(name)
            if size > limit:
                raise ModelError(
                    f"{printable(str(folder / name))} has {size:,} bytes; such a file of a model has {limit:,} at most",
                    hint="fetch the model again",
                )
            digest.update(os.fsencode(name) + b"\0" + file_digest(folder / name).encode() + b"\n")
    return digest.hexdigest()


def hub_commit(repository: str, revision: str | None) -> str | None:
    """The commit that a branch of a hub repository means, or None when neither the local cache nor the hub says.

    The cache comes first: what is on this machine is what a run would use, and the answer needs no network.
    """
    try:
        commit = known_commit(repository, revision)
        return commit or ask_commit(repository, revision, HUB_TIMEOUT)
    except SynoodError:  # the hub does not answer, or has no such model: no run stops that works without it
        return None
