"""Read a small file that a user or somebody else wrote: a regular file only, and no more than fits."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, limit: int) -> bytes:
    """The content of the regular file at `path`; a link is followed. Never waits for a writer, as a pipe would.

    Raises OSError, also (EFBIG) for more than `limit` bytes and (EINVAL) for what is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            what = "folder" if stat.S_ISDIR(mode) else "pipe or a device"
            raise OSError(errno.EINVAL, f"it is a {what}, not a file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return content
