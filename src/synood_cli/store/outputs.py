"""What is written outside a workspace: one lock per output, unguessable scratch names, one rename at the end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

from synood_cli.errors import StoreError, UsageError
from synood_cli.records import printable
from synood_cli.store.files import (
    disk_errors,
    has_name,
    remove_abandoned,
    scratch_in,
    sync,
    sync_folder,
    write_atomic,
)

READER_SECONDS: Final = 5.0
"""How long a named pipe is given to be opened for reading by another program."""

_DESCRIPTOR = re.compile(r"/dev/std(?P<name>in|out|err)|(?:/dev|/proc/(?:self|thread-self|\d+))/fd/(?P<number>\d+)")
_STANDARD = {"in": 0, "out": 1, "err": 2}
_MOST_LINKS = 40  # as the kernel
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def descriptor_of(path: Path) -> int | None:
    """The open file of this process that `path` means, also through links: 1 for /dev/stdout, N for /dev/fd/N."""
    for _ in range(_MOST_LINKS):
        path = Path(os.path.abspath(path))  # noqa: PTH100  (a link is not to be followed here)
        match = _DESCRIPTOR.fullmatch(str(path))
        if match:
            return _STANDARD[match["name"]] if match["name"] else int(match["number"])
        try:
            path = path.parent / path.readlink()
        except OSError:
            return None
    return None


def open_stream(path: Path, seconds: float = READER_SECONDS) -> BinaryIO | None:
    """`path`, unbuffered and open for writing, where it is a stream: an open file of this process (/dev/stdout,
    `>(…)`), a named pipe or a character device. None where it is an ordinary file, or nothing yet.

    Raises StoreError for a folder and for what else cannot be written to; UsageError for an open file that is none, or
    is open for reading, and for a pipe that nobody has opened for reading after `seconds`.
    """
    number = descriptor_of(path)
    if number is not None:
        return os.fdopen(_duplicate(path, number), "wb", buffering=0)
    with disk_errors(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return None
    if stat.S_ISREG(mode):
        return None
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        raise _not_a_file(path, mode)
    return os.fdopen(_opened_stream(path, seconds), "wb", buffering=0)


def _not_a_file(path: Path, mode: int) -> StoreError:
    kind = "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file"
    return StoreError(f"cannot write {printable(str(path))}: {kind}", hint="name a file")


def _duplicate(path: Path, number: int) -> int:
    try:
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
            return os.dup(number)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
    raise UsageError(f"{printable(str(path))} is not open for writing", hint="name a file, or /dev/stdout")


def _opened_stream(path: Path, seconds: float) -> int:
    """A file descriptor of the pipe or device at `path`. Opening a pipe would wait for its reader for ever."""
    end = time.monotonic() + seconds
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno != errno.ENXIO:
                with disk_errors(path):
                    raise
            if time.monotonic() >= end:
                raise UsageError(
                    f"no program reads from the pipe {printable(str(path))}", hint="start the reader first"
                ) from error
            time.sleep(0.05)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


@contextlib.contextmanager
def output_lock(path: Path) -> Iterator[None]:
    """Hold the output `path`, so that two processes do not write to it at once. The lock is an empty hidden file beside
    it, which is removed at the end; one that a crash has left hinders nobody.

    Raises StoreError when another process holds it. On a file system without locks nothing is held.
    """
    place = path.with_name(f".{path.name}.lock")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(place)
    if descriptor is None:
        raise StoreError(
            f"{printable(str(path))} is being written by another process",
            hint="wait until it ends, or name another place",
        )
    try:
        yield
    finally:
        place.unlink(missing_ok=True)  # while it is held: whoever waits finds that its file has lost the name
        os.close(descriptor)


def _locked(place: Path) -> int | None:
    """A descriptor that holds the lock file at `place`, None when another process does."""
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if has_name(descriptor, place):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return descriptor
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has removed it between our two steps


def write_output(path: Path, content: bytes) -> None:
    """Write `content` to `path`: whole or not at all where that is a file, as it comes where it is a stream.

    Raises UsageError and StoreError as open_stream does, and StoreError when the disk refuses.
    """
    stream = open_stream(path)
    if stream is None:
        write_atomic(path, content)
        return
    with stream, disk_errors(path):
        write_all(stream, content)


def write_all(stream: BinaryIO, content: bytes) -> None:
    """Write `content` to an unbuffered file, which may take it piece by piece."""
    left = memoryview(content)
    while left:
        left = left[stream.write(left) or 0 :]


@contextlib.contextmanager
def new_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """Within: an empty scratch file (ending in `suffix`) beside the file that `path` means; at the end what was written
    there takes its place. After an exception the file is as it was.

    Raises StoreError before anything is written when `path` is a folder, a pipe or a device.
    """
    with disk_errors(path):
        with contextlib.suppress(FileNotFoundError):
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                raise _not_a_file(path, mode)
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(target.parent)
    with ExitStack() as held:
        with disk_errors(path):
            scratch = held.enter_context(scratch_in(target.parent, suffix))
        yield scratch
        with disk_errors(path):
            with scratch.open("rb") as file:
                sync(file.fileno())
            scratch.replace(target)
            sync_folder(target.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Within: a scratch folder beside `path`, which becomes `path` at the end. After an exception, such as a full disk,
    nothing is left.

    Raises UsageError when `path` exists and is not an empty folder, or is the current folder; StoreError when another
    process writes to it, and when the disk refuses.
    """
    target = Path(os.path.realpath(path))
    with output_lock(target), disk_errors(path):
        _require_absent(path, target)
        remove_abandoned(target.parent)
        with scratch_in(target.parent, directory=True) as scratch:
            yield scratch
            _require_absent(path, target)
            scratch.rename(target)
            sync_folder(target.parent)


def _require_absent(path: Path, target: Path) -> None:
    shown = printable(str(path))
    if not os.path.lexists(target):
        return
    if not target.is_dir() or any(target.iterdir()):
        raise UsageError(f"{shown} exists and is not empty", hint="name a new folder")
    if target.is_mount() or target == Path.cwd():  # neither can be replaced by another folder
        raise UsageError(f"{shown} is a mount point or the current folder", hint="name a new folder in it")
