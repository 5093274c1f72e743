"""A run that is killed goes on where it stopped and gives what an undisturbed one gives."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from pipeline import photograph

IMAGES = 12


def synood(workspace: Path, *arguments: str) -> list[str]:
    code = "import sys; from synood_cli.cli.app import main; sys.exit(main())"
    return [sys.executable, "-c", code, arguments[0], "-w", str(workspace), *arguments[1:]]


@pytest.fixture
def workspaces(tmp_path: Path) -> tuple[Path, Path]:
    """Two workspaces, captioned alike."""
    photos, captions = tmp_path / "photos", tmp_path / "captions.jsonl"
    with captions.open("w") as lines:
        for index in range(IMAGES):
            class_name = ("cat", "dog", "frog")[index % 3]
            photograph(photos / class_name / f"{index}.jpg", index)
            line = {"image": f"{class_name}/{index}.jpg", "elements": ["grass", "sky", "water"][: 1 + index % 3]}
            lines.write(json.dumps(line) + "\n")
    disturbed, undisturbed = tmp_path / "disturbed", tmp_path / "undisturbed"
    subprocess.run([*synood(disturbed, "init")[:3], "init", str(disturbed)], check=True)
    subprocess.run(synood(disturbed, "select", str(photos)), check=True)
    subprocess.run(synood(disturbed, "caption", "--captions", str(captions)), check=True)
    shutil.copytree(disturbed, undisturbed)
    return disturbed, undisturbed


def finished(workspace: Path) -> int:
    with closing(sqlite3.connect(workspace / "synood.db", timeout=30)) as db:
        return int(db.execute("select count(*) from synthetic_images").fetchone()[0])


def row(workspace: Path) -> tuple[str, str | None, int]:
    with closing(sqlite3.connect(workspace / "synood.db")) as db:
        query = "select status, digest, items_done from artifacts where name = 'synthetic@1'"
        return tuple(db.execute(query).fetchone())  # type: ignore[return-value]


def images(workspace: Path) -> dict[str, bytes]:
    folder = workspace / "artifacts" / "synthetic@1"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jpg")}


def start_and_signal(command: list[str], workspace: Path, number: int, after: int) -> tuple[int, str]:
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while finished(workspace) < after and process.poll() is None:
            assert time.monotonic() < deadline, "the run makes no progress"
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_killed_and_interrupted_and_resumed(workspaces, checkpoints):
    disturbed, undisturbed = workspaces
    options = ["--inpainter", str(checkpoints.inpainter), "--classifier", str(checkpoints.classifier)]
    options += ["--batch-size", "4", "--device", "cpu"]
    command = synood(disturbed, "synthesize", *options)

    code, _ = start_and_signal(command, disturbed, signal.SIGKILL, after=3)
    assert code == -signal.SIGKILL
    killed_at = finished(disturbed)
    assert 3 <= killed_at < IMAGES
    assert row(disturbed)[0] == "unfinished"
    # Every image that is recorded is whole; one more may be there unrecorded.
    assert killed_at <= len(images(disturbed)) <= killed_at + 1

    code, said = start_and_signal(command, disturbed, signal.SIGINT, after=killed_at + 2)
    assert code == 130
    assert "interrupted; what is finished is kept" in said
    assert killed_at + 2 <= finished(disturbed) < IMAGES

    subprocess.run(command, check=True)
    subprocess.run(synood(undisturbed, "synthesize", *options), check=True)
    assert row(disturbed) == row(undisturbed)
    assert (row(disturbed)[0], row(disturbed)[2]) == ("complete", IMAGES)
    assert images(disturbed) == images(undisturbed)
    subprocess.run(synood(disturbed, "gc"), check=True)  # a kill may have left a temporary file
    check = subprocess.run(synood(disturbed, "verify"), capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr
    assert [path.name for path in (disturbed / "artifacts").iterdir()] == ["synthetic@1"]
