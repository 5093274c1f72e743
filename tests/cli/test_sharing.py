"""A head goes from one workspace through a hub into another, and scores as before."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_line import Ended, run_synood

from hub_server import Hub
from pipeline import photograph
from synood_cli import Detector
from synood_cli.cli.json_fields import JSON_FIELDS
from synood_cli.errors import ModelError

if TYPE_CHECKING:
    from checkpoints import Checkpoints


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> Path:
    """A workspace `ws` with a NegLabel head and its evaluation; beside it photographs, an OOD set, and the CLIP."""
    root = tmp_path_factory.mktemp("sharing")
    shutil.copytree(checkpoints.clip, root / "clip")
    for class_name in ("cat", "dog"):
        for number in range(4):
            photograph(root / "photos" / class_name / f"{number}.jpg", number, detail=number + 1)
    for number in range(6):
        photograph(root / "textures" / f"{number}.png", 100 + number, detail=1 + number)
    (root / "candidates.txt").write_text("\n".join(f"thing {n}" for n in range(40)))
    run_synood("init", root / "ws")
    for command in (
        ["select", root / "photos", "--per-class", "4"],
        ["mine-labels", "--clip", root / "clip", "--candidates", root / "candidates.txt", "--share", "0.5"],
        ["eval", "--ind", root / "photos", "--ood", f"textures={root / 'textures'}", "--bootstrap", "20"],
    ):
        ended = run_synood(*command, *([] if command[0] == "select" else ["--device", "cpu"]), "-w", root / "ws")
        assert (ended.code, ended.err if ended.code else "") == (0, "")
    return root


@pytest.fixture
def other(study: Path, tmp_path: Path) -> Path:
    run_synood("init", tmp_path / "other")
    return tmp_path / "other"


def scores(workspace: Path, folder: Path, *arguments: str | Path) -> dict[str, tuple[float, str, str]]:
    ended = run_synood("score", folder, *arguments, "--device", "cpu", "--format", "csv", "-w", workspace)
    assert ended.code == 0, ended.err
    rows = csv.DictReader(io.StringIO(ended.text))
    return {
        row["path"].removeprefix(f"{folder}/"): (float(row["score"]), row["decision"], row["predicted_class"])
        for row in rows
    }


def push(study: Path, *arguments: str | Path) -> Ended:
    return run_synood("push", "head@1", *arguments, "-w", study / "ws")


KILLED_ONCE_COMPLETE = """
import os, signal, sys
from synood_cli.cli.app import main

def watch(frame, event, result):
    if event == "return" and frame.f_code.co_qualname == "Draft.complete":
        os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(watch)
main(sys.argv[1:])
"""


def test_a_pull_that_is_killed_once_its_head_is_complete_has_said_all_of_it(
    study: Path, other: Path, tmp_path: Path
) -> None:
    assert push(study, tmp_path / "head").code == 0
    command = ["pull", str(tmp_path / "head"), "-w", str(other)]
    killed = subprocess.run([sys.executable, "-c", KILLED_ONCE_COMPLETE, *command], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    again = run_synood(*command)
    assert (again.code, "reused" in again.text) == (0, True)
    assert run_synood("verify", "-w", other).code == 0


def test_a_dry_run_lists_the_files_and_asks_the_hub_nothing(hub: Hub, study: Path) -> None:
    ended = push(study, "user/animals", "--dry-run", "--json")
    assert ended.json.keys() == JSON_FIELDS["push"].keys()
    assert (ended.json["address"], ended.json["pushed"]) == ("user/animals", False)
    assert set(ended.json["files"]) == {"README.md", "head.json", "head.safetensors"}
    assert hub.requests == []
    lines = push(study, "user/animals", "--dry-run").text.splitlines()
    assert lines[0].split() == ["file", "bytes"]
    assert str(ended.json["files"]["head.json"]) in lines[1]


def test_from_workspace_to_workspace_scores_stay_the_same(hub: Hub, study: Path, other: Path) -> None:
    pushed = push(study, "user/animals", "--license", "mit", "--json").json
    commit = hub.repositories["user/animals"].branches["main"]
    assert pushed["address"] == f"user/animals@{commit}"
    card = hub.repositories["user/animals"].commits[commit]["README.md"].decode()
    assert "| textures | " in card
    assert "license: mit" in card
    assert str(study) not in card

    ended = run_synood("pull", "user/animals", "--clip", study / "clip", "--json", "-w", other)
    assert (ended.code, ended.json["artifact"], ended.json["reused"]) == (0, "head@1", False)
    assert ended.json.keys() == JSON_FIELDS["pull"].keys()
    for folder in (study / "textures", study / "photos"):
        before, after = (
            scores(study / "ws", folder, "--head", "head@1"),
            scores(other, folder, "--head", "user/animals"),
        )
        assert before.keys() == after.keys()
        for name, (value, _, label) in before.items():
            assert after[name][0] == pytest.approx(value, abs=1e-3)
            assert after[name][2] == label
    assert f"head@1 (pull from user/animals@{commit}, complete)" in run_synood("log", "head@1", "-w", other).text
    assert run_synood("verify", "-w", other).code == 0


def test_eval_takes_an_address_too(hub: Hub, study: Path, other: Path) -> None:
    push(study, study / "shared")
    run_synood("pull", f"{study / 'shared'}", "--clip", study / "clip", "-w", other)
    question = [
        "eval",
        "--ind",
        study / "photos",
        "--ood",
        f"textures={study / 'textures'}",
        "--device",
        "cpu",
        "--json",
    ]
    ended = run_synood(*question, "--bootstrap", "0", "--head", f"{study / 'shared'}", "-w", other)
    assert ended.code == 0, ended.err
    there = {row["method"]: row["auroc"] for row in ended.json["rows"] if row["dataset"] == "average"}
    here = run_synood(*question, "--bootstrap", "0", "--head", "head@1", "-w", study / "ws").json["rows"]
    assert there == pytest.approx(
        {row["method"]: row["auroc"] for row in here if row["dataset"] == "average"}, abs=0.05
    )


def test_a_head_of_the_hub_is_used_without_a_workspace(
    hub: Hub, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(study, "user/animals")
    before = scores(study / "ws", study / "photos", "--head", "head@1")
    monkeypatch.chdir(tmp_path)
    command = ["score", study / "photos", "--head", "hf://user/animals@main", "--device", "cpu", "--format", "jsonl"]
    assert run_synood(*command).code == 1
    ended = run_synood(*command, "--clip", study / "clip")
    rows = {row["path"]: row["score"] for row in map(json.loads, ended.text.splitlines())}
    wanted = {str(study / "photos" / name): value for name, (value, _, _) in before.items()}
    assert rows == pytest.approx(wanted, abs=1e-3)
    detector = Detector.from_pretrained("user/animals", clip=study / "clip", device="cpu")
    found = detector.score([study / "photos" / name for name in before])
    assert found == pytest.approx([value for value, _, _ in before.values()], abs=1e-3)
    assert list(tmp_path.iterdir()) == [tmp_path / "hub assets"]


def test_the_detector_and_a_stream_know_the_workspaces_clips(hub: Hub, study: Path, other: Path) -> None:
    push(study, "user/animals")
    with pytest.raises(ModelError, match="which is not here"):
        Detector.from_pretrained("user/animals", workspace=other, device="cpu")
    run_synood("pull", "user/animals", "--clip", study / "clip", "-w", other)
    detector = Detector.from_pretrained("user/animals", workspace=other, device="cpu")
    assert detector.info.publication is not None
    assert len(run_synood("log", "--json", "-w", other).json) == 1


def test_a_published_folder_is_verified_and_an_unpublished_one_is_taken_too(
    study: Path, other: Path, tmp_path: Path
) -> None:
    push(study, tmp_path / "shared")
    tensors = tmp_path / "shared" / "head.safetensors"
    arguments = [study / "textures", "--device", "cpu", "--clip", study / "clip"]
    assert run_synood("score", *arguments, "--head", f"{tensors}").code == 0
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    ended = run_synood("score", *arguments, "--head", f"{tmp_path / 'shared'}")
    assert (ended.code, ended.out) == (1, b"")
    assert "is not the file that head.json was written for" in ended.err
    [own] = (study / "ws").rglob("head@1")
    assert run_synood("score", *arguments, "--head", own).code == 0
    ended = run_synood("pull", own, "-w", other)
    assert ended.code == 1
    assert "lacks the part `publication`" in ended.err


def test_a_head_of_another_clip_is_refused(hub: Hub, study: Path, other: Path, tmp_path: Path) -> None:
    push(study, "user/animals")
    ended = run_synood("score", study / "textures", "--head", "user/animals", "--device", "cpu", "-w", other)
    assert ended.code == 1
    assert "the head belongs to a CLIP in a local folder with the digest" in ended.err
    assert "synood pull HEAD --clip PATH" in ended.err
    shutil.copytree(study / "clip", tmp_path / "changed")
    config = tmp_path / "changed" / "open_clip_config.json"
    config.write_text(config.read_text().replace('"quick_gelu": true', '"quick_gelu": false'))
    ended = run_synood("pull", "user/animals", "--clip", tmp_path / "changed", "-w", other)
    assert (ended.code, ended.out) == (1, b"")
    assert "changed is not the CLIP that this head was made with" in ended.err


def test_a_clip_that_changes_after_the_pull_is_refused(hub: Hub, study: Path, other: Path, tmp_path: Path) -> None:
    push(study, "user/animals")
    shutil.copytree(study / "clip", tmp_path / "mine")
    assert run_synood("pull", "user/animals", "--clip", tmp_path / "mine", "-w", other).code == 0
    config = tmp_path / "mine" / "open_clip_config.json"
    config.write_text(config.read_text() + "\n")
    ended = run_synood("score", study / "textures", "--device", "cpu", "-w", other)
    assert ended.code == 1
    assert "which is not here" in ended.err


def test_a_head_that_lies_about_its_clip_is_refused(hub: Hub, study: Path, other: Path) -> None:
    push(study, "user/animals")
    files = hub.repositories["user/animals"].commits[hub.repositories["user/animals"].branches["main"]]
    hub.publish(
        "user/liar", {**files, "head.json": files["head.json"].replace(b'"quick_gelu": true', b'"quick_gelu": false')}
    )
    with pytest.raises(ModelError, match="user/liar was made with a CLIP whose quick_gelu is False"):
        Detector.from_pretrained("user/liar", clip=study / "clip", device="cpu")
    ended = run_synood("export", "onnx", "user/liar", other / "liar.onnx", "--clip", study / "clip")
    assert (ended.code, (other / "liar.onnx").exists()) == (1, False)
    assert "user/liar was made with a CLIP whose quick_gelu is False" in ended.err
    run_synood("pull", "user/liar", "--clip", study / "clip", "-w", other)
    ended = run_synood("score", study / "textures", "--device", "cpu", "-w", other)
    assert ended.code == 1
    assert "head@1 was made with a CLIP whose quick_gelu is False" in ended.err


def test_errors_of_the_hub_are_a_message_and_a_hint(hub: Hub, study: Path, other: Path) -> None:
    ended = run_synood("pull", "user/nothing", "-w", other)
    assert (ended.code, ended.out) == (1, b"")
    assert ended.err.startswith("error: the hub has no repository user/nothing that you may read\nhint: check the name")
    ended = run_synood("score", study / "textures", "--head", "user/nothing", "-w", other)
    assert (ended.code, ended.out) == (1, b"")
    assert "has no repository user/nothing" in ended.err
    images = ["--ind", study / "photos", "--ood", f"textures={study / 'textures'}"]
    ended = run_synood("eval", *images, "--head", "user/nothing", "--dry-run", "-w", other)
    assert ended.code == 1
    assert "has no repository user/nothing" in ended.err
    assert run_synood("pull", "nothing", "-w", other).code == 2


def test_endpoint_token_and_cache_come_from_the_environment(hub: Hub, study: Path, other: Path, tmp_path: Path) -> None:
    push(study, "user/animals", "--private")
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": hub.token}
    script = "import sys; from synood_cli.cli.app import main; sys.exit(main(sys.argv[1:]))"

    def pull(**changed: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, "pull", "user/animals", "--json", "-w", str(other)]
        return subprocess.run(command, env=environment | changed, capture_output=True, text=True, check=False)

    refused = pull(HF_TOKEN="hf_wrong")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "the hub refuses the token" in refused.stderr
    assert json.loads(pull().stdout)["artifact"] == "head@1"
    hub.status = 503
    offline = pull(HF_HUB_OFFLINE="1")
    assert json.loads(offline.stdout)["reused"] is True
