"""TOML that a user or somebody else wrote: read within bounds, and refused in words with a line number where known."""

from __future__ import annotations

import codecs
import re
import tomllib
from pathlib import Path
from typing import Any

from synood_cli.errors import UsageError
from synood_cli.records import printable
from synood_cli.regular_file import read_regular

LIMIT = 2**20
"""Bytes of a file at most."""
DEPTH = 20
"""Tables and arrays within each other at most; ours have three."""
_OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_LONG_NUMBER = re.compile(rb"[0-9_]{1000,}")
_CORRECT = "correct the file, then run again"


def read_toml(path: Path) -> dict[str, Any]:
    """The table that the file at `path` holds.

    Raises FileNotFoundError when there is none, UsageError when it cannot be read or is not TOML.
    """
    where = printable(str(path))
    try:
        content = read_regular(path, LIMIT)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"cannot read {where}: {error.strerror}", hint="it must be a text file in TOML") from error
    return parse_toml(content, where)


def parse_toml(content: bytes, where: str) -> dict[str, Any]:
    """The table that `content` describes: UTF-8, with or without a byte order mark. `where` is its name in messages.

    Raises UsageError: other encodings, what is not TOML, numbers beyond 64 bits, and nesting deeper than DEPTH.
    """
    if content.startswith(_OTHER_ENCODINGS):
        raise UsageError(f"{where} is not UTF-8 but UTF-16 or UTF-32", hint="save it as UTF-8")
    try:
        table = tomllib.loads(content.decode("utf-8-sig") + "\n")  # or an error at the end has no line
    except UnicodeDecodeError as error:
        line = _line(content, error.start)  # a byte order mark, which the decoder does not count, holds no newline
        raise UsageError(
            f"{where} is not valid TOML: line {line} is not UTF-8", hint="save it as UTF-8, then run again"
        ) from error
    except RecursionError as error:
        raise UsageError(f"{where} is not valid TOML: its values are nested too deeply", hint=_CORRECT) from error
    except ValueError as error:  # TOMLDecodeError, or a number too long for Python
        long = None if isinstance(error, tomllib.TOMLDecodeError) else _LONG_NUMBER.search(content)
        what = f"a number too long (at line {_line(content, long.start())})" if long else str(error)
        raise UsageError(f"{where} is not valid TOML: {what:.300}", hint=_CORRECT) from error
    _check_values(table, where)
    return table


def _line(content: bytes, position: int) -> int:
    """The number of the line, from 1, that the byte at `position` is in."""
    return content.count(b"\n", 0, position) + 1


def _check_values(table: dict[str, Any], where: str) -> None:
    """Raise UsageError for what TOML's grammar permits but nothing here can use, or print."""
    pending: list[tuple[str, Any, int]] = [("", table, 0)]
    while pending:
        name, value, depth = pending.pop()
        if depth > DEPTH:
            raise UsageError(f"{where}: {name[:60]}… is nested deeper than {DEPTH} tables", hint=_CORRECT)
        if isinstance(value, dict):
            pending += [(f"{name}.{key}" if name else key, inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            pending += [(name, inner, depth + 1) for inner in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise UsageError(f"{where}: {name:.60} is a number beyond 64 bits", hint=_CORRECT)
