"""An artifact is written item by item; what was interrupted goes on; equal content has an equal digest."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from store_rows import begin, chosen, make, photograph, python

from synood_cli.store.draft import Draft
from synood_cli.store.files import sha256_bytes
from synood_cli.store.maintenance import verify
from synood_cli.store.store import Store
from synood_cli.store.workspace import Workspace

RAW = os.fsdecode(b"caf\xe9/\xff\n.jpg")
"""A file name that is not UTF-8."""


def select(draft: Draft, numbers: list[int]) -> None:
    for number in numbers:
        [image_id] = draft.store.add_images([photograph(number)])
        draft.commit({"selected_images": [chosen(image_id, number)]}, done=1)


def test_a_killed_run_goes_on_where_it_stopped(workspace: Workspace) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from store_rows import begin, chosen, photograph
from synood_cli.store.maintenance import verify
from synood_cli.store.store import Store
from synood_cli.store.workspace import Workspace
with Store.open(Workspace(Path(sys.argv[1])), write=True) as store:
    draft = begin(store)
    for number in (1, 2):
        [image_id] = store.add_images([photograph(number)])
        draft.commit({"selected_images": [chosen(image_id, number)]}, done=1)
    draft.fail("cat/3.jpg", "unreadable")
    draft.write_file("images/never-committed.jpg", b"x")
    (draft.folder / "images/.writing-0123").write_bytes(b"killed before the rename")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = python(script, workspace.root)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL

    with Store.open(workspace, write=True) as store:
        draft = begin(store)
        assert draft.artifact.name == "selection@1"
        assert (draft.artifact.status, draft.artifact.reused) == ("unfinished", False)
        assert draft.keys("selected_images", "rank") == {1, 2}
        assert store.failures(draft.artifact) == []
        select(draft, [3])
        made = draft.complete()
        assert (made.items_done, made.items_failed) == (3, 0)
        assert list(verify(store)) == []  # what the killed run left behind is gone

        undisturbed = begin(store, force=True)
        select(undisturbed, [1, 2, 3])
        assert undisturbed.complete().digest == made.digest


def test_failures_do_not_wait_for_the_disk_and_commits_do(store: Store) -> None:
    full = 2
    draft = begin(store)
    with store.without_waiting():
        assert store.db.execute("pragma synchronous").fetchone()[0] < full
    draft.fail("a", "broken")
    assert store.db.execute("pragma synchronous").fetchone()[0] == full
    assert store.failures(draft.artifact) == [("a", "broken")]


def test_a_number_whose_folder_exists_is_passed_over(store: Store) -> None:
    """After an older copy of the database was restored, artifacts newer than it are in the way."""
    make(store)
    (store.workspace.artifacts / "selection@2").mkdir()
    (store.workspace.artifacts / "selection@3").symlink_to("elsewhere")
    assert begin(store, seed=1).artifact.name == "selection@4"


def test_what_lost_its_files_is_not_resumed(store: Store) -> None:
    draft = begin(store)
    draft.write_file("a", b"1")
    draft.commit({}, ["a"], done=1)
    assert begin(store).artifact.name == "selection@1"
    (draft.folder / "a").unlink()
    assert begin(store).artifact.name == "selection@2"


def test_nothing_of_a_commit_that_fails_is_kept(store: Store) -> None:
    draft = begin(store)
    [image_id] = store.add_images([photograph(1)])
    draft.write_file("a.jpg", b"x")
    broken = {"image_id": 99, "class_name": "cat", "rank": 2, "complexity": 1.0}
    with pytest.raises(Exception, match="constraint failed"):
        draft.commit({"selected_images": [chosen(image_id, 1), broken]}, ["a.jpg"], done=2)
    assert list(store.rows(draft.artifact, "selected_images")) == []
    assert store.get("selection@1").items_done == 0
    assert store.db.execute("select count(*) from files").fetchone() == (0,)


def test_counts_notes_and_failures(store: Store) -> None:
    draft = begin(store)
    select(draft, [1, 2])
    draft.fail("cat/3.jpg", "cut off\nhere")
    draft.note({"boundary": 2.5})
    draft.note({"classes": 1})
    made = draft.complete()
    assert (made.status, made.items_done, made.items_failed) == ("complete", 2, 1)
    assert made.notes == {"boundary": 2.5, "classes": 1}
    assert made.seconds > 0
    assert made.finished_at is not None
    assert store.failures(made) == [("cat/3.jpg", r"cut off\nhere")]
    assert store.db.execute("select artifact, stage, item from failed_items").fetchall() == [
        ("selection@1", "select", "cat/3.jpg")
    ]


def test_an_item_committed_twice_is_one_row(store: Store) -> None:
    draft = begin(store)
    [image_id] = store.add_images([photograph(1)])
    draft.commit({"selected_images": [chosen(image_id, 1)]})
    draft.commit({"selected_images": [chosen(image_id, 2)]})
    assert [row["rank"] for row in store.rows(draft.artifact, "selected_images")] == [2]


def test_rows_come_in_their_order(store: Store) -> None:
    draft = begin(store)
    ids = store.add_images([photograph(number) for number in range(4)])
    rows = [chosen(ids[0], 2, "dog"), chosen(ids[1], 1, "dog"), chosen(ids[2], 2), chosen(ids[3], 1)]
    draft.commit({"selected_images": rows})
    found = [(row["class_name"], row["rank"]) for row in store.rows(draft.artifact, "selected_images")]
    assert found == [("cat", 1), ("cat", 2), ("dog", 1), ("dog", 2)]


def test_photographs_are_registered_once(store: Store) -> None:
    first = store.add_images([photograph(1), photograph(2)])
    assert store.add_images([photograph(2), photograph(1), photograph(1, root="/moved")]) == [first[1], first[0], 3]


def test_a_moved_photograph_is_found_where_it_was_selected_since(store: Store, tmp_path: Path) -> None:
    (tmp_path / "new/cat").mkdir(parents=True)
    (tmp_path / "new/cat/1.jpg").write_bytes(b"x")
    old, new = store.add_images([photograph(1, root="/gone"), photograph(1, root=str(tmp_path / "new"))])
    assert store.image(old)["path"] == store.image(new)["path"] == tmp_path / "new/cat/1.jpg"
    assert store.image(old)["root"] == "/gone"


def test_names_that_are_not_utf8_come_back_as_they_were(store: Store) -> None:
    draft = begin(store)
    [image_id] = store.add_images([photograph(1, root=f"/{RAW}", name=RAW, class_name=os.fsdecode(b"caf\xe9"))])
    assert store.add_images([photograph(1, root=f"/{RAW}", name=RAW)]) == [image_id]
    draft.write_file(RAW, b"x")
    draft.commit({"selected_images": [chosen(image_id, 1, os.fsdecode(b"caf\xe9"))]}, [RAW])
    draft.fail(RAW, f"cannot read {RAW}")
    made = draft.complete()

    image = store.image(image_id)
    assert (image["name"], image["root"], image["path"]) == (RAW, f"/{RAW}", Path(f"/{RAW}") / RAW)
    [row] = store.rows(made, "selected_images")
    assert row["class_name"] == os.fsdecode(b"caf\xe9")
    assert store.failures(made) == [(RAW, r"cannot read caf\xe9/\xff\n.jpg")]
    assert (made.folder / RAW).read_bytes() == b"x"
    assert store.sample(made, 1)["selected_images"] == {
        "count": 1,
        "sample": [{"image": RAW, **{key: row[key] for key in row if key not in ("artifact_id", "image_id")}}],
    }


def digest_of_selection(workspace: Workspace, order: list[int], root: str, before: int) -> str | None:
    """The digest of one selection, its rows written in `order`, after `before` other photographs and artifacts."""
    with Store.open(workspace, write=True) as store:
        for number in range(before):
            store.add_images([photograph(100 + number)])
            make(store, tag=str(number))
        draft = begin(store)
        for number in order:
            [image_id] = store.add_images([photograph(number, root=root)])
            draft.write_file(f"images/{number}.txt", b"%d" % number)
            prompt = {"raw_answer": "a", "elements": "[]", "prompt": "p", "tokens": 4, "model": "m"}
            rows = {
                "selected_images": [chosen(image_id, number)],
                "prompts": [{"image_id": image_id, **prompt, "seconds": 0.1 * (before + 1)}],
            }
            draft.commit(rows, [f"images/{number}.txt"])
        return draft.complete().digest


def test_the_digest_knows_neither_order_nor_ids_nor_seconds_nor_places(tmp_path: Path) -> None:
    one = digest_of_selection(Workspace.create(tmp_path / "one"), [1, 2, 3], "/photos", before=0)
    two = digest_of_selection(Workspace.create(tmp_path / "two"), [3, 1, 2], "/elsewhere", before=2)
    other = digest_of_selection(Workspace.create(tmp_path / "other"), [1, 2], "/photos", before=0)
    assert one == two != other


@pytest.mark.parametrize("change", [{"complexity": 1.0}, {"rank": 7}, {"measured": "jpeg95"}])
def test_the_digest_knows_every_value(store: Store, change: dict[str, object]) -> None:
    [image_id] = store.add_images([photograph(1)])
    one = make(store, rows={"selected_images": [chosen(image_id, 1)]}, tag="one")
    two = make(store, rows={"selected_images": [chosen(image_id, 1) | change]}, tag="two")
    assert one.digest != two.digest


def test_the_digest_of_a_file_is_remembered_until_it_changes(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    assert store.file_digest(file) == sha256_bytes(b"one")
    os.utime(file, ns=(1, 1))
    store.file_digest(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))  # size and modification time can be put back
    assert store.file_digest(file) == sha256_bytes(b"two")

    old = Path(os.__file__)
    assert store.file_digest(old) == sha256_bytes(old.read_bytes())
    assert list(store.remembered_digests()) == [(old, sha256_bytes(old.read_bytes()))]
    store.db.execute("update digest_cache set sha256 = 'abc'")
    assert store.file_digest(old) == "abc"  # it was not read again
    assert [problem.what for problem in verify(store)] == [
        f"the remembered SHA-256 of {old} is not its own (digest_cache)"
    ]
    store.db.execute("update digest_cache set ctime_ns = ctime_ns - 1")
    assert list(store.remembered_digests()) == []
    assert store.file_digest(old) == sha256_bytes(old.read_bytes())
