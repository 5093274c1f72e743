"""Baselines of an evaluation, on the tiny classifier."""

from __future__ import annotations

import shutil
import sys
from typing import get_args

import numpy as np
import pytest
import torch

from pipeline import Silent, photograph
from synood_cli.config import EvalSettings, MineSettings, SelectSettings
from synood_cli.data.images import read_image
from synood_cli.errors import UsageError
from synood_cli.evaluated_methods import Baseline, BaselineSettings
from synood_cli.models.build import build_classifier
from synood_cli.stages.baselines import require_library
from synood_cli.stages.evaluate import evaluate
from synood_cli.stages.mine_labels import mine_labels
from synood_cli.stages.select import select

SETTINGS = EvalSettings(baselines=("MSP", "Energy", "KNN", "ODIN"), bootstrap=0, baseline=BaselineSettings(knn_k=3))


@pytest.fixture
def ind(tmp_path):
    for number in range(6):
        photograph(tmp_path / "ind" / ("cat", "dog", "frog")[number % 3] / f"{number}.png", 300 + number, detail=3)
    return tmp_path / "ind"


@pytest.fixture
def ood(tmp_path):
    for number in range(4):
        photograph(tmp_path / "near" / f"{number}.png", 400 + number, detail=3 + number)
    return {"near": tmp_path / "near"}


@pytest.fixture
def classifier(models):
    return models.classifier_spec()


def rows(store, made, table):
    return [row for row in store.rows(made, table) if row["head"] == "" and row["method"] != "MCM"]


def logits(models, root, item):
    """g's logits of a file, from its pixels at their own size."""
    pixels = torch.from_numpy(np.array(read_image(root / item))).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        return build_classifier(models.classifier_spec(), "cpu", "fp32").logits(pixels)[0].double()


def test_scores_are_those_of_the_classifiers_logits(store, make_run, head, models, classifier, selection, ind, ood):
    made = evaluate(make_run(), SETTINGS, [head], ind, ood, classifier=classifier, selection=selection)
    found = {(row["method"], row["dataset"], row["item"]): row for row in rows(store, made, "scores")}
    assert len(found) == 4 * (6 + 4)
    for dataset, root in (("ind", ind), ("near", ood["near"])):
        items = [item for method, name, item in found if (method, name) == ("MSP", dataset)]
        for item in items:
            g = logits(models, root, item)
            assert found["MSP", dataset, item]["score"] == pytest.approx(float(g.softmax(0).max()), abs=1e-5)
            assert found["Energy", dataset, item]["score"] == pytest.approx(float(g.logsumexp(0)), abs=1e-4)
            assert found["MSP", dataset, item]["predicted_class"] == ("cat", "dog", "frog")[int(g.argmax())]
    table = rows(store, made, "metrics")
    assert {row["method"] for row in table} == set(SETTINGS.baselines)
    assert {(row["model"], row["adapts"]) for row in table} == {(classifier.name, 0)}
    right = np.mean([int(logits(models, ind, f"{name}/{number}.png").argmax()) == number % 3
                     for number in range(6) for name in [("cat", "dog", "frog")[number % 3]]])  # fmt: skip
    assert {row["ind_accuracy"] for row in table} == {right}
    assert store.inputs(made)["selection"].name == "selection@1"
    assert set(store.models(made)) == {"clip-1", "classifier"}


def test_every_baseline_runs_and_g_sees_each_image_once(store, make_run, head, classifier, ind, ood):
    fitted = BaselineSettings(knn_k=3, vim_dimension=2)
    settings = SETTINGS.model_copy(update={"baselines": get_args(Baseline), "baseline": fitted})
    progress = Silent()
    made = evaluate(make_run(progress=progress), settings, [head], ind, ood, classifier=classifier)
    assert {row["method"] for row in rows(store, made, "metrics")} == set(get_args(Baseline))
    assert [what for what, _, _ in progress.started if what.startswith("classify")] == [
        "classify ind", "classify near", "classify selection@1",
    ]  # fmt: skip
    progress = Silent()
    other = settings.model_copy(update={"baselines": ("MSP", "RMDS")})
    evaluate(make_run(progress=progress), other, [head], ind, ood, classifier=classifier)
    assert [what for what, _, _ in progress.started] == ["evaluate"]
    assert [a.stage for a in store.artifacts("features")].count("classify-images") == 3


def test_what_needs_no_fitting_needs_no_selection(store, make_run, head, classifier, ind, ood):
    settings = SETTINGS.model_copy(update={"baselines": ("MSP",)})
    made = evaluate(make_run(), settings, [head], ind, ood, classifier=classifier)
    assert set(store.inputs(made)) == {"head-1"}


def test_a_baseline_that_fails_is_a_failure_and_the_others_go_on(store, make_run, head, classifier, ind, ood):
    settings = SETTINGS.model_copy(
        update={"baselines": ("ViM", "MSP"), "baseline": BaselineSettings(odin_step=0, vim_dimension=96)}
    )
    made = evaluate(make_run(), settings, [head], ind, ood, classifier=classifier)
    [(item, reason)] = store.failures(made)
    assert item == "baseline ViM"
    assert reason.endswith("images: ViM's 96 principal dimensions leave nothing of 96 features")
    assert {row["method"] for row in rows(store, made, "metrics")} == {"MSP"}


def test_without_the_library_nothing_is_begun(store, make_run, head, classifier, ind, ood, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_ood", None)
    before = store.artifacts()
    with pytest.raises(UsageError, match="--baselines needs pytorch-ood, which is not installed") as caught:
        evaluate(make_run(), SETTINGS, [head], ind, ood, classifier=classifier)
    assert caught.value.hint == "pip install 'synood[baselines]'"
    assert store.artifacts() == before


def test_the_library_is_there():
    require_library()


def test_what_a_selection_is_short_of_is_a_warning(store, make_run, head, classifier, photos, selection, ind, ood):
    settings = SETTINGS.model_copy(update={"baseline": BaselineSettings(knn_k=50)})
    made = evaluate(make_run(), settings, [head], ind, ood, classifier=classifier, selection=selection)
    few = selection.items_done
    assert made.notes["warnings"] == [f"KNN looks at 50 neighbours, and selection@1 has {few} images: it takes all"]
    shutil.rmtree(photos / "frog")
    smaller = select(make_run(), SelectSettings(), photos)
    made = evaluate(make_run(), SETTINGS, [head], ind, ood, classifier=classifier, selection=smaller)
    assert made.notes["warnings"] == ["the baselines know the 2 classes of selection@2, the heads other ones (3)"]


def test_heads_of_different_classes_have_no_baselines_in_common(
    store, make_run, models, head, classifier, photos, candidates, ind, ood
):
    shutil.rmtree(photos / "frog")
    smaller = select(make_run(), SelectSettings(), photos)
    other = mine_labels(make_run(), MineSettings(share=0.25, groups=4), models, smaller, candidates)
    shutil.rmtree(ind / "frog")
    before = store.artifacts("eval")
    with pytest.raises(UsageError, match="need one list of classes, and head@1 and head@2 have different ones"):
        evaluate(make_run(), SETTINGS, [head, other], ind, ood, classifier=classifier)
    assert store.artifacts("eval") == before


def test_a_mistyped_reference_is_refused_before_any_work(store, make_run, head, classifier, ind, ood):
    settings = SETTINGS.model_copy(update={"against": "Enregy"})
    before = store.artifacts()
    with pytest.raises(UsageError, match="--against 'Enregy'") as caught:
        evaluate(make_run(), settings, [head], ind, ood, classifier=classifier)
    assert caught.value.hint == "its methods: MCM, NegLabel head@1, MSP, Energy, KNN, ODIN"
    assert store.artifacts() == before


def test_an_image_that_cannot_be_read_is_left_out_everywhere(store, make_run, head, classifier, ind, ood):
    (ind / "cat" / "0.png").write_bytes(b"no picture")
    made = evaluate(make_run(), SETTINGS, [head], ind, ood, classifier=classifier)
    assert [item for item, _ in store.failures(made)] == ["ind/cat/0.png"]
    assert {row["ind_images"] for row in store.rows(made, "metrics")} == {5}
