"""What a report is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from report_study import CLIP, begin, make_captions, make_eval, make_heads, random_scores
from synood_cli.errors import UsageError
from synood_cli.reports.failures import SHOWN, failures
from synood_cli.reports.lineage import changed_settings, choose_subject, trace, tree, used_models
from synood_cli.store.store import Store

if TYPE_CHECKING:
    from conftest import Study


def test_unsaid_it_is_the_newest_evaluation_or_what_there_is(store: Store, study: Study) -> None:
    begin(store, "eval", "eval", {}, seed=7)  # not finished
    assert choose_subject(store, None).name == "eval@1"
    for kind, expected in (("eval", "head@3"), ("head", "synthetic@1"), ("synthetic", "captions@1")):
        store.db.execute("delete from lineage where artifact_id in (select id from artifacts where kind = ?)", [kind])
        store.db.execute("delete from artifacts where kind = ?", [kind])
        assert choose_subject(store, None).name == expected


def test_nothing_made_yet_and_kinds_without_a_report(store: Store) -> None:
    with pytest.raises(UsageError, match="no complete selection yet"):
        choose_subject(store, None)
    draft = begin(store, "scores", "score", {})
    with pytest.raises(UsageError, match="no report about scores"):
        choose_subject(store, draft.artifact.name)


def test_the_lineage_of_an_evaluation(store: Store, study: Study) -> None:
    lineage = trace(store, study.evaluation)
    assert [artifact.name for artifact in lineage.artifacts] == [
        "selection@1", "captions@1", "synthetic@1", "head@1", "head@2", "head@3", "eval@1",
    ]  # fmt: skip
    assert [head.name for head in lineage.heads] == ["head@3", "head@2", "head@1"]
    assert (lineage.synthetic, lineage.captions, lineage.selection) == (
        study.synthetic,
        study.captions,
        study.selection,
    )


def test_of_several_heads_the_newest_trained_one_is_followed(store: Store, study: Study) -> None:
    newer = make_heads(store, study.selection, study.synthetic, {}, [1.0])[0]  # head@4 is mined only
    evaluation = make_eval(store, [*study.heads, newer], random_scores(["far"], 5), {"ind": "/i", "far": "/f"})
    assert trace(store, evaluation).heads[0].name == "head@3"
    only_mined = make_eval(store, [newer], random_scores(["far"], 5), {"ind": "/i", "far": "/f"})
    lineage = trace(store, only_mined)
    assert ([head.name for head in lineage.heads], lineage.synthetic) == ([newer.name], None)
    assert lineage.selection == study.selection


def test_a_subject_early_in_the_pipeline(store: Store, study: Study) -> None:
    lineage = trace(store, study.captions)
    assert (lineage.heads, lineage.synthetic, lineage.captions) == ([], None, study.captions)
    assert lineage.selection == study.selection
    assert trace(store, study.selection).artifacts == [study.selection]


def test_the_tree_names_each_artifact_and_opens_it_once(store: Store, study: Study) -> None:
    lines = [(node.depth, node.role, node.artifact.name, node.repeated) for node in tree(store, study.evaluation)]
    assert [line for line in lines if line[0] == 1] == [
        (1, "head-1", "head@1", False), (1, "head-2", "head@2", False), (1, "head-3", "head@3", False),
    ]  # fmt: skip
    second = lines.index((1, "head-2", "head@2", False))
    assert lines[second + 1] == (2, "head", "head@1", True)
    assert not any(repeated for _, _, name, repeated in lines if name == "selection@1")  # it has no inputs to refer to


def test_settings_that_differ_from_the_papers(store: Store, study: Study) -> None:
    changed = changed_settings([study.selection, study.captions, study.synthetic])
    assert changed == [
        ("selection@1", "select", "per_class", "2", "50", None),
        ("synthetic@1", "synthesize", "loss", "centred-energy", "energy", "centred-energy"),
    ]


def test_each_model_once(store: Store, study: Study) -> None:
    assert used_models(store, trace(store, study.evaluation).artifacts) == [("clip", CLIP)]


def test_failures_by_stage_and_the_first_of_them(store: Store, study: Study) -> None:
    draft = begin(store, "captions", "caption", {"selection": study.selection}, seed=3)
    for number in range(SHOWN + 10):
        draft.fail(f"cat/{number}.jpg", "nothing said")
    draft.note({"warnings": ["odd"]})
    found = failures(store, trace(store, draft.complete()))
    assert (found.total, len(found.first)) == (60, 50)
    assert found.first[0] == ("captions@2", "caption", "cat/0.jpg", "nothing said")
    assert [(row.artifact, row.failed) for row in found.counts] == [("selection@1", 0), ("captions@2", 60)]
    assert found.warnings == [("captions@2", "odd")]
    assert failures(store, trace(store, make_captions(store, study.selection, [], ""))).total == 0
