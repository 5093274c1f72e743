"""`synood demo`, shortened: trained models, the real method, and what it must show."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from command_line import Ended, run_synood

from synood_cli.store.store import Store
from synood_cli.store.workspace import Workspace

METHODS = ["MCM", "NegLabel", "+ projection", "+ labels", "SynOOD"]
SHORT = ("--train", "2", "--test", "3", "--limit", "40")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "study"


@pytest.fixture(scope="module")
def demo(folder: Path) -> Ended:
    return run_synood("demo", folder, *SHORT, "--json")


@pytest.fixture(scope="module")
def rows(demo: Ended) -> list[dict[str, Any]]:
    assert demo.code == 0, demo.err
    found: list[dict[str, Any]] = demo.json["rows"]
    return found


def test_every_method_stands_in_the_table(rows: list[dict[str, Any]]) -> None:
    assert list(dict.fromkeys(row["method"] for row in rows)) == METHODS
    sets = {"near", "context-only", "far", "textures", "average near", "average far", "average"}
    assert {(row["method"], row["dataset"]) for row in rows} == {(method, name) for method in METHODS for name in sets}
    assert all(row["auroc_low"] <= row["auroc"] <= row["auroc_high"] for row in rows)


def test_the_heads_beat_chance(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["dataset"] == "average":
            assert row["auroc"] > 0.6, row["method"]
            assert row["fpr95"] < 0.9, row["method"]
            assert row["ind_accuracy"] > 0.5, row["method"]


def test_the_images_move_to_the_boundary(folder: Path, rows: list[dict[str, Any]]) -> None:
    with Store.open(Workspace.find(folder), write=False) as store:
        made = store.newest("synthetic")
        boundary = made.notes["boundary"]
        steps = list(store.rows(made, "iterations"))
    last = max(step["iteration"] for step in steps)
    first_distance, last_distance = (
        fmean(abs(step["score"] - boundary) for step in steps if step["iteration"] == iteration)
        for iteration in (1, last)
    )
    assert made.items_done == 40
    assert last_distance < first_distance


def test_the_page_shows_it_all(folder: Path, rows: list[dict[str, Any]]) -> None:
    page = (folder / "reports" / "eval@1.html").read_text()
    assert page.count("data:image/") >= 2
    assert all(method in page for method in METHODS)
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_asked_again_it_answers_from_the_store(folder: Path, demo: Ended, rows: list[dict[str, Any]]) -> None:
    again = run_synood("demo", folder, *SHORT, "--json")
    assert again.code == 0, again.err
    assert again.json["reused"]
    assert again.json["rows"] == rows
    assert "made in" not in again.err


def test_a_workspace_of_other_work_is_left_alone(workspace: Path) -> None:
    before = (workspace / "synood.toml").read_bytes()
    ended = run_synood("demo", workspace)
    assert ended.code == 2
    assert "is a workspace already" in ended.err
    assert (workspace / "synood.toml").read_bytes() == before


def test_a_demo_that_ended_at_once_is_still_the_demos(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_bytes(b"")  # so that `init` fails
    for _ in range(2):
        ended = run_synood("demo", tmp_path)
        assert ended.code != 0
        assert "is a workspace already" not in ended.err
    assert Workspace(tmp_path).config().models({}).clip == "playground"
