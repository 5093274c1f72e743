"""Open `synood.db`, which somebody else may have made or a disk may have damaged; say in words what is wrong with it.

What SQLite would do by itself for a database is not left to the database: no function or trigger of its schema runs
(the schema must be ours), no journal names another file, and temporary tables stay in memory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from sqlite_utils.db import Column

from synood_cli.errors import StoreError
from synood_cli.store.schema import MIGRATIONS, refuse_newer
from synood_cli.store.workspace import Workspace

RESTORE = "restore the file from a copy, or check its permissions; `synood init DIR` starts a new workspace"
DAMAGED = f"{RESTORE}; `synood verify` tells more"
_JOURNAL_END = bytes.fromhex("d9d505f920a163d7")
"""Ends a rollback journal that names a further file, which SQLite may remove. Ours never do."""
_WRONG_STATEMENT = re.compile(r"no such |near .*syntax error")
"""What SQLite says of a statement that does not fit the schema. That was checked, so the fault is in this program."""
_LIBRARY = "_sqlite_migrations"


@contextlib.contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn whatever SQLite says of the file at `path` into a message with a next step: a full disk, a lock, damage.
    Only wrong statements, and wrong use of the library, stay what they are: bugs."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        text = str(error)
        if _WRONG_STATEMENT.match(text):
            raise
        if is_full(error):
            text = text.replace("disk I/O error", "disk I/O error (is the disk full?)")
            hint = "what was finished is kept: make room, then run the same command again"
        elif "locked" in text:
            hint = "another program holds the database open for writing: close it, then run the same command again"
        elif any(sign in text for sign in ("readonly", "unable to open", "not a database")):
            hint = RESTORE
        else:
            hint = DAMAGED
        raise StoreError(f"{path}: {text}", hint=hint) from error


def is_full(error: sqlite3.Error) -> bool:
    """Whether SQLite says so of a full disk; of a file that it cannot make longer it says no more than I/O error."""
    return "full" in str(error) or "disk I/O" in str(error)


def not_writable(error: sqlite3.Error) -> bool:
    """Whether SQLite says so of a file or a disk that takes no more."""
    return is_full(error) or any(sign in str(error) for sign in ("readonly", "unable to open"))


def open_database(workspace: Workspace, *, write: bool) -> Database:
    """The open database, in memory where none exists and none is to be written. It is not migrated.

    Raises StoreError when it is not the database of a workspace, or is too damaged for SQLite to say how;
    sqlite3.DatabaseError when it cannot be opened.
    """
    path = workspace.database
    if not write and not path.exists():
        return Database(memory=True)
    _refuse_journal(path.with_name(f"{path.name}-journal"))
    with contextlib.ExitStack() as opening:
        try:
            db = Database(_connect(path, write))
            opening.callback(db.close)
            if db.table_names():
                refuse_newer(db)
                check_schema(db, path)
            else:
                _refuse_orphans(workspace)
            if write:
                db.enable_wal()
        except UnicodeDecodeError as error:  # in what SQLite says of damage, which Python cannot read
            raise StoreError(f"{path} is damaged: names in its schema are not text", hint=DAMAGED) from error
        opening.pop_all()
    return db


def check_schema(db: Database, path: Path) -> None:
    """Raise StoreError unless the database has the tables, indexes and views of the migrations that it says were
    applied to it. It may have tables and views of others besides, but nothing that acts on ours: no trigger, no virtual
    table, no further index of our tables."""
    applied = tuple(migration.name for migration in MIGRATIONS.applied(db))
    expected = _schema(applied)
    found = _objects(db.conn)
    tables = {name for kind, name in expected if kind == "table"}
    wrong = [f"{kind} {name} is missing" for kind, name in expected if (kind, name) not in found]
    wrong += [f"{kind} {name} is another" for (kind, name), what in expected.items() if found.get((kind, name)) != what]
    if wrong or (found and not applied):
        what = wrong[0] if wrong else "it holds the tables of another program"
        raise StoreError(f"{path} is not as synood made it: {what}", hint=RESTORE)
    for kind, name in found.keys() - expected.keys():
        table, sql = found[kind, name]
        if kind == "trigger" or sql.startswith("create virtual") or (kind == "index" and table in tables):
            shown = f"{'virtual table' if kind == 'table' else kind} {name:.60}"
            raise StoreError(
                f"{path} is not as synood made it: {shown} was added to it",
                hint=f"remove it, with `sqlite3 {path.name}`, or {RESTORE}",
            )


class RowCheck:
    """Called with rows of a table: raises StoreError when a value is not of the type that its column declares, which
    SQLite permits. Text may be bytes: a name that is not valid UTF-8."""

    def __init__(self, path: Path, table: str, columns: Sequence[Column]) -> None:
        self._where = f"{path} is damaged: a row of {table} has"
        self._columns = [
            (column.name, _TYPES[column.type.lower()], not column.notnull and not column.is_pk) for column in columns
        ]

    def __call__(self, row: Mapping[str, Any]) -> None:
        for name, types, optional in self._columns:
            value = row[name]
            if not (optional if value is None else isinstance(value, types)):
                raise StoreError(
                    f"{self._where} {value!r:.40} as {name}", hint=f"{RESTORE}; `synood verify` tells more"
                )


_TYPES: dict[str, tuple[type, ...]] = {"integer": (int,), "real": (int, float), "text": (str, bytes)}


def _connect(path: Path, write: bool) -> sqlite3.Connection:
    """The first way to open the database in which it answers."""
    failed: sqlite3.OperationalError | None = None
    for way in _ways(path, write):
        connection = way()
        try:
            connection.execute("pragma trusted_schema = off")
            connection.execute("pragma cell_size_check = on")
            connection.execute("pragma temp_store = memory")
            connection.execute("select count(*) from sqlite_master").fetchone()
            connection.execute("pragma foreign_keys = on")
            connection.execute("pragma synchronous = full")
        except sqlite3.DatabaseError as error:
            connection.close()
            if not isinstance(error, sqlite3.OperationalError) or "locked" in str(error):
                raise
            failed = failed or error
        else:
            return connection
    raise failed or sqlite3.OperationalError("unable to open database file")


def _ways(path: Path, write: bool) -> Iterator[Callable[[], sqlite3.Connection]]:
    """The ways to open the database, the usual one first. Where the disk is full or the folder cannot be written, the
    file beside it that SQLite shares between processes cannot be made: then it is read as it is, if no other process
    has left a part of it in the log, else opened for this process alone."""

    def usual() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=30)

    def as_it_is() -> sqlite3.Connection:
        return sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)

    def alone() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=30)
        connection.execute("pragma locking_mode = exclusive")
        return connection

    log = path.with_name(f"{path.name}-wal")
    whole = not log.exists() or not log.stat().st_size
    if write:
        yield from (usual, alone)
    elif whole and not os.access(path.parent, os.W_OK, effective_ids=True):
        yield as_it_is
    else:
        yield from (usual, as_it_is if whole else alone)


def _refuse_journal(path: Path) -> None:
    """Raise StoreError when the rollback journal at `path` names a further file: SQLite might remove that."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_JOURNAL_END), os.SEEK_END)
            end = file.read()
    except OSError:  # there is none, or a shorter one
        return
    if end == _JOURNAL_END:
        raise StoreError(f"{path} was not written by synood: it names another file", hint=f"remove {path}")


def _refuse_orphans(workspace: Workspace) -> None:
    """Raise StoreError when the workspace has artifacts but an empty database: new ones would be mixed with them."""
    orphans = sorted(path.name for path in workspace.artifacts.glob("*@*")) if workspace.artifacts.is_dir() else []
    if orphans:
        raise StoreError(
            f"{workspace.database} is missing or empty, and {workspace.artifacts} holds {len(orphans)} artifacts "
            f"that it knew ({orphans[0]}, …)",
            hint="restore the database from a copy, or move the artifacts away to start anew",
        )


Objects = dict[tuple[str, str], tuple[str, str]]
"""(type, name) of what a schema holds → (table, SQL without comments and spacing)."""


def _objects(connection: sqlite3.Connection) -> Objects:
    rows = connection.execute("select type, name, tbl_name, sql from sqlite_master").fetchall()
    return {
        (str(kind), str(name)): (str(table), " ".join(re.sub(r"--[^\n]*", " ", str(sql or "")).lower().split()))
        for kind, name, table, sql in rows
        if not str(name).startswith(("sqlite_", _LIBRARY)) and not str(table).startswith(_LIBRARY)
    }


@functools.cache
def _schema(applied: tuple[str, ...]) -> Objects:
    """What the migrations of these names make."""
    db = Database(memory=True)
    for migration in MIGRATIONS.pending(db):
        if migration.name in applied:
            migration.fn(db)
    objects = _objects(db.conn)
    db.close()
    return objects
