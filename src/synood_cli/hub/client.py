"""The hub's client, and its errors as messages with a next step.

Endpoint, token, cache and offline mode are the client's own business: HF_ENDPOINT, HF_TOKEN or `hf auth login`,
HF_HOME, HF_HUB_OFFLINE.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from synood_cli import __version__
from synood_cli.errors import HubError
from synood_cli.records import printable

USER_AGENT = f"synood/{__version__}"
"""Who is asking, as the client tells the hub."""

EXCERPT = 200
"""Characters of what a hub says that a message quotes."""

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


class NotReachedError(HubError):
    """The hub did not answer: what is in the cache may be used instead."""


@contextlib.contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into HubError; `what` is the repository that it is about. To be put around calls
    of the client alone: it reports cut transfers and odd answers as OSError, RuntimeError and ValueError too."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        response = error.response
        raise refused(what, response.status_code, response.headers, reason_of(error)) from error
    except (errors.OfflineModeIsEnabled, errors.HTTPError) as error:  # type: ignore[attr-defined]  # of its HTTP library
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise not_reached(what, reason_of(cause)) from error
    except errors.HFValidationError as error:
        raise HubError(f"{what}: {reason_of(error)}", hint="user/repository[@revision]") from error
    except (OSError, RuntimeError, ValueError) as error:
        because = f": {reason_of(error.__cause__)}" if isinstance(error.__cause__, Exception) else ""
        raise HubError(f"{what}: {reason_of(error)}{because}", hint="run the same command again") from error


def refused(what: str, status: int, headers: Mapping[str, str], said: str = "") -> HubError:
    """What an answer of the hub with an error's `status` means; its X-Error-Code says more than the status."""
    code, message = headers.get("X-Error-Code"), headers.get("X-Error-Message", "")
    shown = said or printable(message[:EXCERPT])
    problem, hint = f"{what}: the hub answers with status {status}{shown and f': {shown}'}", "run it again later"
    if code == "GatedRepo":
        problem, hint = f"access to {what} must be granted to you first", f"ask for it on its page, then {LOG_IN}"
    elif code == "RevisionNotFound":
        problem, hint = f"{what}: there is no such revision", "name a branch, a tag or a commit of it"
    elif code == "EntryNotFound":
        problem = f"{what} holds no head of synood"
        hint = "a head's repository has head.json and head.safetensors"
    elif code == "RepoNotFound" or status == 404 or (status == 401 and not message.startswith("Invalid credentials")):
        problem = f"the hub has no repository {what} that you may read"
        hint = f"check the name; if it is private, {LOG_IN}; a folder is written ./folder"
    elif status in (401, 403):
        token = "refuses the token" if status == 401 else "does not allow this to the token that was sent"
        problem, hint = f"{what}: the hub {token} (status {status})", LOG_IN
    elif status == 429:
        problem, hint = f"{what}: the hub has had too many requests from here", "wait a while, then run it again"
    return HubError(problem, hint=hint)


def not_reached(what: str, reason: str) -> NotReachedError:
    """That the hub does not answer, for a `reason`, or must not be asked."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return NotReachedError(
            f"{what} is not in the cache on this machine, and HF_HUB_OFFLINE is set",
            hint="unset HF_HUB_OFFLINE, or bring the head as a folder: synood pull ./FOLDER",
        )
    return NotReachedError(
        f"{what} cannot be fetched from the hub, and is not in the cache: {reason}",
        hint="check the network (and HF_ENDPOINT, if it is set), then run the same command again",
    )


def reason_of(error: Exception) -> str:
    """The first line of what the error says that is not empty, without its type where it says anything."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0]) if lines else type(error).__name__
