"""Score rows as text: csv, jsonl, and a table for the eye. One row per image, with the COLUMNS; in a file that is to be
resumed, also with what was scored: FILE_COLUMNS."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from synood_cli.csv_text import csv_header, csv_text, harmless, harmless_path, original
from synood_cli.data.identity import is_stamp
from synood_cli.errors import StoreError, UsageError
from synood_cli.records import printable

Format = Literal["table", "csv", "jsonl", "parquet"]
Row = dict[str, Any]
Encode = Callable[[Iterable[Row]], bytes]
Write = Callable[[Sequence[Row]], None]

COLUMNS: Final = (
    "path",
    "score",
    "decision",
    "predicted_class",
    "nearest_negative",
    "nearest_similarity",
    "error",
)
FILE_COLUMNS: Final = (*COLUMNS, "sha256", "stamp")
"""Of a file: also the SHA-256 of the image's content, and its stamp (see data.identity), as they were scored."""

NUMBERS: Final = ("score", "nearest_similarity")
LABELS: Final = ("predicted_class", "nearest_negative", "error")
"""Columns of text that a head or a library has written."""

_READ_AT_ONCE: Final = 1000


def decision(score: float, threshold: float) -> Literal["ind", "ood"]:
    """InD iff S ≥ η."""
    return "ind" if score >= threshold else "ood"


def as_csv(rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> bytes:
    """Lines of CSV without the header. Names keep their very bytes, also those that are not UTF-8; no cell is a formula
    (see csv_text)."""
    safe = (row | {"path": harmless_path(row["path"])} | {name: harmless(row[name]) for name in LABELS} for row in rows)
    return os.fsencode(csv_text(columns, safe))


def as_jsonl(rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> bytes:
    """One JSON object per line, in ASCII: a byte that is not UTF-8 is escaped as \\udcNN."""
    lines = (json.dumps({column: row[column] for column in columns}, allow_nan=False) for row in rows)
    return "".join(line + "\n" for line in lines).encode("ascii")


class Table:
    """Aligned columns, for the eye: each as wide as its widest cell so far."""

    def __init__(self) -> None:
        self._widths = [len(column) for column in COLUMNS]

    def __call__(self, rows: Iterable[Row]) -> bytes:
        from rich.cells import cell_len

        texts = [[_cell(row[column]) for column in COLUMNS] for row in rows]
        for place in range(len(COLUMNS)):
            self._widths[place] = max([self._widths[place], *(cell_len(row[place]) for row in texts)])
        padded = (
            "  ".join(text + " " * (width - cell_len(text)) for text, width in zip(row, self._widths, strict=True))
            for row in texts
        )
        return "".join(line.rstrip() + "\n" for line in padded).encode("utf-8", "backslashreplace")


def encoder(format_: Format, columns: Sequence[str] = COLUMNS) -> tuple[Encode, bytes]:
    """(what turns rows into bytes, the bytes that go first) of a format that is text."""
    if format_ == "csv":
        return lambda rows: as_csv(rows, columns), csv_header(columns).encode()
    if format_ == "jsonl":
        return lambda rows: as_jsonl(rows, columns), b""
    if format_ == "table":
        table = Table()
        return table, table([{column: column for column in COLUMNS}])
    raise UsageError(f"{format_} is no text for stdout", hint=f"-o FILE.{format_}")


def text_writer(format_: Format, write: Callable[[bytes], object], columns: Sequence[str] = COLUMNS) -> Write:
    """Writes the header, then rows, as text by means of `write`."""
    encode, header = encoder(format_, columns)
    if header:
        write(header)

    def write_rows(rows: Sequence[Row]) -> None:
        if rows:
            write(encode(rows))

    return write_rows


def read_rows(file: BinaryIO, format_: Format, path: Path) -> Iterator[list[Row]]:
    """The complete rows of a file of the FILE_COLUMNS, some at once; one that is cut off at the end is left out.

    Raises StoreError for what is no such row, UsageError for a file of an older synood.
    """
    rows: list[Row] = []
    header = csv_header(FILE_COLUMNS).encode()
    for number, record in enumerate(_records(file, quoted=format_ == "csv"), start=1):
        if format_ == "csv" and number == 1:
            if record == csv_header(COLUMNS).encode():
                raise _older(path)
            if record != header:
                raise _not_ours(path, number)
            continue
        try:
            rows.append(_from_csv(record) if format_ == "csv" else _from_json(record, path))
        except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
            raise _not_ours(path, number) from error
        if len(rows) == _READ_AT_ONCE:
            yield rows
            rows = []
    yield rows


def _records(file: BinaryIO, *, quoted: bool) -> Iterator[bytes]:
    """The complete records; one that is cut off at the end is left out. A quoted name may hold line ends."""
    parts: list[bytes] = []
    open_quote = False
    for line in file:
        parts.append(line)
        open_quote ^= quoted and bool(line.count(b'"') % 2)
        if line.endswith(b"\n") and not open_quote:
            yield b"".join(parts)
            parts = []


def _from_csv(record: bytes) -> Row:
    [cells] = csv.reader(io.StringIO(os.fsdecode(record), newline=""))
    row: Row = dict(zip(FILE_COLUMNS, (cell or None for cell in cells), strict=True))
    row |= {name: original(row[name]) for name in LABELS}
    return _checked(row | {name: None if row[name] is None else float(row[name]) for name in NUMBERS})


def _from_json(record: bytes, path: Path) -> Row:
    row = json.loads(record)
    if isinstance(row, dict) and row.keys() == set(COLUMNS):
        raise _older(path)
    return _checked({column: row[column] for column in FILE_COLUMNS})


def _checked(row: Row) -> Row:
    numbers = [row[name] for name in NUMBERS if row[name] is not None]
    if not all(isinstance(number, float | int) and math.isfinite(number) for number in numbers):
        raise ValueError
    if not is_stamp(row["stamp"] or "") or not isinstance(row["sha256"], str | None):
        raise ValueError
    if not row["path"] or (row["decision"] is None) != (row["score"] is None):
        raise ValueError
    os.fsencode(row["path"])
    return row


def _not_ours(path: Path, number: int) -> StoreError:
    return StoreError(
        f"{printable(str(path))}: record {number} is no row of scores",
        hint="name another file, or --force to replace it",
    )


def _older(path: Path) -> UsageError:
    return UsageError(
        f"{printable(str(path))} was written by an older synood, and does not record the content that was scored",
        hint="name another file, or --force to score all images again",
    )


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else printable(str(value))
