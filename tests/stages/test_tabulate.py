"""Tables from kept scores: comparisons between methods, and other conventions without models."""

from __future__ import annotations

import numpy as np
import pytest

from synood_cli.config import EvalSettings
from synood_cli.errors import UsageError
from synood_cli.metrics.detection import auroc, fpr_at_tpr
from synood_cli.stages.contenders import Entrant
from synood_cli.stages.run import Planned
from synood_cli.stages.tabulate import entrants_of, recompute, reference, tables
from synood_cli.store.draft import Draft

A, B, C = Entrant("A", "head@1", ind_accuracy=0.5), Entrant("B", "head@2"), Entrant("C", adapts=True, model="g")
RANDOM = np.random.default_rng(0)
IND, NEAR, FAR = RANDOM.normal(1, 1, (3, 30)), RANDOM.normal(0, 1, (3, 20)), RANDOM.normal(-1, 1, (3, 25))


@pytest.fixture
def keep(store):
    """A complete evaluation with the scores above, but for those to leave out: (entrant, dataset, position)."""

    def make(without=()):
        draft = Draft.begin(store, "eval", "eval", settings={"tpr": 0.95}, inputs={}, models={}, seed=len(without))
        for place, entrant in enumerate((A, B, C)):
            sets = {"near": NEAR[place], "far": FAR[place]}
            sets |= {"ind:near": IND[place], "ind:far": IND[place] - 1} if entrant.adapts else {"ind": IND[place]}
            for dataset, values in sets.items():
                named = {"method": entrant.method, "head": entrant.head, "dataset": dataset}
                rows = [
                    {**named, "position": position, "item": f"{position}.png", "score": float(value)}
                    for position, value in enumerate(values)
                    if (entrant.method, dataset, position) not in without
                ]
                draft.commit({"scores": rows})
        draft.note({"methods": [["A", "head@1"], ["B", "head@2"], ["C", ""]], "ood": {"near": "/n", "far": "/f"}})
        draft.note({"suite": {"groups": {"close": ["near"]}}})
        found = tables(store, draft.artifact, [A, B, C], EvalSettings(bootstrap=30), 0, {"close": ["near"]})
        draft.commit(dict(found._asdict()))
        return draft.complete(done=75)

    return make


def rows(store, made, table):
    return {(row["method"], row["dataset"]): row for row in store.rows(made, table)}


def test_each_method_is_measured_against_its_own_ind_scores(store, keep):
    found = rows(store, keep(), "metrics")
    for place, method in enumerate("ABC"):
        shift = 1 if method == "C" else 0
        near, far = auroc(IND[place], NEAR[place]), auroc(IND[place] - shift, FAR[place])
        assert found[method, "near"]["auroc"] == pytest.approx(near)
        assert found[method, "far"]["auroc"] == pytest.approx(far)
        assert found[method, "average"]["auroc"] == pytest.approx((near + far) / 2)
    assert found["A", "far"]["ind_accuracy"] == 0.5
    assert (found["C", "far"]["model"], found["C", "far"]["adapts"]) == ("g", 1)


def test_a_group_has_an_average_of_its_own(store, make_run, keep):
    made = keep()
    for evaluation in (made, recompute(make_run(), EvalSettings(bootstrap=5), made)):
        found = rows(store, evaluation, "metrics")
        for name in ("auroc", "fpr95", "aupr_in", "ood_images", "auroc_low", "fpr95_high"):
            assert found["B", "average close"][name] == found["B", "near"][name]


def test_differences_are_those_of_the_metrics_with_paired_intervals(store, keep):
    made = keep()
    metrics, found = rows(store, made, "metrics"), rows(store, made, "differences")
    assert set(found) == {
        (method, dataset) for method in "BC" for dataset in ("near", "far", "average close", "average")
    }
    for (method, dataset), row in found.items():
        assert (row["against_method"], row["against_head"]) == ("A", "head@1")
        for name in ("auroc", "fpr95"):
            difference = metrics[method, dataset][name] - metrics["A", dataset][name]
            assert row[name] == pytest.approx(difference)
            assert row[f"{name}_low"] <= row[f"{name}_high"]
        assert row["auroc_low"] < row["auroc"] < row["auroc_high"]


def test_all_methods_are_measured_on_the_images_that_all_have_scores_for(store, keep):
    made = keep(without=[("A", "near", 3), ("B", "ind", 7), ("C", "ind:far", 0)])
    found = rows(store, made, "metrics")
    kept = [place for place in range(30) if place not in (0, 7)]
    near = [place for place in range(20) if place != 3]
    for place, method in enumerate("ABC"):
        row = found[method, "near"]
        assert (row["ind_images"], row["ood_images"]) == (28, 19)
        assert row["auroc"] == pytest.approx(auroc(IND[place][kept], NEAR[place][near]))
        assert found[method, "average"]["ood_images"] == 19 + 25


def test_a_table_is_computed_anew_under_other_conventions_without_models(store, make_run, keep):
    made = keep()
    settings = EvalSettings(tpr=0.8, positive="ood", bootstrap=10, against="b")
    again = recompute(make_run(), settings, made)
    assert (again.name, store.inputs(again)["eval"].name, store.models(again)) == ("eval@2", "eval@1", {})
    found = rows(store, again, "metrics")
    for place, method in enumerate("AB"):
        assert found[method, "near"]["fpr95"] == pytest.approx(fpr_at_tpr(IND[place], NEAR[place], 0.8, "ood"))
        assert found[method, "near"]["fpr95_other"] == pytest.approx(fpr_at_tpr(IND[place], NEAR[place], 0.8, "ind"))
        assert found[method, "near"]["fpr95_positive"] == "ood"
    assert {row["against_head"] for row in store.rows(again, "differences")} == {"head@2"}
    assert list(store.rows(again, "scores")) == []  # they are where they were
    assert (again.items_done, again.notes["ood"]) == (75, made.notes["ood"])
    third = recompute(make_run(), EvalSettings(bootstrap=30), again)  # from the same scores
    assert store.inputs(third)["eval"].name == "eval@1"
    assert rows(store, third, "metrics")["A", "far"]["auroc"] == rows(store, made, "metrics")["A", "far"]["auroc"]
    same = [{**row, "artifact_id": 0} for row in store.rows(third, "differences")]
    assert same == [{**row, "artifact_id": 0} for row in store.rows(made, "differences")]
    assert recompute(make_run(), settings, made).reused


def test_recomputing_plans_and_refuses_a_limit(make_run, keep):
    made = keep()
    with pytest.raises(Planned) as planned:
        recompute(make_run(dry_run=True), EvalSettings(), made)
    assert planned.value.plan["inputs"] == {"eval": "eval@1"}
    with pytest.raises(UsageError, match="--limit is for images"):
        recompute(make_run(limit=3), EvalSettings(), made)


def test_without_bootstrap_there_are_differences_and_no_intervals(store, make_run, keep):
    again = recompute(make_run(), EvalSettings(bootstrap=0), keep())
    row = rows(store, again, "differences")["B", "near"]
    assert row["auroc"] == pytest.approx(auroc(IND[1], NEAR[1]) - auroc(IND[0], NEAR[0]))
    assert [row[f"{name}_{end}"] for name in ("auroc", "fpr95") for end in ("low", "high")] == [None] * 4


def test_the_entrants_are_known_again_in_their_order(store, keep):
    assert entrants_of(store, keep()) == [A, B, C._replace(adapts=True)]


@pytest.mark.parametrize(
    ("said", "means"), [(None, A), ("b", B), ("HEAD@2", B), ("B head@2", B), ("C", C), ("head@1", A)]
)
def test_the_reference_is_named_by_method_or_head(said, means):
    assert reference([Entrant("MCM"), A, B, C], said) == means


def test_a_reference_that_is_none_is_told_the_names():
    with pytest.raises(UsageError, match="--against 'D': no method or head") as caught:
        reference([A, C], "D")
    assert caught.value.hint == "its methods: A head@1, C"
    assert reference([C], None) == C


def test_a_head_as_the_reference_is_not_the_mcm_that_is_named_by_it():
    on_head = Entrant("MCM", "head@1")
    assert reference([on_head, A, B], "head@1") == reference([on_head, A, B], None) == A
    assert reference([on_head, A, B], "mcm head@1") == reference([on_head, A, B], "MCM") == on_head
