"""The table, the histograms and the ROC curves of an evaluation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from report_study import METHODS, make_eval, metric_row, random_scores
from synood_cli.metrics.detection import auroc, fpr_at_tpr
from synood_cli.reports.detection import ROC_POINTS, detection, roc_curve
from synood_cli.reports.figures import BOTTOM, LEFT, RIGHT, TOP
from synood_cli.store.draft import Draft
from synood_cli.store.store import Artifact, Store

if TYPE_CHECKING:
    from conftest import Study

FOLDERS = {"ind": "/i", "far": "/f", "near": "/n"}


def test_methods_stand_in_the_order_of_the_ablation_and_the_average_last(store: Store, study: Study) -> None:
    found = detection(store, study.evaluation)
    assert found is not None
    assert [(row.method, row.head) for row in found.rows] == list(METHODS.items())
    assert [(each.name, each.folder, each.images) for each in found.datasets] == [
        ("far", "/data/far", 60), ("near", "/data/near", 60), ("average", "", 120),
    ]  # fmt: skip
    assert (found.ind_folder, found.ind_images, found.fpr) == ("/data/ind", 60, "FPR95")
    assert found.convention.startswith("the share of OOD images that pass the threshold which 95% of the in-dist")
    assert found.other_convention.endswith("(OOD is positive: OpenOOD v1.5, AdaNeg)")


def test_numbers_are_those_of_the_table_and_the_best_is_marked(store: Store, study: Study) -> None:
    found = detection(store, study.evaluation)
    assert found is not None
    scores = random_scores(["near", "far"], 60)
    for row in found.rows:
        for each, (area, fpr) in zip(found.datasets[:2], row.cells, strict=False):
            expected = metric_row(scores[row.method]["ind"], scores[row.method][each.name])
            assert (area.value, fpr.value) == (expected["auroc"], expected["fpr95"])
            assert area.interval == (expected["auroc"] - 0.01, expected["auroc"] + 0.01)
    for column in range(3):
        for place, best in ((0, max), (1, min)):
            cells = [row.cells[column][place] for row in found.rows]
            wanted = best(cell.value for cell in cells)
            assert [cell.best for cell in cells] == [cell.value == wanted for cell in cells]


def test_one_ood_set_has_no_average_and_one_method_no_best(store: Store, study: Study) -> None:
    scores = {"MCM": {name: np.array([0.1, 0.2]) for name in ("ind", "far")}}
    found = detection(store, make_eval(store, study.heads, scores, FOLDERS, tpr=0.8))
    assert found is not None
    assert [each.name for each in found.datasets] == ["far"]
    assert not any(cell.best for pair in found.rows[0].cells for cell in pair)
    assert found.fpr == "FPR80"
    assert "80%" in found.convention
    close = detection(store, make_eval(store, study.heads, scores, FOLDERS, tpr=0.999))
    assert close is not None
    assert "which 99.9% of the in-distribution" in close.convention
    assert "which 99.9% of the OOD" in close.other_convention
    assert [mark.label for plot in close.curves for mark in plot.marks] == ["99.9%"]


def test_an_evaluation_that_found_nothing_yet_has_no_table(store: Store, study: Study) -> None:
    draft = Draft.begin(store, "eval", "eval", settings={}, inputs={}, models={}, seed=1)
    assert detection(store, draft.artifact) is None


def bars(path: str) -> tuple[list[float], list[float]]:
    """Edges and heights of a histogram's outline, in the drawing's units."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", path)]
    xs, ys = numbers[::2], numbers[1::2]
    return xs[::2], [BOTTOM - y for y in ys[1:-1:2]]


def test_histograms_show_every_image_and_the_threshold(store: Store, study: Study) -> None:
    found = detection(store, study.evaluation)
    assert found is not None
    assert [plot.title for plot in found.histograms] == [
        "MCM", "NegLabel (head@1)", "+ projection (head@2)", "SynOOD (head@3)",
    ]  # fmt: skip
    for plot in found.histograms:
        assert [curve.name for curve in plot.curves] == ["in-distribution", "far", "near"]
        edges, heights = zip(*(bars(curve.path) for curve in plot.curves), strict=True)
        assert edges[0][0] == LEFT
        assert edges[0][-1] == RIGHT
        sums = [sum(each) for each in heights]
        assert sums == pytest.approx([sums[0]] * 3, rel=0.02)  # shares of each set: they sum to one
    assert [[mark.label for mark in plot.marks] for plot in found.histograms] == [[], ["η"], ["η"], ["η"]]
    synood = found.histograms[3]
    half = next(tick.place for tick in synood.x_ticks if tick.label == "0.5")
    assert synood.marks[0].x1 == pytest.approx(half)  # head@3's threshold is 0.5


def test_roc_by_hand() -> None:
    false, true = roc_curve(np.array([0.9, 0.8, 0.3]), np.array([0.8, 0.1]))
    assert list(zip(false.tolist(), true.tolist(), strict=True)) == [
        (0, 0), (0, pytest.approx(1 / 3)), (0.5, pytest.approx(2 / 3)), (0.5, 1), (1, 1), (1, 1),
    ]  # fmt: skip


def test_the_area_under_the_roc_curve_is_the_auroc() -> None:
    random = np.random.default_rng(4)
    for count, tolerance, step in ((60, 1e-12, 1e-12), (4000, 1e-3, 0.03)):
        ind, ood = random.normal(1, 1, count), random.normal(0, 1, count // 2)
        false, true = roc_curve(ind, ood)
        assert len(false) <= ROC_POINTS + 2
        assert np.trapezoid(true, false) == pytest.approx(auroc(ind, ood), abs=tolerance)
        fpr95 = fpr_at_tpr(ind, ood, 0.95, "ind")
        assert false[true >= 0.95 - 1e-12].min() == pytest.approx(fpr95, abs=step)


def test_one_roc_plot_an_ood_set_and_one_curve_a_method(store: Store, study: Study) -> None:
    found = detection(store, study.evaluation)
    assert found is not None
    assert [plot.title for plot in found.curves] == ["far", "near"]
    assert all(len(plot.curves) == len(METHODS) for plot in found.curves)
    [mark] = found.curves[0].marks
    assert (mark.label, mark.y1) == ("95%", pytest.approx(BOTTOM + 0.95 * (TOP - BOTTOM)))


def add_methods(store: Store, study: Study) -> Artifact:
    """The study's evaluation with a baseline and a perfect method that adapts, as `eval` would store them."""
    draft = Draft.begin(
        store,
        "eval",
        "eval",
        settings=study.evaluation.settings,
        inputs=store.inputs(study.evaluation),
        models={},
        seed=9,
    )
    draft.note({"ind": "/data/ind", "ood": {"far": "/data/far", "near": "/data/near"}})
    plain = [{**row, "artifact_id": None} for row in store.rows(study.evaluation, "metrics")]
    for row in plain:
        del row["artifact_id"]
    mcm = [row for row in plain if row["method"] == "MCM"]
    baseline = [row | {"method": "Energy", "model": "/models/resnet50", "auroc": 0.2, "fpr95": 0.9} for row in mcm]
    adapting = [row | {"method": "AdaNeg", "head": "head@3", "adapts": 1, "auroc": 1.0, "fpr95": 0.0} for row in mcm]
    difference = {"method": "Energy", "head": "", "against_method": "NegLabel", "against_head": "head@1", "auroc": -0.5}
    difference |= {"auroc_low": -0.6, "auroc_high": -0.4, "fpr95": 0.25, "fpr95_low": 0.2, "fpr95_high": 0.3}
    draft.commit(
        {
            "metrics": plain + baseline + adapting,
            "differences": [difference | {"dataset": name} for name in ("far", "near")],
        }
    )
    sets = {"far": [0.1, 0.2], "near": [0.3, 0.2]}
    for method, head, scores in (
        ("Energy", "", {"ind": [-30.0, 12.0]} | sets),
        ("AdaNeg", "head@3", {"ind:far": [1.05, 1.0], "ind:near": [0.9, 0.8]} | sets),
    ):
        for dataset, values in scores.items():
            named = {"method": method, "head": head, "dataset": dataset}
            rows = [{**named, "position": n, "item": f"{n}", "score": value} for n, value in enumerate(values)]
            draft.commit({"scores": rows})
    return draft.complete(done=180)


def test_methods_that_adapt_come_last_are_marked_and_do_not_compete(store: Store, study: Study) -> None:
    found = detection(store, add_methods(store, study))
    assert found is not None
    assert [(row.method, row.head, row.model, row.adapts) for row in found.rows] == [
        ("MCM", "", "", False),
        ("NegLabel", "head@1", "", False),
        ("+ projection", "head@2", "", False),
        ("SynOOD", "head@3", "", False),
        ("Energy", "", "resnet50", False),
        ("AdaNeg", "head@3", "", True),
    ]
    assert found.adapting
    assert [any(cell.best for pair in row.cells for cell in pair) for row in found.rows] == [
        False, False, False, True, False, False,
    ]  # fmt: skip
    assert [(row["method"], row["dataset"], row["auroc"]) for row in found.differences] == [
        ("Energy", "far", -0.5), ("Energy", "near", -0.5),
    ]  # fmt: skip


def test_scores_of_any_scale_have_plots_and_adapting_ones_their_own_ind_scores(store: Store, study: Study) -> None:
    found = detection(store, add_methods(store, study))
    assert found is not None
    energy, adaneg = found.histograms
    assert (energy.title, energy.x_label) == ("Energy", "score S")
    assert (adaneg.title, adaneg.x_label, adaneg.marks) == ("AdaNeg (head@3)", "score S", [])
    assert "ind 0.95" in adaneg.description  # the median of both sets' scores of the InD images
    assert [curve.name for curve in found.curves[0].curves] == ["Energy", "AdaNeg (head@3)"]


def test_an_evaluation_computed_anew_shows_the_scores_that_it_was_computed_from(store: Store, study: Study) -> None:
    question = {"settings": study.evaluation.settings, "models": {}, "seed": 1}
    draft = Draft.begin(store, "eval", "eval", inputs={"eval": study.evaluation}, **question)
    rows = [dict(row) for row in store.rows(study.evaluation, "metrics")]
    draft.commit({"metrics": [{name: row[name] for name in row if name != "artifact_id"} for row in rows]})
    draft.note(study.evaluation.notes)
    again, first = detection(store, draft.complete()), detection(store, study.evaluation)
    assert again is not None
    assert first is not None
    assert again.histograms == first.histograms
    assert again.curves == first.curves


def test_averages_of_groups_are_columns_and_no_sets(store: Store, study: Study) -> None:
    scores = {"MCM": {name: np.array([0.1, 0.2, 0.4]) * place for place, name in enumerate(("ind", "far", "near"), 1)}}
    made = make_eval(store, study.heads, scores, FOLDERS, tpr=0.9)
    for row in list(store.rows(made, "metrics")):
        if row["dataset"] == "average":
            store.db.table("metrics").insert({**row, "dataset": "average near"})
    found = detection(store, made)
    assert found is not None
    assert [each.name for each in found.datasets] == ["far", "near", "average near", "average"]
    assert len(found.rows[0].cells) == 4
    assert [curve.title for curve in found.curves] == ["far", "near"]
    assert len(found.histograms) == 1
