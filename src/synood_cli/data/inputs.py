"""What is to be scored, found while it is scored: files, folders and lists of paths, of any number in flat memory.

Nothing is collected and nothing sorted: the images of a folder come in the order in which its file system lists them.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from synood_cli.data.access import access_problem
from synood_cli.data.endings import not_read, taken_for
from synood_cli.data.image_lists import list_lines, open_list
from synood_cli.data.passed_over import PassedOver
from synood_cli.data.path_lists import Line
from synood_cli.errors import UsageError
from synood_cli.records import printable

PACKED_SUFFIX = ".tar"

STDIN = "-"
"""The input that means: paths, one a line, on stdin."""

LIST_SUFFIX = ".txt"
"""A file of this ending is a list of paths, one a line; any other file is an image, whatever its name."""


class Found(NamedTuple):
    """An image that was found. `path` is as the user would write it: below the input that it was found in. `name` is
    its place in a folder that keeps relative paths: relative, and without `..`. `problem`: why it cannot be read,
    where that is known already.
    """

    path: str
    name: str
    problem: str | None = None


def check_inputs(inputs: Sequence[str], *, folders_only: bool = False) -> None:
    """Raise UsageError for an input that is not there, and with `folders_only` for one that is no folder."""
    for given in inputs:
        shown = printable(given)
        if given.lower().endswith(PACKED_SUFFIX):
            raise UsageError(f"{shown} is an archive: alone, and without -o, its scores are kept in the workspace")
        if given != STDIN and not Path(given).exists():
            reason = access_problem(Path(given), FileNotFoundError())
            raise UsageError(f"{shown}: {reason}", hint="give images, folders, lists of paths (.txt), or - for stdin")
        if folders_only and not Path(given).is_dir():
            raise UsageError(f"{shown} is no folder, and only folders grow", hint="--watch takes folders")


def find_images(
    inputs: Sequence[str],
    skip: Path | None = None,
    data_root: Path | None = None,
    passed_over: PassedOver | None = None,
) -> Iterator[Found]:
    """The images of all inputs: those below a folder, those that a list names, and each file itself.

    The folder `skip` is not entered (it is where images are set aside). Lists are read as data.path_lists says. The
    paths of a list file start from `data_root`, else from the list's own folder, and may have a label behind them;
    those on stdin start from the current folder, and have none. What they name may fail to be an image or to exist:
    reading it tells. `passed_over` is told of the other files in folders.
    """
    others = PassedOver() if passed_over is None else passed_over
    for given in inputs:
        if given == STDIN:
            yield from map(_listed, _stdin_lines())
        elif Path(given).is_dir():
            yield from _below(given, skip, others)
        elif given.lower().endswith(LIST_SUFFIX):
            start = os.path.dirname(given) if data_root is None else str(data_root)  # noqa: PTH120
            yield from (_listed(line, start) for line in open_list(Path(given), labelled=True))
        else:
            yield _single(given)


def _below(root: str, skip: Path | None, passed_over: PassedOver) -> Iterator[Found]:
    entered: set[tuple[int, int]] = set()
    if skip is not None and skip.is_dir():
        entered.add(_identity(skip.stat()))
    pending = [""]
    while pending:
        folder = pending.pop()
        place = os.path.join(root, folder) if folder else root  # noqa: PTH118  (keeps "./" as the user wrote it)
        folders: list[str] = []
        try:
            identity = _identity(Path(place).stat())
            if identity in entered:
                continue
            entered.add(identity)
            with os.scandir(place) as listing:
                for entry in listing:
                    if entry.name.startswith("."):
                        continue
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if _is_folder(entry):
                        folders.append(name)
                    elif (kind := taken_for(entry.name)) == "other":
                        passed_over.add([os.path.join(root, name)])  # noqa: PTH118
                    else:
                        problem = not_read(name) if kind == "unreadable" else None
                        yield Found(os.path.join(root, name), name, problem)  # noqa: PTH118
        except OSError as error:
            yield Found(place, folder or place, access_problem(Path(place), error))
        pending.extend(sorted(folders, reverse=True))  # as data.folders: of several ways to a folder, the same one


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _stdin_lines() -> Iterator[Line]:
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("there is nothing on stdin: it is closed", hint="give images, folders or lists instead of -")
    return list_lines(cast(io.BufferedReader, sys.stdin.buffer), "on stdin", labelled=False)


def _listed(line: Line, start: str = "") -> Found:
    if line.problem:
        return Found(line.path, line.path, line.problem)
    return _single(os.path.join(start, line.path))  # noqa: PTH118


def _single(path: str) -> Found:
    """Its name is its path from here; where it lies elsewhere, its absolute path without the root."""
    if not path.startswith(os.sep) and os.pardir not in path:
        return Found(path, os.path.normpath(path))
    relative = os.path.relpath(path)
    outside = relative == os.pardir or relative.startswith(os.pardir + os.sep)
    return Found(path, os.path.abspath(path).lstrip(os.sep) if outside else relative)  # noqa: PTH100


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
