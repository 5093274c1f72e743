"""The same question has the same identity, and is answered from the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store_rows import begin, make

from synood_cli.errors import UsageError
from synood_cli.records import ModelSpec
from synood_cli.store.draft import Draft
from synood_cli.store.identity import ALGORITHMS, identity_of, question_of
from synood_cli.store.store import Store, canonical_json

CLIP = ModelSpec(adapter="open_clip", name="ViT-B-16", pretrained="openai", revision="abc")


def test_the_same_question_is_answered_from_the_store(store: Store) -> None:
    first = begin(store)
    made = first.complete()
    again = begin(store)
    assert not first.artifact.reused
    assert again.artifact.reused
    assert again.artifact.name == made.name == "selection@1"
    assert again.artifact.digest == made.digest
    assert len(store.artifacts()) == 1


def test_inputs_and_digests_of_one_name_are_told_apart(store: Store) -> None:
    made = make(store, tag="head")
    with_input = Draft.identity("eval", {}, {"head-1": made}, {}, 0)
    with_digest = Draft.identity("eval", {}, {}, {}, 0, {"head-1": made.digest or ""})
    assert with_input != with_digest


def test_a_name_is_never_given_twice(store: Store) -> None:
    begin(store, seed=0).complete()
    last = begin(store, seed=1).complete()
    with store.db.atomic():
        store.db.execute("delete from artifacts where id = ?", [last.id])
    assert begin(store, seed=2).artifact.name == "selection@3"


def test_a_retry_interrupted_before_it_took_over_anything_takes_it_over(store: Store) -> None:
    draft = begin(store)
    draft.write_file("a", b"done")
    draft.commit({}, ["a"], done=1)
    draft.fail("b", "not now")
    first = draft.complete()
    interrupted = begin(store, retry_failed=True)
    with store.db.atomic():  # as if it had been killed while it linked files
        store.db.execute("delete from files where artifact_id = ?", [interrupted.artifact.id])
        store.db.execute("update artifacts set items_done = 0 where id = ?", [interrupted.artifact.id])
    again = begin(store, retry_failed=True)
    assert again.artifact.name == interrupted.artifact.name != first.name
    assert again.artifact.items_done == 1
    assert again.keys("files", "path") == {"a"}


def test_what_was_asked_for_last_is_the_newest(store: Store) -> None:
    """A script that is run again must find its own chain, not the artifacts of another run since."""
    first, second = begin(store, seed=0).complete(), begin(store, seed=1).complete()
    assert store.newest("selection").name == second.name
    assert begin(store, seed=0).artifact.reused
    assert store.newest("selection").name == first.name
    begin(store, seed=2)  # unfinished
    assert store.newest("selection").name == first.name


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"per_class": 3}},
        {"settings": {"per_class": 2, "limit": 1}},
        {"seed": 1},
        {"digests": {"photos": "f00"}},
        {"models": {"clip": CLIP}},
        {"stage": "select-otherwise"},
    ],
)
def test_a_changed_question_makes_another_artifact(store: Store, change: dict[str, Any]) -> None:
    begin(store).complete()
    other = begin(store, **change)
    assert not other.artifact.reused
    assert other.artifact.name == "selection@2"


def test_a_model_is_known_by_its_revision_not_by_the_server_that_offers_it() -> None:
    def identity(spec: ModelSpec) -> str:
        return identity_of(question_of("s", {}, {}, {"clip": spec}, 0))

    assert identity(CLIP) != identity(CLIP.model_copy(update={"revision": "abd"}))
    assert identity(CLIP) == identity(CLIP.model_copy(update={"url": "http://elsewhere"}))


def test_a_model_folder_is_known_by_its_content_not_by_its_place(tmp_path: Path) -> None:
    def identity(folder: Path, revision: str) -> str:
        folder.mkdir(exist_ok=True)
        spec = ModelSpec(adapter="timm", name=str(folder), revision=revision)
        return identity_of(question_of("s", {}, {}, {"classifier": spec}, 0))

    assert identity(tmp_path / "a", "1") == identity(tmp_path / "b", "1")
    assert identity(tmp_path / "a", "1") != identity(tmp_path / "a", "2")


def test_inputs_count_by_digest_not_by_name(store: Store) -> None:
    one = make(store, tag="one", files={"a": b"same"})
    two = make(store, tag="two", files={"a": b"same"})
    three = make(store, tag="three", files={"a": b"other"})
    assert one.digest == two.digest != three.digest

    captions = begin(store, "captions", "caption", inputs={"selection": one}).complete()
    assert begin(store, "captions", "caption", inputs={"selection": two}).artifact.name == captions.name
    assert begin(store, "captions", "caption", inputs={"selection": three}).artifact.name == "captions@2"


def test_the_order_of_settings_does_not_count() -> None:
    assert identity_of(question_of("s", {"a": 1, "b": 2}, {}, {}, 0)) == identity_of(
        question_of("s", {"b": 2, "a": 1}, {}, {}, 0)
    )
    assert canonical_json({"b": [1, None], "a": "é"}) == '{"a":"\\u00e9","b":[1,null]}'


def test_identity_is_the_hash_of_the_question() -> None:
    # sha256 of {"inputs":{"selection":"d1"},"models":{},"seed":7,"settings":{"a":1},"stage":"train"}
    expected = "867b7a2c"
    assert identity_of(question_of("train", {"a": 1}, {"selection": "d1"}, {}, 7)).startswith(expected)


@pytest.mark.parametrize(
    "stage",
    [
        *("select", "caption", "synthesize", "mine-labels", "train-proj", "train-labels", "calibrate", "eval", "score"),
        *("embed-images", "classify-images"),
    ],
)
def test_what_another_algorithm_made_is_not_reused(store: Store, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    first = begin(store, "scores", stage).complete()
    assert begin(store, "scores", stage).artifact.name == first.name
    monkeypatch.setitem(ALGORITHMS, stage, ALGORITHMS[stage] + 1)
    draft = begin(store, "scores", stage)
    assert (draft.artifact.name, draft.artifact.reused) == ("scores@2", False)


def test_force_makes_a_new_version_and_then_that_one_is_reused(store: Store) -> None:
    first = begin(store).complete()
    forced = begin(store, force=True)
    assert forced.artifact.name == "selection@2"
    assert not forced.artifact.reused
    second = forced.complete()
    assert second.identity == first.identity
    assert begin(store).artifact.name == "selection@2"


def test_an_interrupted_forced_run_is_gone_on_with(store: Store) -> None:
    begin(store).complete()
    assert begin(store, force=True).artifact.name == "selection@2"
    assert begin(store, force=True).artifact.name == "selection@2"


def test_lineage_and_ancestors(store: Store) -> None:
    selection = make(store)
    captions = make(store, "captions", inputs={"selection": selection})
    synthetic = make(store, "synthetic", inputs={"captions": captions})
    head = make(store, "head", inputs={"selection": selection})
    tuned = make(store, "head", inputs={"head": head, "synthetic": synthetic})

    assert store.inputs(tuned) == {"head": head, "synthetic": synthetic}
    assert store.ancestor(tuned, "head") == head
    assert store.ancestor(synthetic, "selection") == selection
    assert store.ancestor(selection, "head") is None
    rows = store.db.execute("select artifact, role, input from artifact_lineage order by 1, 2").fetchall()
    assert ("head@2", "synthetic", "synthetic@1") in rows
    assert len(rows) == 5


def test_models_are_recorded_without_the_address_of_a_server(store: Store) -> None:
    spec = ModelSpec(adapter="openai-server", name="llava", url="http://127.0.0.1:1/v1")
    made = make(store, "captions", models={"captioner": spec, "clip": CLIP})
    assert store.models(made) == {"captioner": spec.model_copy(update={"url": None}), "clip": CLIP}


def test_a_name_means_the_newest_complete_one(store: Store) -> None:
    make(store, tag="one")
    two = make(store, tag="two")
    make(store, tag="three", finish=False)
    assert store.resolve(None, "selection") == two
    assert store.resolve("selection", "selection") == two
    assert store.resolve("selection@1", "selection").version == 1


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("selection@3", "selection@3 is not finished", "synood selection"),
        ("selection@9", "there is no selection@9", "selection@1, selection@3"),
        ("captions@1", "there is no captions@1", "none yet"),
        ("head", "no complete head yet", "synood mine-labels"),
        ("scores", "no complete scores yet", "synood score"),
        ("selektion@1", "names no artifact", "selection"),
        ("../etc", "names no artifact", "kind@N"),
    ],
)
def test_names_that_mean_nothing(store: Store, name: str, message: str, hint: str) -> None:
    make(store)
    make(store, tag="3", finish=False)
    store.db.execute("update artifacts set name = 'selection@3', version = 3 where version = 2")
    with pytest.raises(UsageError, match=message) as raised:
        store.resolve(name, "selection" if name.startswith("sel") else name.partition("@")[0])
    assert hint in (raised.value.hint or "")


def test_the_wrong_kind_is_refused(store: Store) -> None:
    make(store)
    with pytest.raises(UsageError, match="selection@1 is a selection; this command reads a head"):
        store.resolve("selection@1", "head")


def test_reused_is_no_part_of_an_artifact_being_equal(store: Store) -> None:
    made = make(store)
    assert replace(made, reused=True) == made


def test_dry_run_and_begin_agree_on_the_identity(store: Store) -> None:
    draft = begin(store, settings={"a": 1}, models={"clip": CLIP}, seed=3, digests={"photos": "x"})
    assert draft.artifact.identity == Draft.identity("select", {"a": 1}, {}, {"clip": CLIP}, 3, {"photos": "x"})
