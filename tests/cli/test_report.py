"""`synood report`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run_synood

from pipeline import photograph
from report_study import make_captions, make_eval, make_heads, make_selection, make_synthetic, random_scores
from synood_cli.cli.json_fields import JSON_FIELDS
from synood_cli.store.store import Store
from synood_cli.store.workspace import Workspace


@pytest.fixture
def studied(workspace: Path, tmp_path: Path) -> Path:
    """A workspace with everything up to eval@1."""
    root = tmp_path / "pictures"
    photos = {name: [photograph(root / name / "0.jpg", 3)] for name in ("cat", "dog")}
    with Store.open(Workspace(workspace), write=True) as store:
        selection, images = make_selection(store, root, photos)
        captions = make_captions(store, selection, images, "sky")
        synthetic = make_synthetic(store, captions, dict.fromkeys(images, (4.0, 1.0)), "sky")
        heads = make_heads(store, selection, synthetic, dict.fromkeys(images, "anvil"), [2.0, 1.0])
        make_eval(store, heads, random_scores(["far"], 8), {"ind": "/data/ind", "far": "/data/far"})
    return workspace


def test_the_page_goes_into_reports_and_its_path_to_stdout(studied: Path) -> None:
    ended = run_synood("report", "-w", studied)
    page = studied / "reports/eval@1.html"
    assert (ended.code, ended.text, ended.err) == (0, f"{page}\n", "")
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_document(studied: Path) -> None:
    ended = run_synood("report", "-w", studied, "--json")
    assert ended.json == {
        "page": str(studied / "reports/eval@1.html"),
        "artifact": "eval@1",
        "parts": ["detection", "synthesis", "labels", "losses", "failures", "lineage"],
    }
    assert ended.json.keys() == JSON_FIELDS["report"].keys()
    assert JSON_FIELDS["report"]["parts"].endswith(", ".join(ended.json["parts"]))


def test_about_another_artifact_into_another_file(studied: Path, tmp_path: Path) -> None:
    ended = run_synood("report", "synthetic@1", "-w", studied, "-o", "neighbours.html")
    assert (ended.code, ended.text) == (0, f"{tmp_path}/neighbours.html\n")
    assert "<h1>synthetic@1</h1>" in (tmp_path / "neighbours.html").read_text(encoding="utf-8")
    assert list((studied / "reports").iterdir()) == []


def test_the_page_goes_to_an_open_file(studied: Path, tmp_path: Path) -> None:
    with (tmp_path / "page").open("wb") as file:
        ended = run_synood("report", "-w", studied, "-o", f"/dev/fd/{file.fileno()}")
    assert (ended.code, ended.out) == (0, b"")
    assert (tmp_path / "page").read_bytes().endswith(b"</html>")
    assert run_synood("report", "-w", studied, "-o", "/dev/stdout", "--json").code == 2


def test_it_changes_nothing_else(studied: Path) -> None:
    assert run_synood("report", "-w", studied).code == 0
    assert run_synood("verify", "-w", studied).code == 0
    with Workspace(studied).lock():  # while another process writes
        assert run_synood("report", "-w", studied).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["eval@7"], 2, "there is no eval@7"),
        (["scores"], 2, "no complete scores yet"),
        (["nonsense"], 2, "names no artifact"),
        (["-o", "."], 1, "it is a folder"),
    ],
)
def test_what_cannot_be_done(studied: Path, arguments: list[str], code: int, said: str) -> None:
    ended = run_synood("report", "-w", studied, *arguments)
    assert (ended.code, ended.out) == (code, b"")
    assert said in ended.err


def test_an_empty_workspace(workspace: Path) -> None:
    ended = run_synood("report", "-w", workspace)
    assert ended.code == 2
    assert "run `synood select` first" in ended.err


def test_a_report_imports_no_torch(studied: Path) -> None:
    script = (
        "import sys; from synood_cli.cli.app import main; code = main(sys.argv[1:]); "
        "print(code, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, "report", "-w", str(studied)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "0 False"
