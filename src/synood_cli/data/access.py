"""Why a file or folder cannot be opened, in words."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def access_problem(path: Path, error: OSError) -> str:
    """The reason behind `error`, raised on opening `path`, without the path: the caller names the item."""
    if isinstance(error, FileNotFoundError):
        return "broken symbolic link" if path.is_symlink() else "no such file or folder"
    if error.errno == errno.ELOOP:
        return "symbolic link loop"
    return (error.strerror or str(error)).lower()


def kind_problem(mode: int) -> str | None:
    """Why something of this `st_mode` cannot be read as a file, or None when it is a regular file.

    Asked before opening: opening a named pipe would wait forever.
    """
    if stat.S_ISREG(mode):
        return None
    return "is a folder, not a file" if stat.S_ISDIR(mode) else "is not a regular file"
