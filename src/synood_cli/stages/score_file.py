"""Files of score rows: `-o FILE`.

A csv or jsonl file grows row by row and is resumed: an image that has its row, and is still the image that was scored,
is not scored again; one that was replaced gets another row, and the last row of a path counts. Beside it,
FILE.head.json says which head scored it, so that the rows of two heads never mix.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from synood_cli.data.identity import MISSING, content_sha256, settled, stamp_of, stamped_size
from synood_cli.errors import StoreError, SynoodError, UsageError
from synood_cli.paths import require_possible
from synood_cli.records import printable
from synood_cli.stages.score_rows import (
    COLUMNS,
    FILE_COLUMNS,
    NUMBERS,
    Format,
    Row,
    Write,
    decision,
    encoder,
    read_rows,
    text_writer,
)
from synood_cli.store.files import disk_errors, remove_abandoned, scratch_in, sync, write_atomic
from synood_cli.store.outputs import new_file, open_stream, output_lock, write_all

SUFFIXES: Final[dict[str, Format]] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


def format_for(path: Path | None, said: Format | None) -> Format:
    """The format asked for, else what the file's name ends in, else csv for a file and a table for stdout."""
    return said or ("table" if path is None else SUFFIXES.get(path.suffix.lower(), "csv"))


class Verdict(NamedTuple):
    """What the last row of a path says: the decision or "error", and the content that it is about."""

    says: str
    sha256: str | None
    stamp: str


class Told(IntEnum):
    """How much of an image with a row has been counted and reported in this run."""

    NOTHING = 0
    ROW = 1
    STUCK = 2
    """Also that it could not be set aside."""


class Known:
    """The images that have their row, and what it says: in a database of its own on the disk, not in memory, since
    there may be millions; it is gone when it is closed."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        with _temporary_room():
            self._db.execute("pragma synchronous = off")
            self._db.execute(
                "create table known (path blob primary key, says text, sha256 text, stamp text, told integer) "
                "without rowid"
            )

    def add(self, rows: Iterable[Row], told: Told) -> None:
        """Remember these rows: the last one of a path."""
        values = ((_key(row["path"]), row["decision"] or "error", row["sha256"], row["stamp"], told) for row in rows)
        with _temporary_room():
            self._db.execute("begin")
            self._db.executemany("insert or replace into known values (?, ?, ?, ?, ?)", values)
            self._db.execute("commit")

    def verdict(self, path: str) -> Verdict | None:
        """What the last row of `path` says, whatever is there now."""
        query = "select says, sha256, coalesce(stamp, '') from known where path = ?"
        row = self._db.execute(query, [_key(path)]).fetchone()
        return None if row is None else Verdict(*row)

    def first(self, path: str, told: Told) -> bool:
        """Whether so much is told of `path`, which has a row, for the first time in this run. From now on it is."""
        query = "update known set told = ? where path = ? and told < ?"
        with _temporary_room():
            return self._db.execute(query, [told, _key(path), told]).rowcount == 1

    def is_done(self, path: str) -> bool:
        """Whether `path` has a row that was told in this run, and looks as it did when it was scored. Nothing is
        read."""
        query = "select coalesce(stamp, '') from known where path = ? and told > 0"
        row = self._db.execute(query, [_key(path)]).fetchone()
        return row is not None and stamp_of(Path(path)) == row[0]

    def current(self, path: str) -> Verdict | None:
        """What the last row of `path` says, if that is about what is there now, or if nothing is there any more.

        A file that looks otherwise than when it was scored, but has the same size, is read and compared.
        """
        verdict = self.verdict(path)
        if verdict is None:
            return None
        now = stamp_of(Path(path))
        if now in (MISSING, verdict.stamp):
            return verdict
        if verdict.sha256 is None or stamped_size(verdict.stamp) not in (None, stamped_size(now)):
            return None
        try:
            if content_sha256(Path(path)) != verdict.sha256:
                return None
        except OSError:  # scoring it will tell why
            return None
        if stamp_of(Path(path)) == now:
            with _temporary_room():
                self._db.execute("update known set stamp = ? where path = ?", [settled(now), _key(path)])
        return verdict

    def close(self) -> None:
        self._db.close()


def _key(path: str) -> bytes:
    return os.fsencode(path.removeprefix("./"))  # which csv puts before a name that begins like a formula


@contextlib.contextmanager
def _temporary_room() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"cannot keep the list of the images that have their row: {error}",
            hint="make room in the temporary folder, or choose another one: TMPDIR=DIR",
        ) from error


class Origin(NamedTuple):
    """What rows depend on beside the image: the head's arithmetic (hash), its name for messages, η, and the number of
    the algorithm that scored them (see store.identity)."""

    head: str
    name: str
    threshold: float
    algorithm: int = 1


@contextlib.contextmanager
def score_file(
    path: Path, format_: Format, origin: Origin, known: Known, *, anew: bool, retry_failed: bool
) -> Iterator[Write]:
    """Within: what writes rows to the end of the file `path`, each batch on the disk when it returns. The file is held:
    another process that would write to it is refused.

    Complete rows that are there stay, with the decision that `origin.threshold` gives, and become `known`; a row that
    a crash has cut is dropped, and with `retry_failed` those that hold an error. `anew` begins at nothing, once there
    is a row to write. A pipe, a device or an open file of this process (/dev/stdout) takes rows as they come.

    Raises UsageError when the file was written by another head or another version of synood, or is in a format that
    cannot be resumed; StoreError when another process holds it, or the disk refuses.
    """
    stream = open_stream(path)
    if stream is not None:
        with stream:
            yield _stream_writer(path, format_, stream)
        return
    path = Path(os.path.realpath(path))
    with output_lock(path):
        with disk_errors(path):
            begun = not anew and path.is_file() and path.stat().st_size > 0
        if begun and format_ not in ("csv", "jsonl"):
            raise UsageError(
                f"{printable(str(path))} exists, and {format_} cannot be resumed",
                hint="--force replaces it; csv and jsonl are resumed",
            )
        if format_ == "parquet":
            with _parquet(path) as write:
                yield write
            return
        about = path.with_name(path.name + ".head.json")
        require_possible(about)
        if begun:
            _require_same_head(path, about, origin)
            _take_over(path, format_, origin.threshold, known, retry_failed=retry_failed)
        with _growing(path, about, format_, origin, begun=begun) as write:
            yield write


def _stream_writer(path: Path, format_: Format, stream: BinaryIO) -> Write:
    if format_ == "parquet":
        raise UsageError(f"{printable(str(path))} is no file, and parquet needs one", hint="--format csv, or jsonl")

    def write_through(content: bytes) -> None:
        with disk_errors(path):
            write_all(stream, content)

    return text_writer(format_, write_through, FILE_COLUMNS)


@contextlib.contextmanager
def _growing(path: Path, about: Path, format_: Format, origin: Origin, *, begun: bool) -> Iterator[Write]:
    """Appends rows to `path`. What is there of another head goes when the first rows come, not before."""
    encode, header = encoder(format_, FILE_COLUMNS)
    with disk_errors(path):
        file = path.open("ab", buffering=0)

    def append(content: bytes) -> None:
        with disk_errors(path):
            write_all(file, content)
            sync(file.fileno())

    def begin() -> None:
        if not begun:
            with disk_errors(path):
                file.truncate(0)
        write_atomic(about, json.dumps(origin._asdict()).encode() + b"\n")
        if not begun and header:
            append(header)

    waiting = [begin]

    def write(rows: Sequence[Row]) -> None:
        while waiting:
            waiting.pop()()
        if rows:
            append(encode(rows))

    with file:
        yield write
        write([])


def _require_same_head(path: Path, about: Path, origin: Origin) -> None:
    shown = printable(str(path))
    try:
        before = Origin(**json.loads(about.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{shown} exists, and nothing says which head scored it (no {about.name})",
            hint="name another file, or --force to replace it",
        ) from error
    if before.head != origin.head:
        raise UsageError(
            f"{shown} holds the scores of another head ({printable(str(before.name))})",
            hint="name another file, or --force to replace it",
        )
    if before.algorithm != origin.algorithm:
        raise UsageError(
            f"{shown} holds the scores of another version of synood, which reads some pictures differently",
            hint="name another file, or --force to replace it",
        )


def _take_over(path: Path, format_: Format, threshold: float, known: Known, *, retry_failed: bool) -> None:
    """Rewrite the file with its complete rows, decided by `threshold`, and remember them."""
    encode, header = encoder(format_, FILE_COLUMNS)
    with contextlib.ExitStack() as held:
        with disk_errors(path):
            remove_abandoned(path.parent)
            temporary = held.enter_context(scratch_in(path.parent))
        with disk_errors(path), path.open("rb") as old, temporary.open("wb") as new:
            new.write(header)
            for rows in read_rows(old, format_, path):
                kept = [
                    row | {"decision": row["decision"] and decision(row["score"], threshold)}
                    for row in rows
                    if not (retry_failed and row["error"])
                ]
                new.write(encode(kept))
                known.add(kept, Told.NOTHING)
            new.flush()
            sync(new.fileno())
        with disk_errors(path):
            shutil.copymode(path, temporary)
            temporary.replace(path)


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    """Writes row groups to a scratch file, which becomes `path` at the end. An interruption is an end too, once there
    are rows."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise SynoodError(
            "parquet needs pyarrow, which is not installed", hint="pip install 'synood[parquet]'"
        ) from error
    kinds = dict.fromkeys(COLUMNS, arrow.string()) | dict.fromkeys(NUMBERS, arrow.float64())
    schema = arrow.schema([*kinds.items(), ("path_bytes", arrow.binary())])
    waiting: list[Row] = []
    written = 0

    with new_file(path) as scratch:
        with disk_errors(path):
            writer = parquet.ParquetWriter(scratch, schema)

        def flush() -> None:
            with disk_errors(path):
                writer.write_table(arrow.Table.from_pylist([_named(row) for row in waiting], schema=schema))
            waiting.clear()

        def write(rows: Sequence[Row]) -> None:
            nonlocal written
            written += len(rows)
            waiting.extend(rows)
            if len(waiting) >= _ROW_GROUP:
                flush()

        def finish() -> None:
            flush()
            with disk_errors(path):
                writer.close()

        stopped: BaseException | None = None
        try:
            yield write
        except BaseException as stop:
            if not written:
                writer.close()
                raise
            stopped = stop
        finish()
    if stopped is not None:
        raise stopped


def _named(row: Row) -> Row:
    """A row as Parquet can hold it: a path that is not UTF-8 is escaped, and its bytes are in `path_bytes`."""
    try:
        row["path"].encode("utf-8")
    except UnicodeEncodeError:
        content = os.fsencode(row["path"])
        return row | {"path": content.decode("utf-8", "backslashreplace"), "path_bytes": content}
    return row | {"path_bytes": None}


_ROW_GROUP: Final = 20_000
"""Rows of a parquet row group: a few megabytes."""
