"""Fetch heads: from a hub repository, or from a folder in the same format."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from synood_cli.errors import ModelError, StoreError, UsageError
from synood_cli.hub.address import HubAddress, parse_address
from synood_cli.hub.cache import head_folder, is_complete, known_commit, remember
from synood_cli.hub.download import ask_commit, download, wanted_head
from synood_cli.hub.verify import FILES, check_tensors, check_unpublished, foreign_head, parse_foreign, tensor_size
from synood_cli.hub_client.wanted import MAIN, NotReachedError, is_commit, not_reached, offline
from synood_cli.models.known_clips import chosen_by_name, require_trust
from synood_cli.models.revisions import located, named_by_content
from synood_cli.playground import BUNDLED_CLIP
from synood_cli.records import ModelSpec, printable
from synood_cli.store.draft import Draft
from synood_cli.store.files import sha256_file, write_atomic
from synood_cli.store.heads import INFO_FILE, MAX_INFO_BYTES, TENSOR_FILE, Head, HeadInfo, clip_places, label_rows
from synood_cli.store.store import Artifact, Store

logger = logging.getLogger(__name__)


class Fetched(NamedTuple):
    """A verified head on this machine, and where it came from: a repository with its commit, or a folder."""

    folder: Path
    head: Head
    source: dict[str, str]


def fetch_head(address: str, *, force: bool = False, unpublished: bool = False) -> Path:
    """The folder of the head that `address` names (`user/repository[@revision]`, `hf://…`, or a local folder), every
    part of it verified. What is in the hub's cache is not fetched again, unless `force`. Needs no workspace.

    `unpublished`: a local folder may also hold a head as a workspace keeps it. Its contents are checked alike, but it
    does not say what it should be.

    Raises UsageError for no address, HubError when the hub does not give it, StoreError when it is not as a head must
    be.
    """
    place = parse_address(address)
    if unpublished and isinstance(place, Path):
        folder = _local(place, address)
        if HeadInfo.read(folder).publication is None:
            check_unpublished(folder, printable(str(folder)))
            return folder
    return fetch(address, force=force).folder


def fetch(address: str, *, force: bool = False) -> Fetched:
    """As `fetch_head`, with the head and its source."""
    place = parse_address(address)
    if isinstance(place, HubAddress):
        return _download(place, force)
    folder = _local(place, address)
    return Fetched(folder, foreign_head(folder, printable(str(folder))), {"folder": str(folder.absolute())})


def pulled(store: Store, address: str) -> Artifact | None:
    """The artifact that `pull_head` made of what is at `address` now; None where it was not pulled."""
    return store.find(Draft.identity("pull", **_question(fetch(address))), "complete")


def pull_head(
    store: Store, address: str, *, clip: Path | None = None, trust_clip: bool = False, force: bool = False
) -> Artifact:
    """The head at `address` as an artifact, its commit pinned in settings and identity; the one that is there already
    if it was pulled before. `clip`: where the local CLIP lies that the head belongs to, or the CLIP's name; its name,
    like `trust_clip`, says that it may be loaded although it is not a known one.

    Raises as fetch_head, and ModelError when `clip` is not the CLIP that the head was made with.
    """
    fetched = fetch(address, force=force)
    info, question = fetched.head.info, _question(fetched)
    trusted = trust_clip or chosen_by_name(info.clip.model, clip)
    place, problem = _clip_place(store, info.clip.model, None if chosen_by_name(info.clip.model, clip) else clip)
    try:
        about = require_trust(info.clip.model, address, trust=trusted)
    except UsageError as error:
        about, problem = error.message, f"{error.message}: {error.hint}"
    said = {"clip": place, "trusted": trusted, "about_clip": about, "warnings": [problem] if problem else []}
    draft = Draft.begin(store, "head", "pull", **question)
    made = draft.artifact
    if not made.reused:
        for name in FILES:
            if draft.write_file(name, (fetched.folder / name).read_bytes()) != question["digests"][name]:
                raise StoreError(
                    f"{fetched.folder / name} changed while it was read", hint="run the same command again"
                )
        draft.note({"method": info.method, "threshold": info.threshold, "source": fetched.source, **said})
        labels = label_rows(info)
        draft.commit({"labels": labels}, FILES)
        made = draft.complete(done=len(labels))
    elif place or trusted:
        draft.note(said)
    return replace(store.get(made.name), reused=made.reused)


def _local(place: Path, address: str) -> Path:
    """The folder of a head that `place`, written as `address`, means: itself, or that of one of the head's files."""
    with contextlib.suppress(OSError):  # a name that is too long, or a folder that may not be looked into
        folder = place.parent if place.name in FILES and place.is_file() else place
        if folder.is_dir():
            return folder
    raise UsageError(f"there is no folder {printable(address)}", hint="a hub repository is named user/repository")


def _question(fetched: Fetched) -> dict[str, Any]:
    """What identifies a pulled head: repository and commit, or for a folder its content alone."""
    return {
        "settings": {key: value for key, value in fetched.source.items() if key in ("repository", "commit")},
        "inputs": {},
        "models": {"clip": fetched.head.info.clip.model},
        "seed": 0,
        "digests": {name: sha256_file(fetched.folder / name) for name in FILES},
    }


def _download(address: HubAddress, force: bool) -> Fetched:
    """The head of the commit that `address` means now, from the cache where it is in it. Without an answer of the hub,
    that of the commit which it meant when it was last fetched."""
    known = known_commit(address)
    try:
        if offline() and (known is None or not is_complete(head_folder(address, known))):
            raise not_reached(wanted_head(address), "it must not be asked")
        commit = known if known and (is_commit(address.revision) or offline()) else ask_commit(address)
        folder = head_folder(address, commit)
        if not is_complete(folder) or (force and not offline()):
            _fetch_into(folder, address, commit)
        remember(address, commit)
    except NotReachedError:
        if force or known is None or not is_complete(head_folder(address, known)):
            raise
        logger.info("%s is used as it was when the hub was last reached", address)
        commit, folder = known, head_folder(address, known)
    source = {"repository": address.repository, "commit": commit, "revision": address.revision or MAIN}
    return Fetched(folder, foreign_head(folder, str(address)), source)


def _fetch_into(folder: Path, address: HubAddress, commit: str) -> None:
    """Put both files into `folder`, after every check that needs no more than their bytes."""
    where = str(address)
    infos: list[HeadInfo] = []

    def size(content: bytes) -> int:
        infos.append(parse_foreign(content, where))
        return tensor_size(infos[-1], where)

    got = download(address, commit, MAX_INFO_BYTES, size)
    check_tensors(got.tensors, infos[-1], where)
    write_atomic(folder / INFO_FILE, got.info)
    write_atomic(folder / TENSOR_FILE, got.tensors)


def _clip_place(store: Store, spec: ModelSpec, given: Path | None) -> tuple[str | None, str | None]:
    """(where the CLIP that a head names by content lies, what to do if it is not here). Of one that any machine finds
    by its name, or that comes with synood, (None, None).

    Raises ModelError when the place that was `given` holds another one.
    """
    if not named_by_content(spec):
        if given is not None:
            raise UsageError(f"this head finds its CLIP, {spec.name}, by its name", hint="leave --clip out")
        return None, None
    try:
        places = [*clip_places(store), BUNDLED_CLIP] if given is None else [given]
        found = located(spec, places, store.file_digest)
    except ModelError as error:
        if given is None:
            return None, f"{error.message}: {error.hint}"
        raise ModelError(
            f"{printable(str(given))} is not the CLIP that this head was made with", hint=error.hint
        ) from error
    place = found.name if found.name != spec.name else found.pretrained
    return (None if given is None else place), None
