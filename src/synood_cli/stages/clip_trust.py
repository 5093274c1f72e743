"""Which heads of a workspace came from elsewhere, and which CLIPs its user named."""

from __future__ import annotations

from collections.abc import Iterator

from synood_cli.models.revisions import by_content
from synood_cli.records import ModelSpec
from synood_cli.store.store import Artifact, Store

PULL = "pull"
"""The stage of heads that came from elsewhere."""


def root_of(store: Store, head: Artifact) -> Artifact:
    """The head that `head` was made from first: one that was mined here, or pulled."""
    while (before := store.ancestor(head, "head")) is not None:
        head = before
    return head


def is_foreign(store: Store, head: Artifact) -> bool:
    """Whether `head`, or the head that it was made from, came from elsewhere."""
    return root_of(store, head).stage == PULL


def trusted_clips(store: Store) -> Iterator[ModelSpec]:
    """The CLIPs that the user of a workspace named: for heads made in it, and by `synood pull --trust-clip`."""
    for head in store.artifacts("head"):
        clip = store.models(head).get("clip")
        if clip is not None and (head.notes.get("trusted") if head.stage == PULL else not is_foreign(store, head)):
            yield by_content(clip)
