"""Lists of image paths, as people and programs write them: one format and one reader for every command.

A line is a path, or a path and a label: OpenOOD's `relative/path label`. The label is what follows the last blank,
when it is a whole number from -1. What ends a line is a newline, or CR LF; blanks at the end of a line are no part of
it, and blank lines are skipped. A list in which a zero byte comes before the first newline is separated by zero bytes,
as `find -print0` writes it: then every name is exact, and there are no labels. Names of any bytes work. A byte order
mark is skipped, and UTF-16 and UTF-32 with one are converted.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from synood_cli.data.encodings import MARK_BYTES, text_decoder
from synood_cli.paths import ZERO_BYTE
from synood_cli.records import printable

OOD_LABEL = -1

LONGEST_LINE = 1 << 16
"""Bytes of a line: a path has 4,096 at most."""

_CHUNK = 1 << 16
_LABEL = re.compile(rb"-1|\d{1,18}")


class Line(NamedTuple):
    """A line of a list: its number from 1, the path, the label (None without one), and why it is no path, or ''."""

    number: int
    path: str
    label: int | None = None
    problem: str = ""


def read_lines(source: io.BufferedReader, *, labelled: bool) -> Iterator[Line]:
    """The lines of a list, each as soon as it is there, in flat memory. With `labelled`, labels are told from paths;
    without, a line is a path.

    Raises UnicodeDecodeError for damaged UTF-16, and for UTF-16 without a byte order mark.
    """
    number = 0
    for number, (line, exact) in enumerate(_split(source), start=1):
        if exact:
            if line:
                yield Line(number, os.fsdecode(line))
            continue
        content = line.rstrip()
        if not content:
            continue
        if len(content) > LONGEST_LINE:
            yield Line(number, printable(os.fsdecode(content[:100])) + "…", None, f"longer than {LONGEST_LINE:,} bytes")
        elif b"\0" in content:
            yield Line(number, printable(os.fsdecode(content)), None, ZERO_BYTE)
        else:
            path, *last = content.rsplit(maxsplit=1) if labelled else (content,)
            if last and _LABEL.fullmatch(last[0]):
                yield Line(number, os.fsdecode(path), int(last[0]))
            else:
                yield Line(number, os.fsdecode(content))


def _split(source: io.BufferedReader) -> Iterator[tuple[bytes, bool]]:
    """(line without its end, is it exact: ended by a zero byte). Of a line that is too long, its beginning."""
    chunks = _decoded(source)
    waiting = b""
    separator = b""
    skipping = False
    for chunk in chunks:
        waiting += chunk
        if not separator:
            separator = _separator(waiting)
            if not separator and len(waiting) <= LONGEST_LINE:
                continue
        *lines, waiting = waiting.split(separator or b"\n")
        for line in lines:
            if not skipping:
                yield line, separator == b"\0"
            skipping = False
        if len(waiting) > LONGEST_LINE:
            if not skipping:
                yield waiting, False
            waiting, skipping = b"", True
    if waiting and not skipping:
        yield waiting, separator == b"\0"


def _separator(beginning: bytes) -> bytes:
    """What ends lines, as far as the `beginning` tells."""
    newline, zero = beginning.find(b"\n"), beginning.find(b"\0")
    if zero >= 0 and (newline < 0 or zero < newline):
        return b"\0"
    return b"\n" if newline >= 0 else b""


def _decoded(source: io.BufferedReader) -> Iterator[bytes]:
    """The bytes of the list without a byte order mark, as UTF-8 where there was one."""
    beginning = b""
    while chunk := source.read1(_CHUNK):
        beginning += chunk
        if len(beginning) >= MARK_BYTES or b"\n" in beginning:
            break
    if len(beginning) >= MARK_BYTES and (beginning[1:4:2] == b"\0\0" or beginning[:3:2] == b"\0\0"):
        marked, _ = text_decoder(beginning)
        if not marked:
            raise UnicodeDecodeError("utf-8", beginning[:4], 0, 4, "UTF-16 without a byte order mark")
    start, decode = text_decoder(beginning)
    yield decode(beginning[start:], False)
    while chunk := source.read1(_CHUNK):
        yield decode(chunk, False)
    yield decode(b"", True)
