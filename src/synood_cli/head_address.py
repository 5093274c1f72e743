"""What the address of a head means: an artifact of a workspace, a folder, or a repository of the hub.

Two ways lead to the head. What is kept in a workspace needs an artifact: `resolve_head`. What keeps nothing (a stream
of scores, the Python door, an export) needs the files, with a workspace or without: `find_head`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from synood_cli.errors import UsageError
from synood_cli.hub.address import is_address
from synood_cli.hub.pull import fetch_head, pull_head, pulled
from synood_cli.models.known_clips import chosen_by_name, require_trust
from synood_cli.records import ModelSpec, printable
from synood_cli.stages.clip_trust import is_foreign, trusted_clips
from synood_cli.stages.heads import head_clip
from synood_cli.store.files import sha256_file
from synood_cli.store.heads import HeadInfo, clip_places
from synood_cli.store.store import Artifact, Store
from synood_cli.store.workspace import Workspace

T = TypeVar("T")


class FoundHead(NamedTuple):
    """The folder of a head (head.json and head.safetensors), what to call it in messages, what it says of itself, its
    CLIP as it can be loaded here, and what to tell the user of that CLIP before (None for a head of the user's own)."""

    folder: Path
    name: str
    info: HeadInfo
    spec: ModelSpec
    about_clip: str | None


def in_workspace(address: str | None) -> bool:
    """Whether `address` names an artifact (`head@3`; None is the newest head)."""
    return address is None or not is_address(address)


def find_head(
    address: str | None, workspace: Workspace | None, clip: Path | None = None, *, trust_clip: bool = False
) -> FoundHead:
    """The head that `address` means: an artifact of the workspace, a folder, or one on the hub, which is fetched; see
    `parse_address`. What was published is verified; nothing is written into the workspace, which also knows where CLIPs
    lie that belong to pulled heads. `clip`: where the head's CLIP lies, see `head_clip`, or its name again.
    `trust_clip`: load the CLIP of a head from elsewhere although it is not a known one.

    Raises UsageError for an address that means nothing and for a CLIP that is not trusted, ModelError for a CLIP that
    is missing or another one, and what the store and the hub raise."""
    if address is not None and is_address(address):
        folder, name = fetch_head(address, unpublished=True), printable(address)
        foreign = not _is_own(folder, workspace)
    elif workspace is None:
        raise UsageError(
            f"{address or 'the newest head'} is in a workspace, and there is none here or above",
            hint="-w DIR names the workspace; --head takes ./folder and the hub's user/repository too",
        )
    else:
        with Store.open(workspace, write=False) as store:
            head = store.resolve(address, "head")
            folder, name, foreign = head.folder, head.name, is_foreign(store, head)
    info = HeadInfo.read(folder)
    named, about = info.clip.model, None
    if foreign:
        trusted = _in_store(workspace, trusted_clips)
        about = require_trust(named, name, trusted=trusted, given=clip, trust=trust_clip)
    given = None if chosen_by_name(named, clip) else clip
    places = _in_store(workspace, clip_places)
    return FoundHead(folder, name, info, head_clip(info, name, sha256_file, places, given=given), about)


def resolve_head(store: Store, name: str | None, *, dry_run: bool = False) -> Artifact:
    """The head that `name` means: an artifact of this workspace, the newest if None, or one at an address, which is
    pulled. On a dry run nothing may be written: UsageError for one that was not pulled before.
    """
    if name is None or not is_address(name):
        return store.resolve(name, "head")
    if not dry_run:
        return pull_head(store, name)
    known = pulled(store, name)
    if known is None:
        raise UsageError(f"{printable(name)} is not in this workspace yet", hint=f"synood pull {printable(name)}")
    return known


def _in_store(workspace: Workspace | None, ask: Callable[[Store], Iterator[T]]) -> Iterator[T]:
    """What the workspace answers. It is opened only when the first answer is wanted: most heads find their CLIP,
    a known one, by its name."""
    if workspace is not None:
        with Store.open(workspace, write=False) as store:
            yield from ask(store)


def _is_own(folder: Path, workspace: Workspace | None) -> bool:
    """Whether the folder is that of a head which was made in the workspace."""
    if workspace is None or not folder.resolve().is_relative_to(workspace.root.resolve()):
        return False
    with Store.open(workspace, write=False) as store:
        heads = [head for head in store.artifacts("head") if head.folder.resolve() == folder.resolve()]
        return any(not is_foreign(store, head) for head in heads)
