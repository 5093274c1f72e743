"""Paths that the system refuses whatever is there: too long, in a circle, through a file, behind a closed folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from synood_cli.errors import UsageError
from synood_cli.records import printable

REASONS = {
    errno.ENAMETOOLONG: "file name too long",
    errno.ELOOP: "symbolic link loop",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EACCES: "permission denied",
}
ZERO_BYTE = "not a path: it holds a zero byte"

_SHOWN = 60
"""Characters of a long path that are shown, at each of its ends."""


def shown(path: str | Path) -> str:
    """`path` for a message: printable, and without its middle where it is long."""
    text = printable(os.fspath(path))
    return text if len(text) <= 3 * _SHOWN else f"{text[:_SHOWN]}…{text[-_SHOWN:]}"


def without_parents(path: Path) -> Path:
    """`path` from the root on, without `..`: it stays what it is when the current folder is moved or removed. Links
    are followed up to the last `..` only, so that the names after it stay those which the user gave."""
    path = path.absolute()
    parts = path.parts
    if ".." not in parts:
        return path
    last = len(parts) - parts[::-1].index("..")
    return Path(os.path.realpath(Path(*parts[:last])), *parts[last:])


def require_possible(path: str | Path) -> None:
    """Raise UsageError for a path at which nothing can be read or written. One at which nothing is yet is possible; a
    text that may be the name of something else, such as user/repository, is refused only where it can be no name."""
    try:
        os.stat(path)  # noqa: PTH116  (a Path would lose what the user wrote)
    except ValueError as error:
        raise UsageError(f"{shown(path)}: {ZERO_BYTE}", hint="check the path") from error
    except OSError as error:
        named = isinstance(path, Path) or path.startswith((os.sep, ".", "~"))
        if error.errno in REASONS and (named or error.errno == errno.ENAMETOOLONG):
            raise refused(path, error) from error


def refused(path: str | Path, error: OSError) -> UsageError:
    """What to tell the user of a path that the system refuses for one of the REASONS."""
    return UsageError(f"{shown(path)}: {REASONS[error.errno or 0]}", hint="check the path")
