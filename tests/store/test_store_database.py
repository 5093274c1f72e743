"""The database: migrations, views, damage, and who may write."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlite_utils import Database
from store_rows import begin, chosen, make, photograph, python

from synood_cli.errors import StoreError, UsageError
from synood_cli.store.maintenance import verify
from synood_cli.store.schema import ARTIFACT_TABLES, MIGRATIONS, migrate
from synood_cli.store.store import Store
from synood_cli.store.workspace import ENVIRONMENT, Workspace


def test_a_fresh_database_has_every_table_and_each_migration_once(store: Store) -> None:
    tables = set(store.db.table_names())
    assert {"artifacts", "lineage", "artifact_models", "files", "failures", "images", *ARTIFACT_TABLES} <= tables
    names = [migration.name for migration in MIGRATIONS.applied(store.db)]
    assert names == sorted(names)
    assert max(Counter(names).values()) == 1
    migrate(store.db)
    assert [migration.name for migration in MIGRATIONS.applied(store.db)] == names


def test_every_content_table_has_the_columns_that_order_it(store: Store) -> None:
    for table, order in ARTIFACT_TABLES.items():
        assert {"artifact_id", *order} <= set(store.db.table(table).columns_dict), table


def test_every_content_table_is_known_to_the_digest(store: Store) -> None:
    bookkeeping = {"lineage", "artifact_models", "files", "failures"}
    content = {
        name for name in store.db.table_names() if "artifact_id" in store.db.table(name).columns_dict
    } - bookkeeping
    assert content == set(ARTIFACT_TABLES)


def test_the_views_answer(store: Store) -> None:
    for view in store.db.view_names():
        store.db.execute(f"select * from {view}").fetchall()
    [image_id] = store.add_images([photograph(1)])
    image = {
        "image_id": image_id, "path": "a", "sha256": "b", "bytes": 1, "width": 1, "height": 1, "format": "PNG",
        "quality": None, "prompt": "p", "seed": 1, "kept_iteration": 2, "score": 1.0, "boundary": 3.0, "seconds": 1.0,
    }  # fmt: skip
    step = {"image_id": image_id, "gradient_norm": None, "top1": 0, "top1_name": "cat", "top1_probability": 0.5}
    steps = [
        {**step, "iteration": number, "score": score, "loss": 0.0, "kept": kept}
        for number, score, kept in [(1, 5.0, False), (2, 2.0, True)]
    ]
    make(store, "synthetic", rows={"synthetic_images": [image], "iterations": steps})
    labels = [
        {"position": 0, "text": "cat", "role": "ind"},
        {"position": 1, "text": "rust", "role": "negative", "part_of_speech": "noun", "tuned": True},
        {"position": 2, "text": "moss", "role": "negative", "part_of_speech": "noun"},
    ]
    make(store, "head", rows={"labels": labels})

    trajectory = store.db.execute("select iteration, distance_to_boundary, kept from boundary_trajectories").fetchall()
    assert trajectory == [(1, 2.0, 0), (2, -1.0, 1)]
    means = store.db.execute("select iteration, images, mean_absolute_distance from mean_trajectories").fetchall()
    assert means == [(1, 1, 2.0), (2, 1, 1.0)]
    counts = store.db.execute("select role, part_of_speech, labels, tuned from label_counts order by role").fetchall()
    assert counts == [("ind", None, 1, 0), ("negative", "noun", 2, 1)]


def test_sqlite_utils_opens_it(workspace: Workspace) -> None:
    with Store.open(workspace, write=True) as store:
        make(store, tag="1")
        make(store, tag="2")
    command = [sys.executable, "-m", "sqlite_utils", "tables", str(workspace.database), "--counts"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert {row["table"]: row["count"] for row in listed}["artifacts"] == 2


def test_a_newer_database_is_refused_and_left_alone(workspace: Workspace) -> None:
    with Store.open(workspace, write=True):
        pass
    db = Database(sqlite3.connect(workspace.database))
    row = {"migration_set": "synood", "name": "999_of_the_future", "applied_at": "2099-01-01"}
    db.table("_sqlite_migrations").insert(row)
    db.close()
    for write in (True, False):
        with (
            pytest.raises(StoreError, match=r"newer synood .*999_of_the_future") as raised,
            Store.open(workspace, write=write),
        ):
            pass
        assert "upgrade" in (raised.value.hint or "")


def test_a_failed_migration_leaves_nothing(tmp_path: Path) -> None:
    db = Database(sqlite3.connect(tmp_path / "x.db"))
    db.execute("create table scores (taken text)")  # in the way of the first migration, near its end
    with pytest.raises(sqlite3.OperationalError, match="scores already exists"):
        migrate(db)
    assert "artifacts" not in db.table_names()
    assert MIGRATIONS.applied(db) == []
    db.close()


def test_artifacts_of_an_older_synood_get_a_record_digest_and_keep_their_content_digest(workspace: Workspace) -> None:
    with Store.open(workspace, write=True) as store:
        made = make(store, files={"a": b"1"})
        begin(store, seed=1).commit({}, done=1)
    db = Database(sqlite3.connect(workspace.database))
    for column in ("question", "record"):
        db.execute(f"alter table artifacts drop column {column}")
    with db.atomic():
        db.execute("delete from _sqlite_migrations where name = '004_record_digest'")
    db.close()
    with Store.open(workspace, write=False) as store:  # migrates
        assert list(verify(store)) == []
        assert store.get(made.name).digest == made.digest
        assert store.db.execute("select question, length(record) from artifacts order by id").fetchall() == [
            (None, 64),
            (None, None),
        ]
    with Store.open(workspace, write=True) as store:
        resumed = begin(store, seed=1).complete()
        assert list(verify(store)) == []
        question = store.db.execute("select question from artifacts where id = ?", [resumed.id]).fetchone()[0]
        assert json.loads(question)["seed"] == 1
        with store.db.atomic():
            store.db.execute("update artifacts set seed = 5")
        assert {problem.where for problem in verify(store)} == {made.name, resumed.name}


def test_a_file_that_is_no_database(workspace: Workspace) -> None:
    workspace.database.write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match=r"synood\.db: file is not a database"), Store.open(workspace, write=False):
        pass


def test_reading_a_workspace_that_holds_nothing_writes_nothing(workspace: Workspace) -> None:
    with Store.open(workspace, write=False) as store:
        assert store.artifacts() == []
    assert sorted(path.name for path in workspace.root.iterdir()) == ["artifacts", "reports", "synood.toml"]


def test_a_second_writer_is_told_who_writes(workspace: Workspace) -> None:
    script = """
import sys
from pathlib import Path
from synood_cli.store.store import Store
from synood_cli.store.workspace import Workspace
with Store.open(Workspace(Path(sys.argv[1])), write=True):
    print("open", flush=True)
    sys.stdin.read()
"""
    other = python(script, workspace.root)
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    with (
        pytest.raises(StoreError, match=rf"in use by process {other.pid} \(synood "),
        Store.open(workspace, write=True),
    ):
        pass
    with Store.open(workspace, write=False) as store:  # reading is allowed meanwhile
        assert store.artifacts() == []
    other.communicate()
    with Store.open(workspace, write=True):  # and so is writing, once the other has ended
        pass


def test_a_reader_sees_the_last_finished_transaction(workspace: Workspace) -> None:
    with Store.open(workspace, write=True) as writer, Store.open(workspace, write=False) as reader:
        draft = begin(writer)
        [image_id] = writer.add_images([photograph(1)])
        with writer.db.atomic():
            draft.commit({"selected_images": [chosen(image_id, 1)]}, done=1)
            assert list(reader.rows(draft.artifact, "selected_images")) == []
            assert reader.get("selection@1").items_done == 0
        assert len(list(reader.rows(draft.artifact, "selected_images"))) == 1
        assert reader.get("selection@1").items_done == 1


def test_a_workspace_is_found_like_a_git_repository(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    below = workspace.root / "reports/deep"
    below.mkdir()
    monkeypatch.chdir(below)
    assert Workspace.find(None) == workspace
    other = Workspace.create(tmp_path / "other")
    monkeypatch.setenv(ENVIRONMENT, str(other.root))
    assert Workspace.find(None) == other
    assert Workspace.find(workspace.root) == workspace
    monkeypatch.delenv(ENVIRONMENT)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no synood workspace here or above") as raised:
        Workspace.find(None)
    assert "synood init" in (raised.value.hint or "")
    with pytest.raises(UsageError, match=r"no synood\.toml"):
        Workspace.find(tmp_path / "nowhere")


def test_making_a_workspace_again_changes_nothing(workspace: Workspace) -> None:
    workspace.settings_file.write_text("seed = 5\n")
    Workspace.create(workspace.root)
    assert workspace.settings_file.read_text() == "seed = 5\n"
    assert workspace.config().seed(None) == 5


def test_a_workspace_cannot_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file"):
        Workspace.create(tmp_path / "file")
    with pytest.raises(StoreError, match="a part of the path is a file"):
        Workspace.create(tmp_path / "file/below")
