"""verify notices a change of any one value in the database, except where the value may change by itself."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from store_rows import begin, make, photograph

from synood_cli.errors import StoreError
from synood_cli.records import ModelSpec
from synood_cli.store.maintenance import gc, verify
from synood_cli.store.schema import ARTIFACT_TABLES
from synood_cli.store.store import Store
from synood_cli.store.workspace import Workspace

UNCOVERED = {
    ("artifacts", "asked"),  # rises whenever an artifact is reused: which one of a kind is the default
    ("versions", "newest"),  # rises beyond the newest artifact when that is removed
    ("digest_cache", "path"),  # one that fits no file is not used
    ("digest_cache", "bytes"),
    ("digest_cache", "mtime_ns"),
    ("digest_cache", "ctime_ns"),
    ("failures", "id"),  # decides the order alone
    ("_sqlite_migrations", "id"),
    ("_sqlite_migrations", "applied_at"),
}
"""What no digest covers. An unfinished artifact's rows are not covered either until it is complete."""

DIGITS = {"integer": 1, "real": 0.5}


def rows_of_every_table(store: Store) -> dict[str, list[dict[str, Any]]]:
    [image_id] = store.add_images([photograph(1)])
    rows = {}
    for table in ARTIFACT_TABLES:
        columns = [column for column in store.db.table(table).columns if column.name != "artifact_id"]
        rows[table] = [{column.name: DIGITS.get(column.type.lower(), "text") for column in columns}]
        rows[table][0] |= {"image_id": image_id} if "image_id" in rows[table][0] else {}
        rows[table][0] |= {"path": "images/a.png"} if "path" in rows[table][0] else {}
    return rows


@pytest.fixture
def full(workspace: Workspace) -> Workspace:
    """A workspace with a row in every table."""
    with Store.open(workspace, write=True) as store:
        first = make(store)
        clip = ModelSpec(adapter="open_clip", name="ViT-B-16", pretrained="openai", revision="abc")
        draft = begin(store, "head", "head", inputs={"selection": first}, models={"clip": clip})
        draft.fail("a", "broken")
        draft.write_file("images/a.png", b"picture")
        draft.commit(rows_of_every_table(store), ["images/a.png"], done=1)
        draft.complete()
        store.file_digest(Path(os.__file__))
        assert list(verify(store)) == []
    return workspace


def problems(workspace: Workspace) -> list[str]:
    try:
        with Store.open(workspace, write=False) as store:
            return [problem.what for problem in verify(store)]
    except StoreError as error:
        return [error.message]


def another(value: Any, kind: str) -> Any:
    if isinstance(value, str):
        return "unfinished" if value == "complete" else f"{value}x"
    return (1 if kind.lower() in DIGITS else "x") if value is None else value + 1


def test_a_change_of_any_value_is_noticed(full: Workspace) -> None:
    unnoticed, changed = set(), 0
    with closing(sqlite3.connect(full.database, isolation_level=None)) as db:
        tables = [name for (name,) in db.execute("select name from sqlite_master where type = 'table'")]
        for table in (name for name in tables if not name.startswith("sqlite_")):
            for _, column, kind, *_ in db.execute(f"pragma table_info({table})").fetchall():
                found = db.execute(f"select rowid, {column} from {table} order by rowid desc limit 1").fetchone()
                if found is None:
                    continue
                row, before = found
                db.execute(f"update {table} set {column} = ? where rowid = ?", [another(before, kind), row])
                changed += 1
                if not problems(full):
                    unnoticed.add((table, column))
                db.execute(f"update {table} set {column} = ? where {column} is ?", [before, another(before, kind)])
    assert unnoticed == UNCOVERED
    assert changed > 150
    assert problems(full) == []


def test_a_finished_artifact_that_is_called_unfinished_is_neither_removed_nor_gone_on_with(full: Workspace) -> None:
    with closing(sqlite3.connect(full.database)) as db, db:
        db.execute("update artifacts set status = 'unfinished' where name = 'head@1'")
    assert problems(full) == [f"{full.database} is damaged: head@1 is finished, and its status 'unfinished'"]
    with pytest.raises(StoreError, match="head@1 is finished"), Store.open(full, write=True) as store:
        gc(store, unfinished=True, superseded=False, dry_run=False)
    with pytest.raises(StoreError, match="head@1 is finished"), Store.open(full, write=True) as store:
        store.find(store.db.execute("select identity from artifacts where name = 'head@1'").fetchone()[0], "unfinished")
    assert (full.artifacts / "head@1/images/a.png").read_bytes() == b"picture"
    with closing(sqlite3.connect(full.database)) as db, db:
        db.execute("update artifacts set status = 'complete' where name = 'head@1'")
    assert problems(full) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("update versions set newest = 0 where kind = 'head'", "versions gives 0 as the last number of 'head', not 1"),
        ("delete from versions where kind = 'head'", "versions gives None as the last number of 'head', not 1"),
        ("update versions set newest = 9223372036854775807 where kind = 'head'", "versions gives 9223372036854775807"),
        ("update versions set newest = 'x' where kind = 'head'", "versions gives 'x' as the last number of 'head'"),
        ("insert into versions values ('hat', 1)", "versions gives 1 as the last number of 'hat', not 0"),
        ("update artifacts set asked = 1", "two artifacts are the one that was asked for last"),
        ("update artifacts set asked = 9223372036854775807 where id = 2", "was asked for as number 92233720368547758"),
        ("update artifacts set version = 2 where id = 2", "'head@1' is not the name of an artifact"),
    ],
)
def test_numbers_that_the_next_artifacts_could_not_go_on_from_are_damage(
    full: Workspace, change: str, what: str
) -> None:
    with closing(sqlite3.connect(full.database)) as db, db:
        db.execute(change)
    assert any(what in problem for problem in problems(full))
