"""CSV that every reader takes apart as it was written, and that no spreadsheet takes for formulas.

A field is quoted where it holds a comma, a quote, or any line end: also a carriage return, which Python's own writer
leaves bare before 3.11.9. A spreadsheet evaluates a text that begins like a formula, such as a label of a head or the
name of a file from elsewhere: `harmless` and `harmless_path` make it a text, and can be undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

FORMULA_STARTS: Final = "=+-@\t\r\n＝＋－＠"
"""What a cell begins with that a spreadsheet evaluates; full-width forms count as well."""

_APOSTROPHE = "'"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """One line per row, without the header; None and what a row lacks are empty, numbers read back exactly."""
    return "".join(",".join(_field(row.get(column)) for column in columns) + "\n" for row in rows)


def csv_header(columns: Sequence[str]) -> str:
    """The line that names the columns."""
    return csv_text(columns, [dict(zip(columns, columns, strict=True))])


def harmless(text: str | None) -> str | None:
    """`text`, with an apostrophe in front where it begins like a formula, or with an apostrophe itself."""
    return _APOSTROPHE + text if text and text[0] in FORMULA_STARTS + _APOSTROPHE else text


def original(text: str | None) -> str | None:
    """Inverse of `harmless`."""
    return text.removeprefix(_APOSTROPHE) if text else text


def harmless_path(path: str) -> str:
    """`path`, with ./ in front where it begins like a formula: it is a path to the same file."""
    return f"./{path}" if path and path[0] in FORMULA_STARTS else path


def _field(value: object) -> str:
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text
