"""Opening files that others made, and why one cannot be opened, in words."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

from synood_cli import regular_file
from synood_cli.errors import ItemError
from synood_cli.paths import REASONS, ZERO_BYTE


def access_problem(path: Path, error: OSError) -> str:
    """The reason behind `error`, raised on opening `path`, without the path: the caller names the item."""
    if isinstance(error, FileNotFoundError):
        return "broken symbolic link" if path.is_symlink() else "no such file or folder"
    if error.errno == errno.ELOOP:
        return REASONS[errno.ELOOP]
    return (error.strerror or str(error)).lower()


def kind_problem(mode: int) -> str | None:
    """Why something of this `st_mode` cannot be read as a file, or None when it is a regular file."""
    if stat.S_ISREG(mode):
        return None
    return "is a folder, not a file" if stat.S_ISDIR(mode) else "is not a regular file"


def open_regular(path: Path) -> tuple[io.BufferedReader, os.stat_result]:
    """The regular file at `path`, open for reading, and its status. Raises ItemError, with a reason that does not
    repeat the path."""
    try:
        if problem := kind_problem(path.stat().st_mode):  # opening a device may do something
            raise ItemError(problem)
        return regular_file.open_regular(path)
    except OSError as error:
        raise ItemError(access_problem(path, error)) from error
    except ValueError as error:
        raise ItemError(ZERO_BYTE) from error


def too_many_bytes(size: int, limit: int) -> str:
    """Why a file of `size` bytes is not read."""
    return f"{size:,} bytes or more: at most {limit:,} are read"
