"""By what a file is known again: its content, and the marks by which one can tell that it was not touched.

A stamp is size, modification time, change time and inode, `bytes:ns:ns:number`. No program can set the change time, so
a file with the same stamp was neither written to nor replaced: it need not be read to know that. A stamp that differs
says nothing (a copy, a rename and a chmod change it); then the content decides.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from pathlib import Path
from typing import Final, NamedTuple

MISSING: Final = "missing"
"""The stamp of a file that does not exist, or cannot be looked at."""

UNSETTLED: Final = ""
"""The stamp of a file that was changed a moment ago: a change within the same tick of the clock would not show."""

SETTLED_SECONDS: Final = 2.0
"""The coarsest clock of a file system (FAT's)."""


_STAMP = re.compile(r"\d{1,20}:-?\d{1,20}:-?\d{1,20}:\d{1,20}")


class Identity(NamedTuple):
    """What was at a path: the SHA-256 of its content (None where it was not read), and its stamp."""

    sha256: str | None
    stamp: str


def is_stamp(text: str) -> bool:
    """Whether `text` is what stamp_of or settled gives."""
    return text in (MISSING, UNSETTLED) or _STAMP.fullmatch(text) is not None


def stamp_of(path: Path) -> str:
    """The stamp of the file that is at `path` now, links followed."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # a path with a zero byte is none
        return MISSING
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def settled(stamp: str) -> str:
    """`stamp` where it is old enough to be trusted, else UNSETTLED."""
    if stamp in (MISSING, UNSETTLED):
        return stamp
    return stamp if seconds_since_change(stamp) >= SETTLED_SECONDS else UNSETTLED


def seconds_since_change(stamp: str) -> float:
    """Since the change time of a file's stamp, by this machine's clock."""
    return (time.time_ns() - int(stamp.split(":")[2])) / 1e9


def stamped_size(stamp: str) -> int | None:
    """The size in bytes that a stamp tells, if any."""
    return None if stamp in (MISSING, UNSETTLED) else int(stamp.partition(":")[0])


def content_sha256(path: Path) -> str:
    """Hex SHA-256 of the regular file at `path`. Raises OSError when it is none or cannot be read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe would wait for a writer
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
        return hashlib.file_digest(file, "sha256").hexdigest()
