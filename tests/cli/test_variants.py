"""Variants of the pipeline on the command line: images of negative labels, the control, the strategies, sweeps."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Ended, run_synood

from pipeline import photograph
from synood_cli.cli.json_fields import JSON_FIELDS

if TYPE_CHECKING:
    from checkpoints import Checkpoints


@pytest.fixture
def study(workspace: Path, photos: Path, checkpoints: Checkpoints, tmp_path: Path) -> Path:
    """A workspace with a selection of two classes, its captions, and a head."""
    from checkpoints import tiny_classifier

    classifier = tiny_classifier(tmp_path / "classifier", ["cat", "dog"])
    (workspace / "synood.toml").write_text(
        f"""
[models]
clip = "{checkpoints.clip}"
inpainter = "{checkpoints.inpainter}"
classifier = "{classifier}"
[execution]
device = "cpu"
[select]
per_class = 2
[synthesize]
steps = 2
[mine-labels]
share = 0.5
groups = 2
[train-proj]
learning_rate = 0.002
"""
    )
    lines = [{"image": f"{name}/{n}.jpg", "elements": ["grass"]} for name in ("cat", "dog") for n in range(3)]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "candidates.txt").write_text("\n".join(f"thing {n}" for n in range(20)))
    for command in (
        ["select", photos],
        ["caption", "--captions", tmp_path / "captions.jsonl"],
        ["mine-labels", "--candidates", tmp_path / "candidates.txt"],
    ):
        assert run_synood(*command, "-w", workspace).code == 0
    return workspace


def said(ended: Ended) -> Any:
    assert ended.code == 0, ended.err
    return ended.json


def inputs(study: Path, artifact: str) -> dict[str, str]:
    found: dict[str, str] = said(run_synood("show", artifact, "--json", "-w", study))["inputs"]
    return found


def test_images_of_negative_labels_take_the_newest_head(study: Path) -> None:
    made = said(run_synood("synthesize", "--source", "text2img", "--json", "-w", study))
    assert inputs(study, made["artifact"]) == {"captions": "captions@1", "head": "head@1", "selection": "selection@1"}
    named = said(run_synood("synthesize", "--source", "text2img", "--head", "head@1", "--json", "-w", study))
    assert named["reused"]
    plain = said(run_synood("synthesize", "--source", "plain", "--json", "-w", study))
    assert inputs(study, plain["artifact"]) == {"captions": "captions@1", "selection": "selection@1"}
    wrong = run_synood("synthesize", "--head", "head@1", "-w", study)
    assert wrong.code == 2
    assert "--source gradient reads no head" in wrong.err


def test_the_control_needs_no_synthetic_images(study: Path) -> None:
    control = ["train-proj", "--images", "ind", "--steps", "3", "--json", "-w", study]
    plan = said(run_synood(*control, "--dry-run"))
    assert (plan["items"], plan["inputs"]) == (4, {"head": "head@1", "selection": "selection@1"})
    made = said(run_synood(*control))
    shown = said(run_synood("show", made["artifact"], "--json", "-w", study))
    assert shown["notes"]["method"] == "+ projection (InD only)"
    assert shown["content"]["training_steps"]["count"] == 3


def test_the_joint_strategy_takes_the_projections_rates_from_its_own_table(study: Path) -> None:
    said(run_synood("synthesize", "--json", "-w", study))
    said(run_synood("train-proj", "--steps", "1", "--json", "-w", study))
    made = said(run_synood("train-labels", "--strategy", "joint", "--steps", "1", "--json", "-w", study))
    shown = said(run_synood("show", made["artifact"], "--json", "-w", study))
    assert shown["inputs"]["head"] == "head@1"  # the newest that it can start from
    assert shown["settings"]["projection"] == {
        "learning_rate": 0.002, "weight_decay": 1e-05, "final_learning_rate": None,
    }  # fmt: skip
    assert shown["notes"]["method"] == "SynOOD (joint)"
    with_projection = ["train-labels", "--strategy", "separate-with-projection", "--steps", "1", "--json", "-w", study]
    made = said(run_synood(*with_projection))
    assert inputs(study, made["artifact"])["head"] == "head@2"


SWEEP = """
title = "two trainings"
seeds = [0, 1]
[base]
eval.bootstrap = 0
synthesize.iterations = 1
train-proj.steps = 1
[[variants]]
name = "none"
train = []
[[variants]]
name = "projection"
train = ["train-proj"]
"""


@pytest.fixture
def sweep(study: Path, tmp_path: Path, photos: Path) -> list[str | Path]:
    """A sweep of two variants over two seeds, without its options of output."""
    for number in range(3):
        photograph(tmp_path / "ood" / f"{number}.png", 100 + number, detail=1)
    (tmp_path / "two.toml").write_text(SWEEP)
    data = ["--ind", photos, "--ood", f"odd={tmp_path / 'ood'}", "--candidates", tmp_path / "candidates.txt"]
    return ["sweep", tmp_path / "two.toml", *data, "-w", study]


def test_a_sweep_as_json_table_csv_and_markdown(study: Path, sweep: list[str | Path]) -> None:
    plan = said(run_synood(*sweep, "--dry-run", "--json"))
    assert plan.keys() == {"stage", "cells"}
    assert [(cell["variant"], cell["m"], cell["seed"]) for cell in plan["cells"]] == [
        ("none", None, 0), ("projection", None, 0), ("none", None, 1), ("projection", None, 1),
    ]  # fmt: skip
    # The head of seed 0 is there already.
    assert plan["cells"][0]["steps"][0] == {"stage": "mine-labels", "action": "reuse", "artifact": "head@1"}
    made = said(run_synood(*sweep, "--json"))
    assert made.keys() == JSON_FIELDS["sweep"].keys()
    assert (made["artifact"], made["done"], made["failed"]) == ("sweep@1", 4, 0)
    averages = [row for row in made["rows"] if row["dataset"] == "average"]
    [_, projection] = [row for row in made["summary"] if row["dataset"] == "average"]
    values = [row["auroc"] for row in averages if row["variant"] == "projection"]
    assert projection["seeds"] == len(values) == 2
    assert projection["auroc"] == pytest.approx(sum(values) / 2)
    assert projection["auroc_sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert projection["auroc_sd_n"] == pytest.approx(abs(values[0] - values[1]) / 2)

    table = run_synood(*sweep)
    assert (table.code, "sweep@1: 4 done, reused" in table.err) == (0, True)
    title, header, first, second = table.text.splitlines()
    assert title == (
        "In percent, mean ± standard deviation over seeds (n - 1). FPR95: InD is positive (MCM, NegLabel, CSP, SynOOD)."
    )
    assert header.split()[:4] == ["variant", "seeds", "odd", "AUROC"]
    assert first.startswith("none")
    assert f"{100 * projection['auroc']:.2f} ± {100 * projection['auroc_sd']:.2f}" in second
    lines = list(csv.DictReader(io.StringIO(run_synood(*sweep, "--format", "csv").text)))
    assert [(line["variant"], line["dataset"], float(line["auroc"])) for line in lines] == [
        (row["variant"], row["dataset"], row["auroc"]) for row in made["summary"]
    ]
    markdown = run_synood(*sweep, "--format", "markdown").text.splitlines()
    assert markdown[0].startswith("| variant | seeds | odd AUROC | odd FPR95 | average AUROC |")
    assert markdown[1] == "| --- | --- | --- | --- | --- | --- |"
    assert len(markdown) == 4


def test_a_sweep_with_seeds_and_numbers_of_the_command_line(study: Path, sweep: list[str | Path]) -> None:
    made = said(run_synood(*sweep, "--seed", "0", "--m", "1", "--m", "100%", "--json"))
    assert [(row["variant"], row["m"], row["seeds"]) for row in made["summary"] if row["dataset"] == "average"] == [
        ("none", 1, 1), ("none", 4, 1), ("projection", 1, 1), ("projection", 4, 1),
    ]  # fmt: skip
    table = run_synood(*sweep, "--seed", "0", "--m", "1", "--m", "100%").text
    assert table.splitlines()[1].split()[:3] == ["variant", "m", "seeds"]
    assert "±" not in table.split("\n", 2)[2]
    wrong = run_synood(*sweep, "--m", "9")
    assert (wrong.code, "9 is more than the 4 captioned images" in wrong.err) == (2, True)


def test_a_cell_that_fails_ends_with_code_3_and_a_wrong_file_with_2(sweep: list[str | Path]) -> None:
    file = Path(sweep[1])
    file.write_text(SWEEP + '[[variants]]\nname = "nowhere"\nmodels.clip = "./nowhere"\n')
    ended = run_synood(*sweep, "--json")
    assert (ended.code, ended.json["done"], ended.json["failed"]) == (3, 4, 2)
    assert "nowhere (seed 0): cannot load the CLIP encoder: ./nowhere does not exist" in ended.err
    file.write_text(SWEEP.replace("steps = 1", "stesp = 1"))
    ended = run_synood(*sweep)
    assert ended.code == 2
    assert "two.toml: base: [train-proj] stesp: unknown setting" in ended.err
    assert "did you mean 'steps'?" in ended.err


def test_the_sweeps_that_come_with_synood() -> None:
    listed = run_synood("sweep", "--list")
    assert listed.code == 0
    assert [line.split()[0] for line in listed.text.splitlines()] == [
        "sweep",
        "figure-3",
        "table-3",
        "table-4",
        "table-5",
    ]
