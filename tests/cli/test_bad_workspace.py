"""Workspaces that are full, locked, damaged or oddly named: a message that says so, and nothing done is lost."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_line import Ended, run_synood

from pipeline import photograph
from synood_cli.store.workspace import Workspace

if TYPE_CHECKING:
    from checkpoints import Checkpoints


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> Path:
    """A folder with photographs and a workspace of two heads."""
    root = tmp_path_factory.mktemp("finished")
    lines = []
    for number in range(9):
        name = f"{('cat', 'dog', 'frog')[number % 3]}/{number}.jpg"
        photograph(root / "photos" / name, number)
        lines.append(json.dumps({"image": name, "elements": ["grass", "sky"]}))
    (root / "captions.jsonl").write_text("\n".join(lines))
    (root / "candidates.txt").write_text("\n".join(f"thing {number}" for number in range(12)))
    run_synood("init", root / "ws")
    models = "\n".join(f'{role} = "{folder}"' for role, folder in checkpoints._asdict().items())
    execution = '[execution]\ndevice = "cpu"\nbatch_size = 1\n'
    settings = "[synthesize]\niterations = 1\nsteps = 1\nstrength = 1.0\n[mine-labels]\nshare = 0.5\ngroups = 2\n"
    (root / "ws/synood.toml").write_text(f"[models]\n{models}\n{execution}{settings}")
    for command in (
        ["select", root / "photos"],
        ["caption", "--captions", root / "captions.jsonl"],
        ["synthesize"],
        ["mine-labels", "--candidates", root / "candidates.txt"],
        ["train-proj"],
    ):
        assert run_synood(*command, "-w", root / "ws").err.count("error") == 0
    return root


@pytest.fixture
def study(tmp_path: Path, finished: Path) -> Path:
    """A copy of it that may be spoilt."""
    shutil.copytree(finished, tmp_path / "study")
    return tmp_path / "study"


def synood(study: Path, *arguments: str | Path) -> Ended:
    return run_synood(arguments[0], "-w", study / "ws", *arguments[1:])


def artifacts(study: Path) -> dict[str, str]:
    return {entry["artifact"]: entry["status"] for entry in synood(study, "log", "--json").json}


def with_table_dropped(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("drop table scores")
        connection.commit()


def with_a_later_migration(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        values = "(migration_set, name, applied_at) values ('synood', '999_later', '2999')"
        connection.execute(f"insert into _sqlite_migrations {values}")
        connection.commit()


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message", "hint"),
    [
        (lambda path: path.write_text("no database\n" * 999), "file is not a database", "restore the file"),
        (cut_in_half, "database disk image is malformed", "restore the file"),
        (into_a_folder, "synood.db is no regular file", "restore the regular file"),
        (with_table_dropped, "is not as synood made it: table scores is missing", "restore the file"),
        (with_a_later_migration, "was written by a newer synood (it has 999_later", "upgrade: pip install"),
        (Path.unlink, "is missing or empty, and", "restore the database from a copy"),
        (lambda path: path.write_bytes(b""), "is missing or empty, and", "restore the database from a copy"),
    ],
)
def test_a_spoilt_database_is_named_and_the_artifacts_stay(
    study: Path, spoil: Callable[[Path], object], message: str, hint: str
) -> None:
    before = {path: path.read_bytes() for path in (study / "ws/artifacts").rglob("*") if path.is_file()}
    spoil(study / "ws/synood.db")
    for command in (["score", study / "photos"], ["verify"], ["gc"]):
        ended = synood(study, *command)
        assert (ended.code, ended.out) == (1, b"")
        assert message in ended.err
        assert f"hint: {hint}" in ended.err
    assert {path: path.read_bytes() for path in before} == before


def test_a_surprise_that_a_damaged_row_leads_to_is_told_as_damage(study: Path) -> None:
    with closing(sqlite3.connect(study / "ws/synood.db")) as connection:
        connection.execute("update artifacts set settings = '{}' where kind = 'head'")
        connection.execute("update prompts set elements = 'grass'")
        connection.commit()
    for command in (["synthesize", "--force"], ["report", "synthetic@1"], ["train-proj", "--force"]):
        ended = synood(study, *command)
        assert "Traceback" not in ended.err
        assert ended.code in (0, 1)
    with closing(sqlite3.connect(study / "ws/synood.db")) as connection:
        connection.execute("update artifacts set notes = '{\"boundary\": \"high\"}' where kind = 'synthetic'")
        connection.execute("update artifacts set status = 'unfinished' where kind = 'synthetic'")
        connection.commit()
    ended = synood(study, "synthesize")
    assert ended.code == 1
    assert "synood.db is damaged: captions@1: its rows in the database have changed" in ended.err
    assert "`synood verify` lists all that is damaged" in ended.err


@pytest.mark.parametrize("spoil", [Path.unlink, cut_in_half, into_a_folder])
@pytest.mark.parametrize("file", ["head.safetensors", "head.json"])
def test_a_damaged_head_is_named_and_made_again(study: Path, file: str, spoil: Callable[[Path], None]) -> None:
    spoil(study / "ws/artifacts/head@2" / file)
    ended = synood(study, "score", study / "photos")
    assert ended.code == 1
    assert "artifacts/head@2" in ended.err
    assert file in ended.err
    assert "Traceback" not in ended.err
    assert synood(study, "verify").code == 1
    assert synood(study, "score", study / "photos", "--head", "head@1").code == 0
    again = synood(study, "train-proj", "--from", "head@1")
    assert "head@3: 9 done, made in" in again.text
    assert synood(study, "score", study / "photos").code == 0


def test_lost_features_are_made_again(study: Path) -> None:
    shutil.rmtree(study / "ws/artifacts/features@3")
    ended = synood(study, "train-proj", "--from", "head@1", "--seed", "1")
    assert ended.code == 0
    assert "embed selection@1: 9/9" in ended.err


def test_features_of_another_content_are_named_with_the_way_out(study: Path) -> None:
    shard = study / "ws/artifacts/features@3/shard-00000.safetensors"
    shard.write_bytes(b"\xff" * shard.stat().st_size)
    command = ["train-proj", "--from", "head@1", "--seed", "1"]
    ended = synood(study, *command)
    assert ended.code == 1
    assert f"cannot read the features in {shard.parent}" in ended.err
    assert "remove that folder, then run the same command again" in ended.err
    shutil.rmtree(shard.parent)
    assert synood(study, *command).code == 0


@contextlib.contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """What a full disk does to SQLite and to every other writer, for this process alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_the_stage_and_the_same_command_goes_on(study: Path) -> None:
    command = ["synthesize", "--seed", "3"]
    with no_file_grows_beyond(220_000):
        ended = synood(study, *command)
    assert ended.code == 1
    assert f"{study}/ws/synood.db: disk I/O error (is the disk full?)" in ended.err
    assert "what was finished is kept: make room, then run the same command again" in ended.err
    [left] = [entry for entry in synood(study, "log", "--json").json if entry["status"] == "unfinished"]
    assert 0 < left["done"] < 9
    again = synood(study, *command)
    assert f"{left['artifact']}: 9 done" in again.text
    assert synood(study, "verify").code == 0


def test_where_scores_cannot_be_written(study: Path) -> None:
    photos = study / "photos"
    for place, code, reason in [
        (study, 1, "it is a folder"),
        (study / "captions.jsonl/scores.csv", 2, "a part of the path is a file, not a folder"),
        (study / ("n" * 300), 2, "file name too long"),
    ]:
        ended = synood(study, "score", photos, "-o", place)
        assert ended.code == code
        assert f": {reason}" in ended.err
        assert "hint: " in ended.err
    assert (study / "captions.jsonl").read_text().startswith("{")


def test_scores_go_through_links_and_into_pipes(study: Path) -> None:
    (study / "link.csv").symlink_to("target.csv")
    assert synood(study, "score", study / "photos", "-o", study / "link.csv").code == 0
    assert (study / "link.csv").is_symlink()
    assert (study / "target.csv").read_text().startswith("path,score,")
    os.mkfifo(study / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((study / "pipe").read_bytes()), daemon=True)
    reader.start()
    assert synood(study, "score", study / "photos", "-o", study / "pipe").code == 0
    reader.join(timeout=30)
    assert read == [(study / "target.csv").read_bytes()]
    assert (study / "pipe").is_fifo()


def test_a_workspace_in_use_says_by_whom_and_can_be_looked_at(study: Path) -> None:
    with Workspace(study / "ws").lock():
        for command in (["select", study / "photos", "--per-class", "2"], ["gc"]):
            ended = synood(study, *command)
            assert ended.code == 1
            assert f"the workspace {study}/ws is in use by process {os.getpid()}" in ended.err
            assert "hint: wait until it ends" in ended.err
        for command in (
            ["log"],
            ["show", "head"],
            ["verify"],
            ["gc", "--dry-run"],
            ["select", study / "photos", "--dry-run"],
        ):
            assert synood(study, *command).code == 0
        assert run_synood("init", study / "ws").code == 0
    assert synood(study, "select", study / "photos", "--per-class", "2").code == 0


@pytest.mark.parametrize("name", ["with space", "new\nline", "shark 🦈 '\"", os.fsdecode(b"\xff\xfe"), "n" * 200])
def test_workspaces_with_odd_names(finished: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(finished / "ws", tmp_path / name)
    assert run_synood("init", tmp_path / name).code == 0
    ended = run_synood("score", finished / "photos", "-w", tmp_path / name, "--json")
    assert (ended.code, ended.json["done"]) == (0, 9)
    assert run_synood("show", "scores", "-w", tmp_path / name, "--json").json["folder"] == str(
        tmp_path / name / "artifacts/scores@1"
    )
    lost = run_synood("log", "-w", tmp_path / f"{name}2")
    assert lost.code == 2
    assert "hint: synood init '" in lost.err or name == "n" * 200


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_done_without(study: Path, closed: str) -> None:
    code = "import sys; from synood_cli.cli.app import main; sys.exit(main())"
    command = shlex.join([sys.executable, "-c", code, "log", "-w", str(study / "ws")])
    ended = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ("selection@1" in ended.stdout) == (closed == "2>&-")


def test_a_command_that_cannot_begin_leaves_no_trace(study: Path) -> None:
    before = artifacts(study)
    ended = synood(study, "synthesize", "--seed", "9", "--inpainter", study / "photos")
    assert ended.code == 1
    assert f"cannot load the inpainting pipeline: {study}/photos is no folder in diffusers's format" in ended.err
    assert artifacts(study) == before
