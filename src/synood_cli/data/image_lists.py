"""Image sets that a list names (data.path_lists says how it is written).

Labels from 0 are numbers of in-distribution classes, -1 is out of distribution.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from synood_cli.data.access import access_problem, kind_problem
from synood_cli.data.image_sets import ImageSet
from synood_cli.data.path_lists import OOD_LABEL, Line, read_lines
from synood_cli.errors import UsageError
from synood_cli.paths import ZERO_BYTE
from synood_cli.records import ImageFile, printable
from synood_cli.regular_file import open_regular

_LOOKED_AT = 100
"""Images of a list that are looked for before any work: a wrong data root is told at once."""


def open_list(path: Path, *, labelled: bool) -> Iterator[Line]:
    """The lines of the list at `path`. Raises UsageError, as soon as the first line is asked for, when it cannot be
    read, and on the way when it is no text."""
    try:
        file, _ = open_regular(path, pipe=True)
    except (OSError, ValueError) as error:
        reason = access_problem(path, error) if isinstance(error, OSError) else ZERO_BYTE
        raise _unreadable(printable(str(path)), reason) from error
    with file:
        yield from list_lines(file, printable(str(path)), labelled=labelled)


def list_lines(file: io.BufferedReader, shown: str, *, labelled: bool) -> Iterator[Line]:
    """The lines of the list in the open `file`, which messages call `shown`. Raises UsageError when it cannot be read
    or is no text."""
    try:
        yield from read_lines(file, labelled=labelled)
    except UnicodeDecodeError as error:
        hint = "save the list as UTF-8"
        raise UsageError(f"the list {shown} is not UTF-8 text ({error.reason})", hint=hint) from error
    except OSError as error:
        raise _unreadable(shown, (error.strerror or str(error)).lower()) from error


def _unreadable(shown: str, reason: str) -> UsageError:
    return UsageError(f"cannot read the list {shown}: {reason}", hint="check the path")


def scan_list(path: Path, data_root: Path) -> ImageSet:
    """The images that the list at `path` names, in its order, below `data_root`; `class_name` is the label as text,
    '' for -1. Each line needs a label.

    A bad line and an image that is listed again are problems. Whether a file is there is not asked of each (a list may
    have millions): one that is not is a failure when it is read, or told by `missing_images`.

    Raises UsageError when the list cannot be read or names no image that is there.
    """
    path, data_root = path.absolute(), data_root.absolute()
    images: dict[str, ImageFile] = {}
    problems: list[tuple[str, str]] = []
    for line in open_list(path, labelled=True):
        if wrong := line.problem or _wrong(line, line.path in images):
            problems.append((f"{path.name}, line {line.number}", wrong))
        else:
            class_name = "" if line.label == OOD_LABEL else str(line.label)
            images[line.path] = ImageFile(data_root, line.path, class_name)
    found = ImageSet(path, "list", list(images.values()), problems)
    if not any(_problem(image.path) == "" for image in found.files[:: max(1, len(images) // _LOOKED_AT)]):
        found = missing_images(found)
        if not found.images:
            raise _nothing(path, data_root, found.problems)
    return found


def _wrong(line: Line, listed: bool) -> str:
    if line.label is None:
        return f"not `relative/path label` with a label from {OOD_LABEL}: {printable(line.path)}"
    return f"{printable(line.path)} is listed already; its first line counts" if listed else ""


def missing_images(found: ImageSet) -> ImageSet:
    """`found` without the files that are not there or are no files, which become problems."""
    images, problems = [], list(found.problems)
    for image in found.files:
        if problem := _problem(image.path):
            problems.append((image.name, problem))
        else:
            images.append(image)
    return replace(found, images=images, problems=problems)


def _problem(path: Path) -> str:
    try:
        return kind_problem(path.stat().st_mode) or ""
    except OSError as error:
        return access_problem(path, error)


def _nothing(path: Path, data_root: Path, problems: Sequence[tuple[str, str]]) -> UsageError:
    found = "".join(f"; {printable(name)}: {reason}" for name, reason in problems[:3])
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return UsageError(
        f"the list {printable(str(path))} names no image below {printable(str(data_root))}{found}{more}",
        hint="lines are `relative/path label`; --data-root DIR says which folder the paths start from",
    )
