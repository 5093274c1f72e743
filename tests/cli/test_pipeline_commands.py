"""The commands of the pipeline, one after another, on tiny models."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_line import Ended, run_synood

from pipeline import photograph
from synood_cli.cli.eval import ood_sets
from synood_cli.cli.eval_tables import percent
from synood_cli.cli.json_fields import JSON_FIELDS
from synood_cli.config import STAGES
from synood_cli.errors import UsageError
from synood_cli.stages.score_rows import COLUMNS

if TYPE_CHECKING:
    from checkpoints import Checkpoints


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> Path:
    """A workspace with tiny models, photographs of three classes, an OOD set, captions and candidates beside it."""
    root = tmp_path_factory.mktemp("study")
    for class_name in ("cat", "dog", "frog"):
        for number in range(3):
            photograph(root / "photos" / class_name / f"{number}.jpg", number, detail=number + 1)
    for number in range(4):
        photograph(root / "textures" / f"{number}.png", 100 + number, detail=1)
    captions = [
        {"image": f"{name}/{n}.jpg", "elements": ["grass", "sky"]} for name in ("cat", "dog", "frog") for n in range(3)
    ]
    (root / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in captions))
    (root / "candidates.txt").write_text(
        "\n".join([*(f"thing {n}" for n in range(20)), *(f"adj,odd {n}" for n in range(10))])
    )
    run_synood("init", root / "ws")
    (root / "ws/synood.toml").write_text(
        f"""
[models]
clip = "{checkpoints.clip}"
inpainter = "{checkpoints.inpainter}"
classifier = "{checkpoints.classifier}"
[execution]
device = "cpu"
batch_size = 4
[select]
per_class = 2
[synthesize]
iterations = 2
steps = 4
[mine-labels]
share = 0.5
groups = 2
"""
    )
    return root


def synood(study: Path, *arguments: str | Path) -> Ended:
    return run_synood(*arguments, "-w", study / "ws")


@pytest.fixture(scope="module")
def made(study: Path) -> dict[str, Ended]:
    """What each command of the pipeline answered, with --json."""
    commands: dict[str, list[str | Path]] = {
        "select": [study / "photos"],
        "caption": ["--captions", study / "captions.jsonl"],
        "synthesize": [],
        "mine-labels": ["--candidates", study / "candidates.txt"],
        "train-proj": ["--epochs", "1", "--from", "head@1"],
        "train-labels": ["--epochs", "1", "--from", "head", "--synthetic", "synthetic@1"],
        "eval": [
            "--ind",
            study / "photos",
            "--ood",
            f"textures={study / 'textures'}",
            "--head",
            "head@1",
            "--head",
            "head",
        ],
        "score": [study / "textures", "--head", "head@1"],
        "calibrate": ["head@3", study / "photos", "--tpr", "0.6"],
    }
    assert commands.keys() == STAGES.keys()
    return {name: synood(study, name, *arguments, "--json") for name, arguments in commands.items()}


def test_every_command_makes_its_artifact(made: dict[str, Ended]) -> None:
    assert {name: (ended.code, ended.err if ended.code else "") for name, ended in made.items()} == dict.fromkeys(
        made, (0, "")
    )
    names = {name: ended.json["artifact"] for name, ended in made.items()}
    assert names == {
        "select": "selection@1", "caption": "captions@1", "synthesize": "synthetic@1", "mine-labels": "head@1",
        "train-proj": "head@2", "train-labels": "head@3", "eval": "eval@1", "score": "scores@1", "calibrate": "head@4",
    }  # fmt: skip
    for name, ended in made.items():
        assert ended.json.keys() == JSON_FIELDS[name].keys()
        assert (ended.json["stage"], ended.json["reused"], ended.json["failed"]) == (name, False, 0)


def test_asked_again_every_command_answers_from_the_store(study: Path, made: dict[str, Ended]) -> None:
    again = synood(study, "synthesize", "--json")
    assert (again.json["artifact"], again.json["reused"]) == ("synthetic@1", True)
    plan = synood(study, "synthesize", "--dry-run", "--json", "--seed", "5").json
    assert (plan["action"], plan["artifact"], plan["items"], plan["done"]) == ("make", "synthetic", 6, 0)
    assert plan["inputs"]["captions"] == "captions@1"
    assert plan["settings"]["iterations"] == 2


def test_the_rows_of_eval_are_those_of_the_store(study: Path, made: dict[str, Ended]) -> None:
    rows = made["eval"].json["rows"]
    assert {row["dataset"] for row in rows} == {"textures", "average"}
    assert {row["head"] for row in rows} >= {"head@1", "head@3"}
    connection = sqlite3.connect(study / "ws/synood.db")
    stored = connection.execute("select method, head, dataset, auroc, fpr95 from metrics").fetchall()
    connection.close()
    assert {tuple(row[key] for key in ("method", "head", "dataset", "auroc", "fpr95")) for row in rows} == set(stored)

    said = synood(
        study,
        "eval",
        "--ind",
        study / "photos",
        "--ood",
        f"textures={study / 'textures'}",
        "--head",
        "head@1",
        "--head",
        "head@3",
    )
    assert said.code == 0
    metrics, differences, resources = said.text.split("\n\n")
    title, header, *lines = metrics.splitlines()
    assert title == "In percent. FPR at 95% TPR: InD is positive (MCM, NegLabel, CSP, SynOOD)."
    assert header.split()[:5] == ["method", "head", "dataset", "AUROC", "FPR95"]
    assert len(lines) == len(rows)
    assert percent(rows[0]["auroc"], rows[0]["auroc_low"], rows[0]["auroc_high"]) in lines[0]
    assert "eval@1: " in said.err
    title, header, *lines = differences.splitlines()
    assert title == "Differences from NegLabel head@1, in points; intervals over the same images."
    assert len(lines) == len(made["eval"].json["differences"]) == 4
    title, header, *lines = resources.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["head@1", "NegLabel", "0"],
        ["head@3", "SynOOD", str(32 * 32 + 3 * 32)],
    ]


def test_the_printed_threshold_decides_as_the_head_does(study: Path, made: dict[str, Ended]) -> None:
    said = synood(study, "calibrate", "head@3", study / "photos", "--tpr", "0.6").text
    printed = dict(line.split(maxsplit=1) for line in said.splitlines())["threshold"]
    assert float(printed) == made["calibrate"].json["threshold"]

    def decisions(*options: str) -> list[str]:
        rows = synood(study, "score", study / "photos", *options, "--json").json["rows"]
        return [row["decision"] for row in rows]

    by_the_head = decisions("--head", "head@4")
    assert by_the_head.count("ind") == 6  # more than five of nine
    assert decisions("--head", "head@3", "--threshold", printed) == by_the_head
    assert decisions("--head", "head@4", "--tpr", "0.6") == by_the_head


def test_why_a_label_is_kept_or_dropped(study: Path, made: dict[str, Ended]) -> None:
    assert made["mine-labels"].json["explained"] == []
    asked = ["--candidates", study / "candidates.txt", "--explain", "thing 3", "--explain", "zeppelin"]
    ended = synood(study, "mine-labels", *asked, "--json")
    assert (ended.code, ended.json["artifact"], ended.json["reused"]) == (0, "head@1", True)
    assert [row["label"] for row in ended.json["explained"]] == ["thing 3", "zeppelin"]
    header, thing, zeppelin = synood(study, "mine-labels", *asked).text.splitlines()
    assert header.split()[:5] == ["label", "kept", "similarity", "cut", "rank"]
    rule = "the 10 nouns that are least similar to the classes (0.5 of all)"
    assert thing.split()[:2] == ["thing", "3"]
    assert thing.endswith(rule)
    assert zeppelin.endswith("it is no candidate")


def test_a_suite_on_the_command_line(study: Path, made: dict[str, Ended]) -> None:
    suite = study / "mine.toml"
    suite.write_text('[ind]\nplace = "photos"\n[ood.fabric]\nplace = "textures"\ngroup = "far"\nimages = 5\n')
    ended = synood(study, "eval", "--suite", suite, "--head", "head@1", "--json")
    assert (ended.code, ended.out) == (2, b"")
    assert "fabric has 4 images that can be used, not 5" in ended.err
    assert "--allow-mismatch" in ended.err
    more = f"more={study / 'textures'}"
    ended = synood(study, "eval", "--suite", suite, "--allow-mismatch", "--ood", more, "--head", "head@1", "--json")
    assert ended.code == 0
    assert "warning: fabric has 4 images that can be used, not 5" in ended.err
    assert [row["dataset"] for row in ended.json["rows"]] == ["fabric", "more", "average", "average far"] * 2
    without = synood(study, "eval", "--ood", more, "--head", "head@1")
    assert without.code == 2
    assert "hint: --ind IMAGES, or --suite NAME" in without.err


def test_the_other_convention_of_fpr_is_named_in_the_title(study: Path, made: dict[str, Ended]) -> None:
    said = synood(
        study,
        "eval",
        "--ind",
        study / "photos",
        "--ood",
        f"t={study / 'textures'}",
        "--positive",
        "ood",
        "--bootstrap",
        "0",
    )
    assert said.code == 0
    assert said.text.splitlines()[0] == "In percent. FPR at 95% TPR: OOD is positive (OpenOOD v1.5, AdaNeg)."
    assert "[" not in said.text.split("\n", 2)[2]


def test_scores_as_table_csv_and_json_lines(study: Path, made: dict[str, Ended]) -> None:
    rows = made["score"].json["rows"]
    assert [row["path"] for row in rows] == [f"{number}.png" for number in range(4)]
    assert all(0 <= row["score"] <= 1 and row["decision"] in ("ind", "ood") for row in rows)

    table = synood(study, "score", study / "textures", "--head", "head@1").text.splitlines()
    assert table[0].split() == list(COLUMNS)
    assert len(table) == 5
    text = synood(study, "score", study / "textures", "--head", "head@1", "--format", "csv").text
    read = list(csv.DictReader(io.StringIO(text)))
    assert [(row["path"], float(row["score"])) for row in read] == [(row["path"], row["score"]) for row in rows]

    lines = synood(study, "score", study / "textures", "--head", "head@1", "--format", "jsonl").text.splitlines()
    assert [json.loads(line) for line in lines] == rows


def test_an_unreadable_image_is_a_row_with_its_error(study: Path, made: dict[str, Ended]) -> None:
    odd = study / "odd"
    photograph(odd / os.fsdecode(b"caf\xe9.png"), 7)
    (odd / os.fsdecode(b"bad\xff.png")).write_bytes(b"")
    ended = synood(study, "score", odd, "--head", "head@1", "--format", "csv")
    assert ended.code == 3
    _header, good, bad, *rest = ended.out.split(b"\n")
    name, score, decision, *_ = good.split(b",")
    assert name == b"caf\xe9.png"
    assert 0 <= float(score) <= 1
    assert decision in (b"ind", b"ood")
    assert bad.startswith(b"bad\xff.png,,,,,,")
    assert len(bad) > len(b"bad\xff.png,,,,,,")
    assert rest == [b""]
    assert r"bad\xff.png: " in ended.err


def test_a_head_that_is_none(study: Path, made: dict[str, Ended]) -> None:
    ended = synood(study, "score", study / "textures", "--head", "selection@1")
    assert ended.code == 2
    assert "selection@1 is a selection; this command reads a head" in ended.err


def test_lineage_of_the_last_head(study: Path, made: dict[str, Ended]) -> None:
    tree = synood(study, "log", "head@3").text
    assert "\n  head: head@2 (train-proj, complete)\n    head: head@1 (mine-labels, complete)\n" in tree
    assert "  synthetic: synthetic@1 (synthesize, complete)\n" in tree
    assert synood(study, "verify").code == 0


def test_ood_sets() -> None:
    assert ood_sets(["a=x/y", "b=c=d"]) == {"a": Path("x/y"), "b": Path("c=d")}
    for wrong in (["a"], ["=x"], ["a="], ["a=x", "a=y"], ["average=x"]):
        with pytest.raises(UsageError, match="--ood"):
            ood_sets(wrong)


def test_percent() -> None:
    assert percent(0.97014, 0.968, 0.9721) == "97.01 [96.80, 97.21]"
    assert percent(1.0) == "100.00"
