"""Word lists that people write: UTF-8 text, one entry a line."""

from __future__ import annotations

from pathlib import Path

from synood_cli.data.access import access_problem
from synood_cli.errors import UsageError
from synood_cli.records import printable


def read_entries(path: Path) -> list[tuple[int, str]]:
    """(line number, text) of the entries of the UTF-8 file at `path` (with or without a byte order mark): each line
    stripped of white space, without blank lines and lines that begin with #.

    Raises UsageError when the file cannot be read, is not UTF-8 (naming the line), or has no entry.
    """
    shown = printable(str(path))
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise UsageError(
            f"cannot read the list {shown}: {access_problem(path, error)}", hint="check the path"
        ) from error
    entries: list[tuple[int, str]] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise UsageError(f"{shown}, line {number}: not UTF-8 text", hint="save the list as UTF-8") from error
        if text and not text.startswith("#"):
            entries.append((number, text))
    if not entries:
        raise UsageError(f"the list {shown} is empty", hint="write one entry a line")
    return entries
