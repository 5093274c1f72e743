"""Read a file that a user or somebody else wrote: a regular file only, and no more than fits."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path


def open_regular(path: Path, *, pipe: bool = False) -> tuple[io.BufferedReader, os.stat_result]:
    """The regular file at `path`, open for reading, and its status; a link is followed. Never waits for a writer, as
    opening a pipe would.

    With `pipe`, a pipe that this process was handed is a file too (``<(command)`` of a shell, /dev/stdin); one that has
    a name of its own never is. Raises OSError, also (EINVAL) for what is neither, and ValueError for a path with a zero
    byte.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not _is_file(descriptor, path, pipe):
        what = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "pipe or a device"
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"it is a {what}, not a file", str(path))
    status = os.fstat(descriptor)
    # A file of the system, such as /proc/kmsg, may be regular and have nothing to read yet: it is empty then.
    os.set_blocking(descriptor, stat.S_ISFIFO(status.st_mode))
    return os.fdopen(descriptor, "rb"), status


def read_regular(path: Path, limit: int, *, pipe: bool = False) -> bytes:
    """The content of the regular file at `path`, opened as by open_regular.

    Raises OSError as it does, also (EFBIG) for more than `limit` bytes.
    """
    file, status = open_regular(path, pipe=pipe)
    with file:
        content = (file.read(limit + 1) or b"") if status.st_size <= limit else b""
    if len(content) > limit or status.st_size > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return content


def _is_file(descriptor: int, path: Path, pipe: bool) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISREG(mode) or (pipe and stat.S_ISFIFO(mode) and _handed_over(path))


def _handed_over(path: Path) -> bool:
    """Whether a pipe has no name but a file descriptor's: /dev/fd/N leads to "pipe:[…]" on Linux."""
    where = os.path.realpath(path)
    return os.path.basename(where).startswith("pipe:[") or os.path.dirname(where) == "/dev/fd"  # noqa: PTH119, PTH120
