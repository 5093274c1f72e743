"""What is asked of a hub, and its refusals as messages with a next step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from synood_cli.errors import HubError
from synood_cli.records import printable

MAIN = "main"
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
EXCERPT = 200
"""Characters of what a hub says that a message quotes."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: object) -> bool:
    """Whether `revision` is a whole commit id, which can never mean anything else."""
    return isinstance(revision, str) and _COMMIT.fullmatch(revision) is not None


class Wanted(NamedTuple):
    """A repository at a revision (a branch, tag or commit; None = the main branch), and how messages speak of it."""

    repository: str
    revision: str | None
    name: str
    """"user/head@v2", "the model user/clip"."""
    without_hub: str
    """How to do without the hub: "bring the head as a folder: …"."""
    lacks_files: str
    """What it means that a file is not in the repository: "holds no head of synood"."""


class NotReachedError(HubError):
    """The hub did not answer: what is in the cache may be used instead."""


def refused(wanted: Wanted, status: int, headers: Mapping[str, str], said: str = "") -> HubError:
    """What an answer of the hub with an error's `status` means; its X-Error-Code says more than the status."""
    name = wanted.name
    code, message = headers.get("X-Error-Code"), headers.get("X-Error-Message", "")
    shown = said or printable(message[:EXCERPT])
    problem, hint = f"{name}: the hub answers with status {status}{shown and f': {shown}'}", "run it again later"
    if code == "GatedRepo":
        problem, hint = f"access to {name} must be granted to you first", f"ask for it on its page, then {LOG_IN}"
    elif code == "RevisionNotFound":
        problem, hint = f"{name}: there is no such revision", "name a branch, a tag or a commit of it"
    elif code == "EntryNotFound":
        problem, hint = f"{name} {wanted.lacks_files}", f"check the name; or {wanted.without_hub}"
    elif code == "RepoNotFound" or status == 404 or (status == 401 and not message.startswith("Invalid credentials")):
        problem = f"the hub has no repository {wanted.repository} that you may read"
        hint = f"check the name; if it is private, {LOG_IN}; a folder is written ./folder"
    elif status in (401, 403):
        token = "refuses the token" if status == 401 else "does not allow this to the token that was sent"
        problem, hint = f"{name}: the hub {token} (status {status})", LOG_IN
    elif status == 429:
        problem, hint = f"{name}: the hub has had too many requests from here", "wait a while, then run it again"
    return HubError(problem, hint=hint)


def not_reached(wanted: Wanted, reason: str) -> NotReachedError:
    """That the hub does not answer, for a `reason`, or must not be asked."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return NotReachedError(
            f"{wanted.name} is not in the cache on this machine, and HF_HUB_OFFLINE is set",
            hint=f"unset HF_HUB_OFFLINE, or {wanted.without_hub}",
        )
    return NotReachedError(
        f"{wanted.name} cannot be fetched from the hub, and is not in the cache: {reason}",
        hint="check the network (and HF_ENDPOINT, if it is set), then run the same command again; or "
        f"{wanted.without_hub}",
    )


def offline() -> bool:
    """Whether the hub must not be asked (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def reason_of(error: BaseException) -> str:
    """The first line of what the error says that is not empty; its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0]) if lines else type(error).__name__
