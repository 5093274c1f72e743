"""The commands that need no model: init, select, log, show, verify, gc, doctor."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command_line import run_synood

from synood_cli.cli.json_fields import JSON_FIELDS, PLAN
from synood_cli.store.draft import Draft
from synood_cli.store.store import Artifact, Store
from synood_cli.store.workspace import Workspace


@pytest.fixture
def selected(workspace: Path, photos: Path, bad_photo: Path) -> Path:
    """A workspace with selection@1: two of three photographs of each class, and one failure."""
    ended = run_synood("select", "-w", workspace, photos, "--per-class", "2")
    assert ended.code == 3, ended.err
    return workspace


def draft_of_captions(workspace: Path, *, finish: bool) -> None:
    with Store.open(Workspace(workspace), write=True) as store:
        inputs = {"selection": store.newest("selection")}
        draft = Draft.begin(store, "captions", "caption", settings={}, inputs=inputs, models={}, seed=0)
        draft.note({"warnings": []})  # what holds nothing at all is forgotten
        if finish:
            draft.complete()


def test_init_makes_a_workspace_and_says_what_is_next(tmp_path: Path) -> None:
    ended = run_synood("init", "study")
    assert (ended.code, ended.text) == (0, f"{tmp_path}/study: workspace made\n")
    assert ended.err.splitlines()[-1].startswith("next: synood select -w study PHOTOS")
    assert (tmp_path / "study/synood.toml").is_file()
    assert (tmp_path / "study/synood.db").is_file()

    (tmp_path / "study/synood.toml").write_text("seed = 3\n")
    again = run_synood("init", "study", "--json")
    assert again.json == {"workspace": f"{tmp_path}/study", "created": False}
    assert again.json.keys() == JSON_FIELDS["init"].keys()
    assert (tmp_path / "study/synood.toml").read_text() == "seed = 3\n"


def test_what_init_writes_is_all_defaults(workspace: Path, photos: Path) -> None:
    plan = run_synood("select", "-w", workspace, photos, "--dry-run", "--json").json
    assert plan["settings"] == {"per_class": 50, "classes": None}


def test_select_tells_what_it_made_and_what_failed(workspace: Path, photos: Path, bad_photo: Path) -> None:
    made = run_synood("select", "-w", workspace, photos, "--per-class", "2")
    assert made.code == 3
    assert made.text.startswith("selection@1: 4 done, 1 failed, made in ")
    lines = made.err.splitlines()
    assert "1 failed:" in lines
    assert any(line.startswith("  cat/bad.jpg: not a picture") for line in lines)
    assert "all of them: synood show selection@1 --failures" in lines
    assert lines[-1] == "next: synood caption"

    reused = run_synood("select", "-w", workspace, photos, "--per-class", "2", "--json", "--quiet")
    assert reused.code == 3
    assert reused.json.keys() == JSON_FIELDS["select"].keys()
    assert reused.json | {"seconds": 0} == {
        "artifact": "selection@1", "stage": "select", "reused": True, "done": 4, "failed": 1, "seconds": 0,
        "passed_over": {"files": 0, "endings": {}, "names": []},
    }  # fmt: skip
    assert reused.err.splitlines()[0] == "1 failed:"
    assert reused.err.splitlines()[-1] == "once the cause is gone, --force makes it again"
    assert "next" not in reused.err

    forced = run_synood("select", "-w", workspace, photos, "--per-class", "2", "--force", "--json")
    assert (forced.json["artifact"], forced.json["reused"]) == ("selection@2", False)


def test_what_select_did_not_look_at_is_told_also_when_nothing_is_to_do(workspace: Path, photos: Path) -> None:
    (photos / "cat/2.jpg").rename(photos / "cat/2")
    (photos / "notes.txt").write_text("x")
    for options in (["--dry-run"], [], []):
        made = run_synood("select", "-w", workspace, photos, "--per-class", "2", "--json", *options)
        told = "2 other files were not looked at (without ending 1, .txt 1): notes.txt, cat/2"
        assert (made.code, told in made.err.splitlines()) == (0, True)
    assert made.json["reused"] is True
    assert made.json["passed_over"] == {
        "files": 2, "endings": {"": 1, ".txt": 1}, "names": ["notes.txt", "cat/2"],
    }  # fmt: skip


def test_a_stage_without_failures_exits_with_0(workspace: Path, photos: Path) -> None:
    ended = run_synood("select", "-w", workspace, photos, "--per-class", "3", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert ended.text.startswith("selection@1: 6 done, made in ")


def test_warnings_of_a_stage_are_told_every_time(workspace: Path, photos: Path) -> None:
    for _ in range(2):
        ended = run_synood("select", "-w", workspace, photos)
        assert "warning: 2 of 2 classes have fewer than 50 images" in ended.err


def test_a_dry_run_says_what_would_happen_and_writes_nothing(workspace: Path, photos: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in workspace.rglob("*")}
    plan = run_synood("select", "-w", workspace, photos, "--dry-run", "--json", "--per-class", "2").json
    assert plan.keys() == PLAN.keys()
    assert (plan["action"], plan["artifact"], plan["items"], plan["done"]) == ("make", "selection", 6, 0)
    text = run_synood("select", "-w", workspace, photos, "--dry-run", "--per-class", "2").text
    assert text.splitlines()[0] == "select would make a new selection"
    assert "per_class  2" in text
    assert {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path in before} == before
    assert run_synood("log", "-w", workspace, "--json").json == []

    run_synood("select", "-w", workspace, photos, "--per-class", "2")
    plan = run_synood("select", "-w", workspace, photos, "--dry-run", "--json", "--per-class", "2").json
    assert (plan["action"], plan["artifact"], plan["done"]) == ("reuse", "selection@1", 4)
    plan = run_synood("select", "-w", workspace, photos, "--dry-run", "--json", "--per-class", "2", "--force").json
    assert plan["action"] == "make"


def test_a_dry_run_works_while_another_process_writes(selected: Path, photos: Path) -> None:
    with Workspace(selected).lock():
        plan = run_synood("select", "-w", selected, photos, "--dry-run", "--json", "--per-class", "2")
        assert plan.json["action"] == "reuse"
        refused = run_synood("select", "-w", selected, photos, "--per-class", "2")
    assert refused.code == 1
    assert f"is in use by process {os.getpid()}" in refused.err


def test_the_workspace_is_found_from_inside_and_by_the_environment(
    selected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_synood("log").code == 2
    monkeypatch.setenv("SYNOOD_WORKSPACE", str(selected))
    assert len(run_synood("log", "--json").json) == 1
    monkeypatch.delenv("SYNOOD_WORKSPACE")
    monkeypatch.chdir(selected / "reports")
    assert len(run_synood("log", "--json").json) == 1


def test_log_lists_artifacts_and_lineage(selected: Path) -> None:
    draft_of_captions(selected, finish=False)
    lines = run_synood("log", "-w", selected).text.splitlines()
    assert lines[0].split("  ")[0] == "artifact"
    assert lines[1].split()[:5] == ["selection@1", "select", "complete", "4", "1"]
    assert lines[2].split()[:6] == ["captions@1", "caption", "unfinished", "0", "0", "selection@1"]

    entries = run_synood("log", "-w", selected, "--json").json
    assert all(entry.keys() == JSON_FIELDS["log"].keys() for entry in entries)
    assert entries[1]["inputs"] == {"selection": "selection@1"}
    assert entries[1]["finished_at"] is None
    kinds = run_synood("log", "-w", selected, "--json", "--kind", "captions").json
    assert [entry["artifact"] for entry in kinds] == ["captions@1"]
    assert run_synood("log", "-w", selected, "--kind", "caption").code == 2

    tree = run_synood("log", "-w", selected, "captions@1").text
    assert tree == "captions@1 (caption, unfinished)\n  selection: selection@1 (select, complete)\n"
    assert run_synood("log", "-w", selected, "captions@1", "--json").json == entries[::-1]


def test_a_lineage_of_many_ways_is_told_once(workspace: Path) -> None:
    """Twelve times, two heads go into one: there are 2¹² ways from the last to the first, and 37 artifacts."""
    with Store.open(Workspace(workspace), write=True) as store:

        def made(number: int, **inputs: Artifact) -> Artifact:
            question = {"settings": {}, "inputs": inputs, "models": {}, "seed": number}
            return Draft.begin(store, "head", "train-labels", **question).complete()

        last = made(0)
        for number in range(1, 37, 3):
            left, right = made(number, head=last), made(number + 1, head=last)
            last = made(number + 2, left=left, right=right)
    text = run_synood("log", "-w", workspace, "head@37").text.splitlines()
    assert len(text) == 1 + 12 * 4
    assert text[0] == "head@37 (train-labels, complete)"
    assert text[-1] == "    head: head@34 (train-labels, complete, see above)"
    assert sum(", see above)" in line for line in text) == 11  # the first head has no inputs to refer to
    entries = run_synood("log", "-w", workspace, "head@37", "--json").json
    assert [entry["artifact"] for entry in entries] == [f"head@{number}" for number in range(37, 0, -1)]
    assert entries[0]["inputs"] == {"left": "head@35", "right": "head@36"}
    page = run_synood("report", "head@37", "-w", workspace, "--json")
    assert page.code == 0
    html = Path(page.json["page"]).read_text(encoding="utf-8")
    tree = html[html.index('<ul class="tree">') :]
    assert tree[: tree.index("</section>")].count('<a href="#head@') == 1 + 12 * 4


def test_log_of_nothing(workspace: Path) -> None:
    ended = run_synood("log", "-w", workspace)
    assert (ended.code, ended.text, ended.err) == (0, "", "nothing made yet\n")


def test_show_tells_everything_about_an_artifact(selected: Path) -> None:
    about = run_synood("show", "-w", selected, "selection", "--json").json
    assert about.keys() == JSON_FIELDS["show"].keys()
    assert about["settings"] == {"per_class": 2, "classes": None}
    assert about["notes"]["classes"] == 2
    rows = about["content"]["selected_images"]
    assert rows["count"] == 4
    assert [(row["class_name"], row["rank"]) for row in rows["sample"]] == [("cat", 1), ("cat", 2), ("dog", 1)]
    assert {row["image"].split("/")[0] for row in rows["sample"]} == {"cat", "dog"}

    text = run_synood("show", "-w", selected, "selection@1").text
    assert "settings     classes=none, per_class=2" in text
    assert f"digest       {about['digest']}" in text
    assert "selected_images: 4 rows, the first 3" in text


def test_show_failures(selected: Path) -> None:
    [failure] = run_synood("show", "-w", selected, "selection@1", "--failures", "--json").json
    assert failure["item"] == "cat/bad.jpg"
    lines = run_synood("show", "-w", selected, "selection@1", "--failures").text.splitlines()
    assert lines[1] == f"cat/bad.jpg  {failure['reason']}"
    unknown = run_synood("show", "-w", selected, "selection@5")
    assert unknown.code == 2
    assert "hint: selection artifacts: selection@1" in unknown.err


def test_names_that_are_not_utf8(workspace: Path, photos: Path) -> None:
    odd = photos / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    (odd / os.fsdecode(b"\xff.jpg")).write_bytes((photos / "cat/1.jpg").read_bytes())
    (odd / os.fsdecode(b"bad\xfe.jpg")).write_bytes(b"")
    ended = run_synood("select", "-w", workspace, photos, "--per-class", "1")
    assert ended.code == 3
    assert r"  caf\xe9/bad\xfe.jpg: " in ended.err
    about = run_synood("show", "-w", workspace, "selection", "--json").json
    assert about["content"]["selected_images"]["count"] == 3
    found = [row["image"] for row in about["content"]["selected_images"]["sample"]]
    assert os.fsdecode(b"caf\xe9/\xff.jpg") in found  # in JSON the very name
    assert r"caf\xe9/\xff.jpg" in run_synood("show", "-w", workspace, "selection").text
    assert r"caf\xe9/bad\xfe.jpg" in run_synood("show", "-w", workspace, "selection", "--failures").text


def test_a_terminal_that_is_not_utf8(workspace: Path, photos: Path) -> None:
    (photos / "猫").mkdir()
    (photos / "猫/1.jpg").write_bytes((photos / "cat/1.jpg").read_bytes())
    ended = run_synood("select", "-w", workspace, photos, encoding="ascii")
    assert ended.code == 0
    shown = run_synood("log", "-w", workspace, encoding="ascii")
    assert b"selection@1" in shown.out
    failures = run_synood("select", "-w", workspace, photos / "猫", encoding="ascii")
    assert failures.code == 2
    assert r"\u732b" in failures.err


def test_verify(selected: Path) -> None:
    fine = run_synood("verify", "-w", selected)
    assert (fine.code, fine.text) == (0, "1 complete artifacts are as they were written\n")
    assert run_synood("verify", "-w", selected, "--json").json == {"artifacts": 1, "problems": []}

    (selected / "artifacts/stray").write_bytes(b"x")
    stray = run_synood("verify", "-w", selected)
    assert (stray.code, stray.err) == (1, "1 problem\n`synood gc` removes what belongs to no artifact\n")
    with Store.open(Workspace(selected), write=True) as store:
        store.db.execute("update selected_images set rank = 9 where rank = 2")
    damaged = run_synood("verify", "-w", selected)
    assert damaged.code == 1
    assert damaged.err.splitlines() == [
        "2 problems",
        "`synood gc` removes what belongs to no artifact",
        "what is damaged can be made again: run its command with --force",
    ]
    assert "selection@1      its rows in the database have changed (content digest)" in damaged.text
    document = run_synood("verify", "-w", selected, "--json")
    assert document.code == 1
    assert document.json.keys() == JSON_FIELDS["verify"].keys()
    assert [problem["where"] for problem in document.json["problems"]] == ["selection@1", "artifacts/stray"]


def test_gc(selected: Path) -> None:
    draft_of_captions(selected, finish=False)
    (selected / "artifacts/stray").write_bytes(b"123")
    planned = run_synood("gc", "-w", selected, "--unfinished", "--dry-run", "--json").json
    assert planned.keys() == JSON_FIELDS["gc"].keys()
    assert (planned["dry_run"], planned["bytes"]) == (True, 3)
    assert (selected / "artifacts/stray").exists()

    plain = run_synood("gc", "-w", selected)
    assert (plain.code, plain.err) == (0, "removed 1, 3 bytes\n")
    assert plain.text.splitlines()[1].split() == ["artifacts/stray", "no", "artifact's", "3"]
    more = run_synood("gc", "-w", selected, "--unfinished", "--json").json
    assert [removal["what"] for removal in more["removed"]] == ["captions@1"]
    assert len(run_synood("log", "-w", selected, "--json").json) == 1


def test_doctor_with_and_without_a_workspace(selected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run_synood("doctor", "--json")
    assert alone.code == 0
    assert alone.json.keys() == JSON_FIELDS["doctor"].keys()
    assert alone.json["workspace"]["workspace"] is None
    assert alone.json["devices"][0]["device"] == "cpu"
    assert alone.json["versions"]["torch"] != "missing"

    folder = selected / "clip"
    folder.mkdir()
    (selected / "synood.toml").write_text(f'[models]\nclip = "{folder}"\ncaptioner = "clip-tags"\n')
    there = run_synood("doctor", "-w", selected, "--json").json
    assert there["workspace"]["state"] == "1 complete artifacts, 0 unfinished"
    where = {model["role"]: model["where"] for model in there["models"]}
    assert (where["clip"], where["captioner"]) == ("local folder", "made of the CLIP")
    assert "torch" in run_synood("doctor", "-w", selected).text

    assert run_synood("doctor", "-w", selected / "nowhere").code == 2
    (selected / "synood.db").write_bytes(b"damaged" * 1000)
    damaged = run_synood("doctor", "-w", selected, "--json").json
    assert "file is not a database" in damaged["workspace"]["state"]


@pytest.mark.parametrize("name", ["~nobody/clip", "./nowhere", "a b/c", "x" * 200 + "/y", "--/.."])
def test_doctor_names_models_that_no_hub_can_have(workspace: Path, name: str) -> None:
    (workspace / "synood.toml").write_text(f"[models]\nclip = {json.dumps(name)}\n")
    done = run_synood("doctor", "-w", workspace, "--json")
    assert (done.code, done.err) == (0, "")
    assert {m["role"]: m["where"] for m in done.json["models"]}["clip"] in (
        "no such folder",
        "not on this machine: downloaded when needed",
    )
