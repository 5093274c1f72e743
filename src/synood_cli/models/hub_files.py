"""Files of models on the hub, without loading anything: their names, their commits, fetching them.

They are kept where huggingface_hub keeps them (HF_HOME, HF_HUB_CACHE), so that `hf download` and synood find what the
other has fetched: `models--org--name/snapshots/COMMIT/…`, and the commits of branches in `refs/`. What is there is not
asked for again, and a branch stays what it was when it was first fetched.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from synood_cli.errors import HubError, ModelError
from synood_cli.hub_client.transfer import MAX_ANSWER_BYTES, Transfer, transfer
from synood_cli.hub_client.wanted import MAIN, Wanted, is_commit, not_reached, offline, reason_of
from synood_cli.records import ModelSpec, printable
from synood_cli.regular_file import read_regular

MAX_WEIGHTS_BYTES = 64 * 2**30
"""Largest file of weights: the Hub itself takes none of more than 50 GB."""
MAX_FILE_BYTES = 64 * 2**20
"""Largest file of anything else, tokenizers among them; the tokenizers of today have up to 35 MB."""
AT_ONCE = 4
"""Files that are fetched at the same time."""

logger = logging.getLogger(__name__)

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_BRANCH = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)*")


class HubFile(NamedTuple):
    """A file of a repository, as the hub describes it. `digest`: "sha256:" or "git:" (of a git blob) and hex digits."""

    name: str
    size: int | None
    digest: str | None


def hub_id(spec: ModelSpec) -> str | None:
    """`org/repository` when the name is a hub id (`hf-hub:` in front or not), None for a folder or a built-in name."""
    if spec.folder is not None or spec.name.startswith("local-dir:"):
        return None
    name = spec.name.removeprefix("hf-hub:")
    is_path = name.startswith(("/", ".", "~"))
    return name if not is_path and name.count("/") == 1 else None


def fetch_files(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The local snapshot of a hub repository with the files that `patterns` name; no others are asked for.

    Nothing is asked of the hub about a commit that is known here and whose files are all here. If the hub does not
    answer, the files that are here are what there is. Each file is checked against its digest before it gets its name.

    Raises ModelError for what is no hub id, HubError when the hub does not give the files.
    """
    wanted = _wanted(repository, revision)
    commit = known_commit(repository, revision)
    files = None if commit is None else _listed(repository, commit)
    if commit is None or files is None:
        try:
            commit, files = _ask_listing(wanted)
        except HubError as error:
            if commit is None or not _has_any(_snapshot(repository, commit), patterns):
                raise
            logger.info("%s is used as it is in the cache: %s", wanted.name, error.message)
            return _snapshot(repository, commit)
        _remember(_listing_file(repository, commit), json.dumps(files))
    folder = _snapshot(repository, commit)
    chosen = [file for file in files if _is_named(file.name, patterns)]
    if any(not (folder / file.name).is_file() for file in chosen):
        if offline():
            raise not_reached(wanted, "it must not be asked")
        _fetch(wanted, commit, folder, chosen)
    if not is_commit(revision) and known_commit(repository, revision) != commit:
        _remember(_cache(repository) / "refs" / (revision or MAIN), commit)
    return folder


def largest(name: str) -> int:
    """The most bytes that a model's file of that name has."""
    return MAX_WEIGHTS_BYTES if name.endswith(".safetensors") else MAX_FILE_BYTES


def known_commit(repository: str, revision: str | None) -> str | None:
    """The commit that a branch or tag meant when something of it was first fetched; a commit is itself. None if nothing
    was."""
    if is_commit(revision):
        return revision
    branch = revision or MAIN
    with contextlib.suppress(OSError, ValueError):
        commit = read_regular(_cache(repository) / "refs" / branch, 100).decode("ascii").strip()
        return commit if is_commit(commit) else None
    with contextlib.suppress(OSError, ValueError):
        commit = read_regular(_asked(repository, branch), 100).decode("ascii")
        return commit if is_commit(commit) and _snapshot(repository, commit).is_dir() else None
    return None


def ask_commit(repository: str, revision: str | None, seconds: float) -> str:
    """The commit that a branch or tag means on the hub now, asked within so many seconds. Raises as fetch_files."""
    if offline():
        raise not_reached(_wanted(repository, revision), "it must not be asked")

    async def ask(hub: Transfer) -> str:
        return (await hub.repository())[0]

    commit = transfer(_wanted(repository, revision), ask, seconds)
    _remember(_asked(repository, revision or MAIN), commit)
    return commit


def _wanted(repository: str, revision: str | None) -> Wanted:
    if not _REPOSITORY.fullmatch(repository):
        raise ModelError(f"{printable(repository[:80])!r} is no hub id", hint="org/repository")
    if revision is not None and not (_BRANCH.fullmatch(revision) and ".." not in revision):
        raise ModelError(
            f"{printable(revision[:80])!r} is no revision of {repository}", hint="name a branch, tag or commit"
        )
    short = "" if revision is None else f"@{revision[:12] if is_commit(revision) else revision}"
    return Wanted(
        repository,
        revision,
        name=f"the model {repository}{short}",
        without_hub=f"get it as a folder, which works too: `hf download {repository}` elsewhere makes one",
        lacks_files="lacks a file that the hub lists",
    )


def _ask_listing(wanted: Wanted) -> tuple[str, list[HubFile]]:
    """The commit that is wanted, and its files."""
    if offline():
        raise not_reached(wanted, "it must not be asked")

    async def listing(hub: Transfer) -> tuple[str, dict[str, Any]]:
        return await hub.repository(sizes=True)

    commit, found = transfer(wanted, listing)
    try:
        return commit, [_described(entry) for entry in found["siblings"] if _is_plain(str(entry["rfilename"]))]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HubError(
            f"{wanted.name}: the hub does not list its files", hint=f"check HF_ENDPOINT; or {wanted.without_hub}"
        ) from error


def _described(entry: dict[str, Any]) -> HubFile:
    large, blob, size = (entry.get("lfs") or {}).get("sha256"), entry.get("blobId"), entry.get("size")
    sha256 = isinstance(large, str) and re.fullmatch(r"[0-9a-f]{64}", large)
    git = isinstance(blob, str) and re.fullmatch(r"[0-9a-f]{40}", blob)
    digest = f"sha256:{large}" if sha256 else f"git:{blob}" if git else None
    return HubFile(str(entry["rfilename"]), size if isinstance(size, int) and size >= 0 else None, digest)


def _is_plain(name: str) -> bool:
    """Whether `name` is a relative path without anything hidden, that leads nowhere else on any system."""
    plain = name.isprintable() and "\\" not in name and ":" not in name and len(os.fsencode(name)) <= 1000
    return plain and all(part and not part.startswith(".") and len(part) <= 200 for part in name.split("/"))


def _is_named(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns names the file; a star stands for no slash."""
    path = PurePosixPath(name)
    return any(name.count("/") == pattern.count("/") and path.match(pattern) for pattern in patterns)


def _has_any(folder: Path, patterns: Iterable[str]) -> bool:
    return any(path.is_file() for pattern in patterns for path in folder.glob(pattern))


def _fetch(wanted: Wanted, commit: str, folder: Path, files: Sequence[HubFile]) -> None:
    """Bring the files that `folder` lacks into it, each under its name when it is whole. What arrived of a file before
    an interruption is kept, and not asked for again."""
    from huggingface_hub.utils import WeakFileLock, tqdm  # type: ignore[attr-defined]

    arriving = _cache(wanted.repository) / "blobs"

    async def all_files(hub: Transfer) -> None:
        missing = [(file, _size(wanted, file)) for file in files if not (folder / file.name).is_file()]
        total = sum(size for _, size in missing)
        arrived = sum(path.stat().st_size for file, _ in missing if (path := _scratch(arriving, commit, file)).exists())
        if total - arrived > (free := shutil.disk_usage(arriving).free):
            raise HubError(
                f"{total - arrived:,} bytes of {wanted.name} are still to come, and {free:,} are free for the cache "
                f"({printable(str(arriving))})",
                hint="make room, or name another place for the cache: HF_HOME",
            )
        hub.allow(total)
        at_once = asyncio.Semaphore(AT_ONCE)

        async def one(file: HubFile, size: int) -> None:
            async with at_once:
                try:
                    await _fetch_file(hub, commit, file, size, arriving, folder / file.name)
                except OSError as error:
                    raise _cannot_keep(wanted, error) from error

        quiet = not sys.stderr.isatty()
        with tqdm(total=total, unit="B", unit_scale=True, desc=wanted.name, disable=quiet) as bar:  # type: ignore[no-untyped-call]
            hub.on_bytes = bar.update
            await asyncio.gather(*(one(file, size) for file, size in missing))

    try:
        arriving.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(arriving / "synood.lock"):
            transfer(wanted, all_files)
    except OSError as error:
        raise _cannot_keep(wanted, error) from error


async def _fetch_file(hub: Transfer, commit: str, file: HubFile, size: int, arriving: Path, target: Path) -> None:
    scratch = _scratch(arriving, commit, file)
    with scratch.open("a+b") as content:
        if content.tell() > size:
            content.truncate(0)
        hub.arrived(content.tell())
        if content.tell() < size:
            await hub.file(commit, file.name, content, size)
        content.flush()
        os.fsync(content.fileno())
        found = content.tell()
    if found != size or not await asyncio.to_thread(_has_digest, scratch, file.digest):
        scratch.unlink()
        raise HubError(
            f"{hub.wanted.name}: what the hub sent as {printable(file.name)} is not the file that it lists",
            hint="run the same command again; if it stays so, the hub (HF_ENDPOINT) is not to be trusted",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch.replace(target)


def _scratch(arriving: Path, commit: str, file: HubFile) -> Path:
    """Where a file of that commit is until it is whole."""
    return arriving / f"{hashlib.sha256(f'{commit}/{file.name}'.encode()).hexdigest()}.incomplete"


def _has_digest(path: Path, digest: str | None) -> bool:
    """Whether the content of `path` has this digest; True for None: the hub told none."""
    algorithm, _, expected = (digest or "").partition(":")
    if not expected:
        return True
    found = hashlib.sha256() if algorithm == "sha256" else hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            found.update(chunk)
    return found.hexdigest() == expected


def _size(wanted: Wanted, file: HubFile) -> int:
    """The size that the hub tells of a file. Raises HubError for none, and for one that no such file has."""
    limit = largest(file.name)
    if file.size is None or file.size > limit:
        told = "does not tell the size of" if file.size is None else f"tells of {file.size:,} bytes in"
        raise HubError(
            f"{wanted.name}: the hub {told} {printable(file.name)}; {limit:,} bytes are the most that is fetched",
            hint=f"check HF_ENDPOINT; or {wanted.without_hub}",
        )
    return file.size


def _cannot_keep(wanted: Wanted, error: OSError) -> HubError:
    return HubError(
        f"{wanted.name} cannot be kept in the cache: {reason_of(error)}",
        hint="make room, or name another place for the cache: HF_HOME",
    )


def _cache(repository: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repository.replace('/', '--')}"


def _snapshot(repository: str, commit: str) -> Path:
    return _cache(repository) / "snapshots" / commit


def _listing_file(repository: str, commit: str) -> Path:
    """Where the list of the files of a commit is kept."""
    return _notes(repository) / f"{commit}.json"


def _asked(repository: str, branch: str) -> Path:
    """Where it is kept which commit a branch or tag meant when the hub was asked: what is then fetched is fetched as a
    commit, and the branch is not noted beside it."""
    return _notes(repository) / "refs" / hashlib.sha256(branch.encode()).hexdigest()


def _notes(repository: str) -> Path:
    """The folder of what this endpoint has told of a repository."""
    from huggingface_hub import constants

    key = hashlib.sha256(f"{constants.ENDPOINT}\n{repository}".encode()).hexdigest()
    return Path(constants.HF_ASSETS_CACHE).expanduser() / "synood" / "models" / key


def _listed(repository: str, commit: str) -> list[HubFile] | None:
    """The files of a commit as the hub told them; None when it was not asked yet."""
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        rows = json.loads(read_regular(_listing_file(repository, commit), 2 * MAX_ANSWER_BYTES))
        return [HubFile(str(name), int(size) if size is not None else None, digest) for name, size, digest in rows]
    return None


def _remember(place: Path, content: str) -> None:
    """Write a note into the cache. Where that is not possible, the hub is asked again the next time."""
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = place.with_name(f"{place.name}.{uuid.uuid4().hex}")
        scratch.write_text(content, encoding="utf-8")
        scratch.replace(place)
