"""Sweeps on tiny models: what is shared, reused, gone on with; rows, failures and the summary."""

from __future__ import annotations

import math

import pytest

from pipeline import Silent, photograph
from synood_cli.config import CaptionSettings, Models
from synood_cli.errors import SynoodError
from synood_cli.settings_file import Config
from synood_cli.stages.caption import caption
from synood_cli.stages.sweep import Sources, plan, summary, sweep
from synood_cli.stages.sweep_file import SweepFile, cells
from synood_cli.store.maintenance import gc, verify

FILE = {
    "title": "a comparison",
    "base": {
        "synthesize": {"steps": 2, "iterations": 1},
        "mine-labels": {"share": 0.5, "groups": 4},
        "train-proj": {"steps": 2},
        "train-labels": {"steps": 2},
        "eval": {"bootstrap": 0},
    },
    "variants": [
        {"name": "NegLabel", "train": []},
        {"name": "control", "train": ["train-proj"], "train-proj": {"images": "ind"}},
        {"name": "both"},
        {"name": "faster labels", "train-labels": {"learning_rate": 0.5}},
    ],
}


@pytest.fixture
def sources(captions, photos, tmp_path, candidates):
    for number in range(4):
        photograph(tmp_path / "ood" / f"{number}.png", 100 + number, detail=1)
        photograph(tmp_path / "other" / f"{number}.png", 200 + number, detail=16)
    return Sources(captions, photos, {"ood": tmp_path / "ood", "other": tmp_path / "other"}, str(candidates))


@pytest.fixture
def expand(models, tmp_path):
    def expanded(**changes):
        file = SweepFile.model_validate({**FILE, **changes})
        return file, cells(file, tmp_path / "s.toml", Config({"models": models.model_dump()}, "synood.toml"), 9)

    return expanded


def counts(store):
    return {kind: len(store.artifacts(kind)) for kind in ("synthetic", "head", "eval", "sweep")}


def test_each_step_is_made_once_and_every_cell_has_its_rows(store, make_run, expand, sources):
    file, compared = expand()
    made = sweep(make_run(), file, compared, sources)
    # NegLabel, control, projection, and twice labels: five heads; the sets of images are synthesized once.
    assert counts(store) == {"synthetic": 1, "head": 5, "eval": 4, "sweep": 1}
    assert (made.name, made.items_done, made.items_failed) == ("sweep@1", 4, 0)
    rows = list(store.rows(made, "sweep_rows"))
    names, datasets = [variant["name"] for variant in FILE["variants"]], ("ood", "other", "average")
    assert [(row["variant"], row["dataset"]) for row in rows] == [(name, data) for name in names for data in datasets]
    assert [row["method"] for row in rows[::3]] == ["NegLabel", "+ projection (InD only)", "SynOOD", "SynOOD"]
    assert [row["synthetic"] for row in rows[::3]] == [None, None, "synthetic@1", "synthetic@1"]
    for row in rows:
        metrics = list(store.rows(store.get(row["eval"]), "metrics"))
        [found] = [m for m in metrics if (m["head"], m["dataset"]) == (row["head"], row["dataset"])]
        assert (row["auroc"], row["fpr95"], row["ind_accuracy"]) == (
            found["auroc"], found["fpr95"], found["ind_accuracy"],
        )  # fmt: skip
    for first in range(0, 12, 3):
        assert rows[first + 2]["auroc"] == pytest.approx((rows[first]["auroc"] + rows[first + 1]["auroc"]) / 2)
    assert store.inputs(made)["both (seed 0)"].name == rows[6]["eval"]
    assert not list(verify(store))


def test_asked_again_it_is_reused_and_one_more_variant_makes_only_that(store, make_run, expand, sources):
    sweep(make_run(), *expand(), sources)
    before = counts(store)
    assert sweep(make_run(), *expand(), sources).reused
    assert counts(store) == before
    more = [*FILE["variants"], {"name": "momentum", "train-labels": {"momentum": 0.9}}]
    made = sweep(make_run(), *expand(variants=more), sources)
    assert counts(store) == {**before, "head": 6, "eval": 5, "sweep": 2}
    assert made.items_done == 5
    removed = {removal.what for removal in gc(store, unfinished=False, superseded=True, dry_run=True)}
    assert removed == {"sweep@1"}


def test_an_interrupted_sweep_goes_on(store, make_run, expand, sources):
    with pytest.raises(KeyboardInterrupt):
        sweep(make_run(progress=Silent(stop_after=122)), *expand(), sources)
    assert counts(store) == {"synthetic": 1, "head": 2, "eval": 2, "sweep": 0}
    assert 0 < store.artifacts("synthetic")[0].items_done < 9
    finished = {a.name for a in store.artifacts() if a.status == "complete"}
    made = sweep(make_run(), *expand(), sources)
    assert made.items_done == 4
    assert counts(store) == {"synthetic": 1, "head": 5, "eval": 4, "sweep": 1}
    assert finished <= {a.name for a in store.artifacts()}


def test_images_of_labels_wait_for_their_head_and_seeds_make_their_own(store, make_run, expand, sources):
    variants = [{"name": "text2img", "train": ["train-proj"], "synthesize": {"source": "text2img"}}]
    made = sweep(make_run(), *expand(variants=variants, seeds=[0, 1]), sources)
    rows = [row for row in store.rows(made, "sweep_rows") if row["dataset"] == "average"]
    assert [(row["seed"], row["synthetic"], row["head"]) for row in rows] == [
        (0, "synthetic@1", "head@2"), (1, "synthetic@2", "head@4"),
    ]  # fmt: skip
    assert store.inputs(store.get("synthetic@2"))["head"].name == "head@3"
    assert [store.get(name).seed for name in ("head@1", "head@2", "head@3", "head@4")] == [0, 0, 1, 1]


def test_fewer_images_are_the_first_of_the_same_synthesis(store, make_run, expand, sources):
    made = sweep(make_run(), *expand(variants=[{"name": "both"}], m=[3, 6]), sources)
    assert [a.items_done for a in store.artifacts("synthetic")] == [6]
    rows = [row for row in store.rows(made, "sweep_rows") if row["dataset"] == "average"]
    assert [(row["m"], row["synthetic"]) for row in rows] == [(3, "synthetic@1"), (6, "synthetic@1")]
    assert [store.get(row["head"]).notes["images"] for row in rows] == [3, 6]


def test_the_control_has_as_many_images_as_the_others_have_pairs(store, make_run, expand, sources, tmp_path):
    """Where only some of the selected images are captioned."""
    selection = store.inputs(sources.captions)["selection"]
    few = caption(make_run(limit=4), CaptionSettings(), Models(), selection, tmp_path / "captions.jsonl")
    variants = [FILE["variants"][1], {"name": "projection", "train": ["train-proj"]}]
    made = sweep(make_run(), *expand(variants=variants), sources._replace(captions=few))
    heads = [store.get(row["head"]) for row in store.rows(made, "sweep_rows") if row["dataset"] == "average"]
    assert [head.notes["images"] for head in heads] == [4, 4]


def test_a_cell_that_fails_is_a_failure_and_the_others_go_on(store, make_run, expand, sources, tmp_path):
    variants = [
        {"name": "broken", "models": {"clip": str(tmp_path / "nowhere")}},
        {"name": "broken too", "models": {"clip": str(tmp_path / "nowhere")}, "train": []},
        {"name": "NegLabel", "train": []},
        {"name": "joint", "train": ["train-proj", "train-labels"], "train-labels": {"strategy": "joint"}},
    ]
    made = sweep(make_run(), *expand(variants=variants), sources)
    assert (made.items_done, made.items_failed) == (1, 3)
    failures = dict(store.failures(made))
    assert failures.keys() == {"broken (seed 0)", "broken too (seed 0)", "joint (seed 0)"}
    assert "nowhere does not exist" in failures["broken too (seed 0)"]
    assert "has a projection already" in failures["joint (seed 0)"]
    assert {row["variant"] for row in store.rows(made, "sweep_rows")} == {"NegLabel"}
    with pytest.raises(SynoodError, match=r"all 2 cells failed; the first: broken \(seed 0\)"):
        sweep(make_run(), *expand(variants=variants[:2]), sources)


def test_heads_of_equal_content_share_an_evaluation_and_keep_their_rows(store, make_run, expand, sources):
    """The loss stops at a boundary that all images are beyond, so the gradient moves nothing."""
    steered = {"source": "gradient", "boundary": -1e6, "iterations": 2}
    variants = [
        {"name": "plain", "synthesize": {"source": "plain", "boundary": -1e6}},
        {"name": "gradient", "synthesize": steered},
    ]
    made = sweep(make_run(), *expand(variants=variants), sources)
    rows = list(store.rows(made, "sweep_rows"))
    assert [row["variant"] for row in rows] == ["plain"] * 3 + ["gradient"] * 3
    assert [row["auroc"] for row in rows[:3]] == [row["auroc"] for row in rows[3:]]
    assert rows[0]["synthetic"] != rows[3]["synthetic"]


def test_the_plan_says_what_is_made_shared_and_reused(store, make_run, expand, sources):
    _, compared = expand()
    found = {cell.variant: {step.stage: step.action for step in steps} for cell, steps in plan(
        make_run(dry_run=True), compared, sources
    )}  # fmt: skip
    assert found == {
        "NegLabel": {"mine-labels": "make", "eval": "make"},
        "control": {"mine-labels": "share", "train-proj": "make", "eval": "make"},
        "both": dict.fromkeys(("synthesize", "train-proj", "train-labels", "eval"), "make") | {"mine-labels": "share"},
        "faster labels": dict.fromkeys(("mine-labels", "synthesize", "train-proj"), "share")
        | {"train-labels": "make", "eval": "make"},
    }
    assert counts(store) == {"synthetic": 0, "head": 0, "eval": 0, "sweep": 0}
    sweep(make_run(), *expand(), sources)
    _, more = expand(variants=[{"name": "both"}, {"name": "slow", "train-labels": {"learning_rate": 1e-4}}])
    both, slow = (steps for _, steps in plan(make_run(dry_run=True), more, sources))
    assert [(step.stage, step.action, step.artifact) for step in both] == [
        ("mine-labels", "reuse", "head@1"),
        ("synthesize", "reuse", "synthetic@1"),
        ("train-proj", "reuse", "head@3"),
        ("train-labels", "reuse", "head@4"),
        ("eval", "reuse", "eval@3"),
    ]
    assert [step.action for step in slow] == ["reuse", "reuse", "reuse", "make", "make"]


def test_the_plan_says_what_would_fail(make_run, expand, sources, candidates):
    candidates.unlink()
    [(_, steps)] = plan(make_run(dry_run=True), expand(variants=[{"name": "x", "train": []}])[1], sources)
    assert [(step.stage, step.action) for step in steps] == [("mine-labels", "fail"), ("eval", "fail")]
    assert "candidates.txt" in steps[0].artifact


def test_means_and_both_standard_deviations_by_hand():
    def row(variant, m, dataset, auroc, fpr95):
        return {"variant": variant, "m": m, "dataset": dataset, "auroc": auroc, "fpr95": fpr95}

    once = [row("a", None, "x", 0.9, 0.1), row("b", 5, "x", 0.5, 0.5), row("c", None, "x", 0.2, 0.2)]
    first, other, second = summary([*once, row("a", None, "x", 0.8, 0.4), row("a", None, "x", 0.7, 0.1)])
    assert (first.variant, first.m, first.dataset, first.seeds) == ("a", None, "x", 3)
    assert first.auroc.mean == pytest.approx(0.8)
    assert first.auroc.deviation == pytest.approx(0.1)
    assert first.auroc.population_deviation == pytest.approx(0.1 * math.sqrt(2 / 3))
    assert first.fpr95.mean == pytest.approx(0.2)
    assert first.fpr95.deviation == pytest.approx(math.sqrt(0.03))
    assert (other.variant, other.m, other.auroc) == ("b", 5, (0.5, None, 0.0))
    assert second.variant == "c"
