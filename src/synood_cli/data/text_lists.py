"""Word lists that people write: text, one entry a line."""

from __future__ import annotations

from pathlib import Path

from synood_cli.data.access import access_problem
from synood_cli.data.encodings import utf8
from synood_cli.errors import UsageError
from synood_cli.paths import ZERO_BYTE
from synood_cli.records import printable
from synood_cli.regular_file import read_regular

LIST_BYTES = 1 << 26
"""The largest list that is read: all of WordNet has 2 million bytes."""


def read_text(path: Path, limit: int, what: str) -> bytes:
    """The text in the file at `path`, or in a pipe that was handed over, as UTF-8 without a byte order mark; UTF-16 and
    UTF-32 with one are converted. Other bytes stay as they are: the caller tells where they are no UTF-8.

    Raises UsageError, which calls it `what`, when it cannot be read or is larger than `limit` bytes.
    """
    shown = printable(str(path))
    try:
        return utf8(read_regular(path, limit, pipe=True))
    except UnicodeDecodeError as error:
        raise UsageError(f"the {what} {shown} is damaged: {error.reason}", hint="save it as UTF-8") from error
    except (OSError, ValueError) as error:
        reason = access_problem(path, error) if isinstance(error, OSError) else ZERO_BYTE
        raise UsageError(f"cannot read the {what} {shown}: {reason}", hint="check the path") from error


def read_entries(path: Path) -> list[tuple[int, str]]:
    """(line number, text) of the entries of the text file at `path` (encodings as in read_text): each line stripped of
    white space, without blank lines and lines that begin with #.

    Raises UsageError when the file cannot be read, is not text (naming the line), or has no entry.
    """
    shown = printable(str(path))
    entries: list[tuple[int, str]] = []
    for number, line in enumerate(read_text(path, LIST_BYTES, "list").splitlines(), start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise UsageError(f"{shown}, line {number}: not UTF-8 text", hint="save the list as UTF-8") from error
        if "\0" in text:
            raise UsageError(f"{shown}, line {number}: holds a zero byte", hint="save the list as UTF-8")
        if text and not text.startswith("#"):
            entries.append((number, text))
    if not entries:
        raise UsageError(f"the list {shown} is empty", hint="write one entry a line")
    return entries
