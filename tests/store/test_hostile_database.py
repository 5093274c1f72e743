"""A database that somebody else made, or that a disk has damaged: words, and nothing outside it is touched."""

from __future__ import annotations

import contextlib
import random
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from store_rows import begin, chosen, make, photograph

from synood_cli.errors import StoreError
from synood_cli.store.maintenance import gc, verify
from synood_cli.store.store import Store
from synood_cli.store.workspace import Workspace


def change(workspace: Workspace, *statements: str) -> None:
    """Run statements on the database, as any other program can."""
    with closing(sqlite3.connect(workspace.database)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


ATTACKS = {
    "create trigger t after insert on artifacts begin delete from images; end": "trigger t was added",
    "create trigger t after update on artifacts begin select load_extension('/tmp/x'); end": "trigger t was added",
    "create unique index i on images (class_name)": "index i was added",
    "create virtual table t using fts5(a)": "virtual table t was added",
    "drop view label_counts": "view label_counts is missing",
    "drop index artifacts_identity": "index artifacts_identity is missing",
    "alter table scores add column x default (randomblob(9))": "table scores is another",
    "delete from _sqlite_migrations": "it holds the tables of another program",
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("write", [True, False])
def test_a_schema_that_is_not_ours_is_refused(workspace: Workspace, attack: str, write: bool) -> None:
    with Store.open(workspace, write=True):
        pass
    change(workspace, attack)
    with (
        pytest.raises(StoreError, match=f"is not as synood made it: {ATTACKS[attack]}"),
        Store.open(workspace, write=write),
    ):
        pass


def test_a_view_in_the_place_of_a_table_is_refused(workspace: Workspace) -> None:
    with Store.open(workspace, write=True):
        pass
    change(workspace, "drop table scores", "create view scores as select * from metrics")
    with pytest.raises(StoreError, match="table scores is missing"), Store.open(workspace, write=False):
        pass


def test_tables_and_views_of_a_user_are_left_alone(workspace: Workspace) -> None:
    with Store.open(workspace, write=True) as store:
        make(store)
    change(workspace, "create table mine (a)", "create index i on mine (a)", "create view v as select * from artifacts")
    change(workspace, "analyze")
    with Store.open(workspace, write=True) as store:
        assert list(verify(store)) == []


def test_a_journal_that_names_another_file_removes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    """SQLite removes the file that a rollback journal names as its superior."""
    with Store.open(workspace, write=True):
        pass
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    name = str(victim).encode()
    magic = bytes.fromhex("d9d505f920a163d7")
    total = sum(byte - 256 if byte > 127 else byte for byte in name) & 0xFFFFFFFF
    sizes = [0, 0, 0, 512, 4096]
    header = magic + b"".join(size.to_bytes(4, "big") for size in sizes)
    tail = (2**18 + 1).to_bytes(4, "big") + name + len(name).to_bytes(4, "big") + total.to_bytes(4, "big") + magic
    journal = workspace.database.with_name("synood.db-journal")
    journal.write_bytes(header.ljust(512, b"\0") + tail)
    for write in (True, False):
        with pytest.raises(StoreError, match="it names another file") as refused, Store.open(workspace, write=write):
            pass
        assert refused.value.hint == f"remove {journal}"
    assert victim.read_bytes() == b"precious"


def test_a_schema_whose_names_are_not_text_is_refused(workspace: Workspace) -> None:
    """SQLite quotes such a name in an error that Python cannot decode."""
    with Store.open(workspace, write=True) as store:
        store.db.execute("pragma wal_checkpoint(truncate)")
    content = workspace.database.read_bytes()
    assert content.count(b"CREATE INDEX artifacts_identity") == 1
    workspace.database.write_bytes(
        content.replace(b"CREATE INDEX artifacts_identity", b"CREATE \xffNDEX artifacts_identity")
    )
    with pytest.raises(StoreError, match=r"damaged|malformed"), Store.open(workspace, write=False):
        pass


ROWS = {
    "update artifacts set name = '../../victim' where id = 1": "is not the name of an artifact",
    "update artifacts set name = 'selection@2' where id = 1": "is not the name of an artifact",
    "update artifacts set kind = 'x', name = 'x@1' where id = 1": "is not the name of an artifact",
    "update artifacts set name = x'ff' where id = 1": "is not the name of an artifact",
    "update artifacts set version = 'one' where id = 1": "a row of artifacts has 'one' as version",
    "update artifacts set seconds = 'long' where id = 1": "a row of artifacts has 'long' as seconds",
    "update artifacts set settings = '{' where id = 1": "the settings of selection@1 are not JSON",
    "update artifacts set settings = '[1]' where id = 1": "the settings of selection@1 are not a table",
    "update artifacts set notes = printf('%.*c', 100000, '[') where id = 1": "notes of selection@1 are not JSON",
    "update artifacts set settings = printf('%.*c', 9000, '1') where id = 1": "settings of selection@1 are not JSON",
}


@pytest.mark.parametrize("change_", ROWS)
def test_a_row_that_is_no_artifact_is_refused_and_nothing_is_removed(
    workspace: Workspace, change_: str, tmp_path: Path
) -> None:
    with Store.open(workspace, write=True) as store:
        make(store, files={"a": b"1"}, finish=False)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").write_bytes(b"precious")
    change(workspace, change_)
    with Store.open(workspace, write=False) as store:
        assert any(ROWS[change_] in problem.what for problem in verify(store))
        with pytest.raises(StoreError, match=ROWS[change_]):
            store.artifacts()
    with (
        pytest.raises(StoreError, match=ROWS[change_]),
        Store.open(workspace, write=True) as store,
    ):
        gc(store, unfinished=True, superseded=True, dry_run=False)
    assert (tmp_path / "victim/file").read_bytes() == b"precious"
    assert (workspace.artifacts / "selection@1/a").read_bytes() == b"1"


@pytest.mark.parametrize("path", ["../../../victim", "/etc/passwd", "a/../../x", "", "a\0b", "."])
def test_a_file_that_leads_out_of_its_artifact_is_refused(workspace: Workspace, path: str) -> None:
    with Store.open(workspace, write=True) as store:
        made = make(store, files={"a": b"1"})
        with store.db.atomic():
            store.db.execute("update files set path = ?", [path])
        assert any("is not a path below" in problem.what for problem in verify(store))
        for use in (
            lambda: store.files(made),
            lambda: store.find(made.identity, "complete"),
            lambda: begin(store).write_file(path, b""),
        ):
            with pytest.raises(StoreError, match="is not a path below"):
                use()


def test_a_lineage_that_runs_in_a_circle_is_refused(workspace: Workspace) -> None:
    with Store.open(workspace, write=True) as store:
        first = make(store)
        made = make(store, "captions", inputs={"selection": first})
        with store.db.atomic():
            store.db.execute("insert into lineage values (?, 'captions', ?)", [first.id, made.id])
        with pytest.raises(StoreError, match="selection@1 is made from a later artifact"):
            store.ancestor(made, "head")


@pytest.mark.parametrize("damage", ["flip", "cut", "zero"])
def test_whatever_is_damaged_is_said_in_words(workspace: Workspace, damage: str) -> None:
    """Bytes of the database, in the header, the schema and the rows, are spoilt at places of a fixed sequence."""
    with Store.open(workspace, write=True) as store:
        [image_id] = store.add_images([photograph(1)])
        make(store, rows={"selected_images": [chosen(image_id, 1)]}, files={"a": b"1"})
        make(store, "head", rows={"labels": [{"position": 0, "text": "cat", "role": "ind"}]})
        store.db.execute("pragma wal_checkpoint(truncate)")
    whole = workspace.database.read_bytes()
    places = random.Random(0)
    for _ in range(25):
        content, place = bytearray(whole), places.randrange(len(whole))
        if damage == "flip":
            content[place] ^= 1 << places.randrange(8)
        elif damage == "cut":
            del content[place:]
        else:
            content[place // 4096 * 4096 : place // 4096 * 4096 + 4096] = bytes(4096)
        for beside in workspace.root.glob("synood.db*"):
            beside.unlink()
        workspace.database.write_bytes(content)
        with contextlib.suppress(StoreError), Store.open(workspace, write=False) as store:
            list(verify(store))
            for artifact in store.artifacts():
                store.inputs(artifact), store.models(artifact), store.failures(artifact), store.sample(artifact, 3)


@contextlib.contextmanager
def files_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("write", [True, False])
def test_an_older_format_that_cannot_be_upgraded_is_said(workspace: Workspace, write: bool) -> None:
    with Store.open(workspace, write=True) as store:
        make(store, files={"a": b"1"})
    change(
        workspace,
        "alter table digest_cache drop column ctime_ns",
        "delete from _sqlite_migrations where name = '006_every_column'",
    )
    before = workspace.database.read_bytes()
    with files_at_most(0), pytest.raises(StoreError) as said, Store.open(workspace, write=write):
        pass
    assert (
        "whose format must be upgraded before anything else, and this failed: the disk is full, or"
        in said.value.message
    )
    assert said.value.hint == (
        "any command upgrades it where the folder can be written to and has some 1 MiB of room: make it so, or copy "
        "the workspace to such a place"
    )
    assert workspace.database.read_bytes() == before
    with Store.open(workspace, write=write) as store:
        assert list(verify(store)) == []


def test_a_full_disk_leaves_reading_and_gc(workspace: Workspace) -> None:
    with Store.open(workspace, write=True) as store:
        make(store, tag="old", files={"a": b"1"})
        make(store, tag="new")
        (store.workspace.artifacts / "stray").write_bytes(b"1" * 5000)
    with files_at_most(100):
        with Store.open(workspace, write=False) as store:
            assert [problem.where for problem in verify(store)] == ["artifacts/stray"]
        with Store.open(workspace, write=True) as store:
            assert len(gc(store, unfinished=False, superseded=False, dry_run=False)) == 1
    with Store.open(workspace, write=False) as store:
        assert list(verify(store)) == []
