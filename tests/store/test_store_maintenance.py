"""verify finds what is not as it was written; gc removes what is not needed, and nothing else."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from store_rows import begin, chosen, make, photograph, python

from synood_cli.records import ModelSpec
from synood_cli.store.digest import record_digest
from synood_cli.store.files import TEMPORARY
from synood_cli.store.maintenance import Problem, Removal, gc, verify
from synood_cli.store.store import Artifact, Store
from synood_cli.store.workspace import Workspace


def flip_a_byte(made: Artifact, store: Store) -> None:
    (made.folder / "images/a.png").write_bytes(b"picturE")


def cut_off(made: Artifact, store: Store) -> None:
    (made.folder / "images/a.png").write_bytes(b"pic")


def remove(made: Artifact, store: Store) -> None:
    (made.folder / "images/a.png").unlink()


def edit_a_row(made: Artifact, store: Store) -> None:
    store.db.execute("update labels set text = 'dog' where text = 'cat'")


def edit_a_recorded_digest(made: Artifact, store: Store) -> None:
    store.db.execute("update files set sha256 = 'f' || substr(sha256, 2) where path = 'images/a.png'")


def add_a_file(made: Artifact, store: Store) -> None:
    (made.folder / "images/b.png").write_bytes(b"")


def add_a_folder(made: Artifact, store: Store) -> None:
    (made.folder.parent / "head@7").mkdir()
    (made.folder.parent / "head@7/head.json").write_bytes(b"{}")


def make_a_link(made: Artifact, store: Store) -> None:
    (store.workspace.root / "elsewhere").write_bytes(b"picture")
    (made.folder / "images/a.png").unlink()
    (made.folder / "images/a.png").symlink_to(store.workspace.root / "elsewhere")


def make_the_folder_a_link(made: Artifact, store: Store) -> None:
    (made.folder / "images").rename(store.workspace.root / "elsewhere")
    (made.folder / "images").symlink_to(store.workspace.root / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "problems"),
    [
        (flip_a_byte, [("artifacts/head@1/images/a.png", "its content has changed (SHA-256)")]),
        (cut_off, [("artifacts/head@1/images/a.png", "has 3 bytes instead of 7")]),
        (remove, [("artifacts/head@1/images/a.png", "is missing")]),
        (edit_a_row, [("head@1", "its rows in the database have changed (content digest)")]),
        (
            edit_a_recorded_digest,
            [
                ("head@1", "its rows in the database have changed (content digest)"),
                ("artifacts/head@1/images/a.png", "its content has changed (SHA-256)"),
            ],
        ),
        (add_a_file, [("artifacts/head@1/images/b.png", "belongs to no artifact")]),
        (add_a_folder, [("artifacts/head@7/head.json", "belongs to no artifact")]),
        (make_a_link, [("artifacts/head@1/images/a.png", "is a symbolic link, or in a folder that is one")]),
        (
            make_the_folder_a_link,
            [
                ("artifacts/head@1/images/a.png", "is a symbolic link, or in a folder that is one"),
                ("artifacts/head@1/images", "belongs to no artifact"),
            ],
        ),
    ],
)
def test_verify_finds(store: Store, damage: Callable[[Artifact, Store], None], problems: list[tuple[str, str]]) -> None:
    rows = {"labels": [{"position": 0, "text": "cat", "role": "ind"}]}
    made = make(store, "head", files={"images/a.png": b"picture"}, rows=rows)
    make(store, "scores", files={"other": b"left alone"})
    assert list(verify(store)) == []
    damage(made, store)
    assert list(verify(store)) == [Problem(*problem) for problem in problems]


def test_verify_finds_a_lost_input(store: Store) -> None:
    made = make(store, "head")
    store.db.execute("pragma foreign_keys = off")
    store.db.execute("insert into lineage values (?, 'selection', 99)", [made.id])
    where = [problem.where for problem in verify(store)]
    assert where == ["synood.db", "head@1"]


CHANGES = {
    "stage": "update artifacts set stage = 'synthesize' where name = 'head@1'",
    "settings": """update artifacts set settings = '{"tag":"other"}' where name = 'head@1'""",
    "seed": "update artifacts set seed = 7 where name = 'head@1'",
    "identity": "update artifacts set identity = 'f' || substr(identity, 2) where name = 'head@1'",
    "question": "update artifacts set question = null where name = 'head@1'",
    "notes": """update artifacts set notes = '{"boundary":9}' where name = 'head@1'""",
    "counts": "update artifacts set items_failed = 0 where name = 'head@1'",
    "version": "update artifacts set tool_version = '9.9' where name = 'head@1'",
    "time": "update artifacts set finished_at = '2001-01-01' where name = 'head@1'",
    "record": "update artifacts set record = null where name = 'head@1'",
    "model": "update artifact_models set revision = 'abd'",
    "model's name": "update artifact_models set name = 'RN50'",
    "no model": "delete from artifact_models",
    "role": "update lineage set role = 'other'",
    "input": "update lineage set input_id = 2",
    "no input": "delete from lineage",
    "reason": "update failures set reason = 'fine'",
    "no failure": "delete from failures",
    "photograph": "update images set name = 'dog/1.jpg' where id = 1",
    "class": "update images set class_name = 'dog' where id = 1",
}


@pytest.mark.parametrize("change", CHANGES)
def test_verify_finds_what_was_changed_in_the_database(store: Store, change: str) -> None:
    [image_id] = store.add_images([photograph(1)])
    selection = make(store, tag="1", rows={"selected_images": [chosen(image_id, 1)]})
    make(store, tag="2")
    clip = ModelSpec(adapter="open_clip", name="ViT-B-16", pretrained="openai", revision="abc")
    draft = begin(store, "head", "head", inputs={"selection": selection}, models={"clip": clip})
    draft.note({"boundary": 3.0})
    draft.fail("a", "broken")
    draft.commit({}, done=1)
    draft.complete()
    assert list(verify(store)) == []
    store.db.execute(CHANGES[change])
    changed = {problem.where for problem in verify(store) if "record digest" in problem.what}
    assert changed == {"selection@1" if "images" in CHANGES[change] else "head@1"}


def test_the_identity_of_an_artifact_is_derived_from_what_it_is_made_of(store: Store) -> None:
    made = make(store, tag="1")
    for column, value in {"settings": '{"tag":"2"}', "seed": 3, "stage": "caption"}.items():
        before = store.db.execute(f"select {column} from artifacts").fetchone()[0]
        store.db.execute(f"update artifacts set {column} = ?", [value])
        store.db.execute("update artifacts set record = ?", [record_digest(store.db, made.id)])
        assert [problem.what for problem in verify(store)] == [
            "its identity is not that of its stage, settings, seed, inputs and models"
        ]
        store.db.execute(f"update artifacts set {column} = ?", [before])
    store.db.execute("update artifacts set record = ?", [record_digest(store.db, made.id)])
    assert list(verify(store)) == []


def test_verify_leaves_what_is_being_written_alone(store: Store) -> None:
    unfinished = make(store, files={"a": b"a"}, finish=False)
    (unfinished.folder / "b").write_bytes(b"not committed yet")
    assert list(verify(store)) == []


def test_verify_finds_a_damaged_database(workspace: Workspace) -> None:
    with Store.open(workspace, write=True) as store:
        make(store)
        store.db.execute("pragma wal_checkpoint(truncate)")
    connection = sqlite3.connect(workspace.database)
    [page] = connection.execute("select rootpage from sqlite_master where name = 'artifacts_identity'").fetchone()
    size = connection.execute("pragma page_size").fetchone()[0]
    connection.close()
    content = bytearray(workspace.database.read_bytes())
    content[page * size - 40 : page * size - 20] = b"x" * 20  # in the index's last cell
    workspace.database.write_bytes(content)
    with Store.open(workspace, write=False) as store:
        problems = list(verify(store))
    assert problems
    assert all(problem.where == "synood.db" for problem in problems)


def test_gc_removes_strays_and_keeps_artifacts(store: Store) -> None:
    root = store.workspace.root
    made = make(store, files={"a": b"12345"})
    unfinished = make(store, "captions", files={"b": b"1"}, finish=False)
    strays = {
        root / f"{TEMPORARY}toml": 3,
        store.workspace.reports / f"{TEMPORARY}page": 4,
        made.folder / f"{TEMPORARY}image": 5,
        unfinished.folder / "not-committed": 6,
        store.workspace.artifacts / "loose": 7,
        store.workspace.artifacts / "head@9/deep/file": 8,
    }
    for path, size in strays.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    (store.workspace.artifacts / "link").symlink_to(root)

    planned = gc(store, unfinished=False, superseded=False, dry_run=True)
    assert all(path.exists() for path in strays)
    assert Removal("artifacts/head@9", "no artifact's", 8) in planned
    assert Removal(f"artifacts/selection@1/{TEMPORARY}image", "temporary", 5) in planned
    assert sum(removal.bytes for removal in planned if removal.what != "artifacts/link") == sum(strays.values())

    assert gc(store, unfinished=False, superseded=False, dry_run=False) == planned
    assert not any(path.exists() for path in strays)
    assert (root / "synood.toml").exists()
    assert (made.folder / "a").read_bytes() == b"12345"
    assert (unfinished.folder / "b").exists()
    assert gc(store, unfinished=False, superseded=False, dry_run=False) == []
    assert list(verify(store)) == []


@pytest.mark.parametrize("finish", [True, False])
def test_an_artifact_that_is_a_link_costs_nobody_a_file(store: Store, tmp_path: Path, finish: bool) -> None:
    made = make(store, files={"a": b"12345"}, finish=finish)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / f"{TEMPORARY}page").write_text("precious")
    (victim / "a").write_text("precious")
    shutil.rmtree(made.folder)
    made.folder.symlink_to(victim)
    assert bool(list(verify(store))) == finish
    gc(store, unfinished=True, superseded=True, dry_run=False)
    assert sorted(path.read_text() for path in victim.iterdir()) == ["precious", "precious"]


def test_gc_of_what_was_interrupted(store: Store) -> None:
    make(store, files={"a": b"1"})
    [image_id] = store.add_images([photograph(1)])
    prompt = {"image_id": image_id, "raw_answer": "", "elements": "[]", "prompt": "", "tokens": 2, "model": "m"}
    rows = {"prompts": [{**prompt, "seconds": 0.0}]}
    left = make(store, "captions", inputs={"selection": store.get("selection@1")}, rows=rows, finish=False)
    left.folder.mkdir()
    (left.folder / "not-committed").write_bytes(b"123")
    assert gc(store, unfinished=True, superseded=False, dry_run=False) == [Removal("captions@1", "unfinished", 3)]
    assert [artifact.name for artifact in store.artifacts()] == ["selection@1"]
    assert store.db.execute("select count(*) from prompts").fetchone() == (0,)
    assert not left.folder.exists()


def study(store: Store) -> None:
    """Two selections; heads 1 → 2 of the old one, head 3 of the new one; scores of head 2 are the newest scores."""
    old = make(store, tag="old", files={"a": b"1"})
    new = make(store, tag="new")
    captions = make(store, "captions", inputs={"selection": old}, files={"c": b"22"})
    make(store, "captions", inputs={"selection": new})
    first = make(store, "head", inputs={"selection": old}, tag="1")
    second = make(store, "head", inputs={"head": first}, tag="2")
    make(store, "head", inputs={"selection": new}, tag="3")
    make(store, "eval", inputs={"head": second, "captions": captions}, tag="4", files={"e": b"333"})
    make(store, "eval", inputs={"head": second}, tag="5")
    make(store, "scores", inputs={"head": second})


def test_gc_of_what_is_superseded_keeps_every_lineage(store: Store) -> None:
    study(store)
    removed = gc(store, unfinished=False, superseded=True, dry_run=False)
    # eval@1 is not the newest; captions@1 served eval@1 alone; head@2, head@1 and selection@1 serve eval@2.
    assert removed == [Removal("captions@1", "superseded", 2), Removal("eval@1", "superseded", 3)]
    assert store.db.execute("pragma foreign_key_check").fetchall() == []
    assert list(verify(store)) == []
    assert not (store.workspace.artifacts / "eval@1").exists()
    assert store.ancestor(store.get("scores@1"), "selection") == store.get("selection@1")


def test_gc_keeps_what_an_unfinished_artifact_is_made_from(store: Store) -> None:
    old = make(store, tag="old")
    make(store, tag="new")
    make(store, "captions", inputs={"selection": old}, finish=False)
    assert gc(store, unfinished=False, superseded=True, dry_run=True) == []
    both = gc(store, unfinished=True, superseded=True, dry_run=False)
    assert [removal.what for removal in both] == ["selection@1", "captions@1"]


def test_gc_that_is_killed_leaves_files_for_the_next_never_rows_without_files(workspace: Workspace) -> None:
    with Store.open(workspace, write=True) as store:
        make(store, tag="old", files={"a": b"1"})
        make(store, tag="new", files={"a": b"1"})
    script = """
import os, shutil, signal, sys
from pathlib import Path
from synood_cli.store.maintenance import gc
from synood_cli.store.store import Store
from synood_cli.store.workspace import Workspace
shutil.rmtree = lambda _: os.kill(os.getpid(), signal.SIGKILL)
with Store.open(Workspace(Path(sys.argv[1])), write=True) as store:
    gc(store, unfinished=False, superseded=True, dry_run=False)
"""
    python(script, workspace.root).communicate()
    with Store.open(workspace, write=True) as store:
        assert [artifact.name for artifact in store.artifacts()] == ["selection@2"]
        assert [problem.where for problem in verify(store)] == ["artifacts/selection@1/a"]
        [left] = gc(store, unfinished=False, superseded=False, dry_run=False)
        assert left == Removal("artifacts/selection@1", "no artifact's", 1)
        assert list(verify(store)) == []


def test_versions_are_not_given_twice_while_a_later_one_is_there(store: Store, tmp_path: Path) -> None:
    make(store, tag="1")
    make(store, tag="2")
    gc(store, unfinished=False, superseded=True, dry_run=False)
    assert make(store, tag="3").name == "selection@3"
