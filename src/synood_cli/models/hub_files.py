"""Files of models on the hub, without loading anything: their names, their commits, fetching them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from synood_cli.errors import ModelError
from synood_cli.records import ModelSpec, printable

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def hub_id(spec: ModelSpec) -> str | None:
    """`org/repository` when the name is a hub id (`hf-hub:` in front or not), None for a folder or a built-in name."""
    if spec.folder is not None or spec.name.startswith("local-dir:"):
        return None
    name = spec.name.removeprefix("hf-hub:")
    is_path = name.startswith(("/", ".", "~"))
    return name if not is_path and name.count("/") == 1 else None


def fetch_files(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The local snapshot of a hub repository with the files that `patterns` name, and no others.

    Raises ModelError, with a next step, when the hub does not give them.
    """
    from huggingface_hub import constants, errors, snapshot_download

    what = repository if revision is None else f"{repository}@{revision[:12]}"
    folder = f"a folder works too: `hf download {repository}` elsewhere makes one"
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except errors.GatedRepoError as error:
        raise ModelError(
            f"access to the model {what} must be granted to you first", hint=f"ask for it on its page, then {LOG_IN}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {what} that you may read", hint=f"check the name; if it is private, {LOG_IN}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"the model {what}: there is no such revision", hint="name a branch, tag or commit") from error
    except errors.HFValidationError as error:
        raise ModelError(f"{printable(repository[:80])!r} is no hub id", hint="org/repository") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        cause = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError):
            raise _refused(what, cause) from error
        if constants.HF_HUB_OFFLINE:
            raise ModelError(
                f"the model {what} is not in the cache on this machine, and HF_HUB_OFFLINE is set",
                hint=f"unset HF_HUB_OFFLINE; {folder}",
            ) from error
        raise ModelError(
            f"the model {what} cannot be fetched from the hub, and is not in the cache: {first_line(cause or error)}",
            hint=f"check the network (and HF_ENDPOINT, if it is set); {folder}",
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(what, error) from error
    except Exception as error:  # the transfer may fail in any way; what it was stays as the cause
        raise ModelError(
            f"the model {what} cannot be fetched from the hub: {first_line(error)}",
            hint=f"run the same command again: what is in the cache is not fetched again; {folder}",
        ) from error


def _refused(what: str, error: Exception) -> ModelError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        token = "refuses the token" if status == 401 else "does not allow this to the token that was sent"
        return ModelError(f"the model {what}: the hub {token} (status {status})", hint=LOG_IN)
    if status == 429:
        return ModelError(f"the model {what}: the hub has had too many requests", hint="wait a while, then try again")
    return ModelError(f"the model {what}: the hub answers with status {status}", hint="run it again later")


def first_line(error: BaseException) -> str:
    """The first line of what an error says that is not empty; its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0]) if lines else type(error).__name__
