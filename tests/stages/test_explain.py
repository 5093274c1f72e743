from __future__ import annotations

import numpy as np
import pytest
from torch.nn import functional

from synood_cli.config import MineSettings
from synood_cli.models.build import build_encoder
from synood_cli.stages.explain import explain
from synood_cli.store.heads import Head

SETTINGS = MineSettings(share=0.5, groups=4)


def by_label(rows):
    return {(row["label"], row["part_of_speech"]): row for row in rows}


def test_kept_and_dropped_are_those_of_the_head(make_run, models, selection, candidates, head):
    words = [*(f"thing {number}" for number in range(34)), *(f"quality {number}" for number in range(20))]
    rows = by_label(explain(make_run(), SETTINGS, models, selection, candidates, words))
    assert len(rows) == 54
    negative = {(label.text, label.part_of_speech): label for label in Head.read(head.folder).info.negative_labels}
    assert {key for key, row in rows.items() if row["kept"]} == set(negative)
    for kind, count, kept in (("noun", 34, 18), ("adj", 20, 10)):
        pool = {key: row for key, row in rows.items() if key[1] == kind}
        assert sorted(row["rank"] for row in pool.values()) == list(range(1, count + 1))
        assert {(row["of"], row["keeps"]) for row in pool.values()} == {(count, kept)}
        last = next(row for row in pool.values() if row["rank"] == kept)
        assert {row["cut"] for row in pool.values()} == {last["similarity"]}
        for key, row in pool.items():
            assert row["kept"] == (row["rank"] <= kept) == (row["similarity"] <= last["similarity"])
            if row["kept"]:
                assert row["similarity"] == pytest.approx(negative[key].similarity, abs=1e-6)


def test_the_numbers_of_one_candidate(make_run, models, selection, candidates):
    [row] = explain(make_run(), SETTINGS, models, selection, candidates, ["Thing_3"])
    encoder = build_encoder(models.clip_spec(), "cpu", "fp32")
    ind = functional.normalize(
        encoder.encode_texts([f"the nice {name}" for name in ("cat", "dog", "frog")]), dim=1
    ).numpy()
    things = functional.normalize(
        encoder.encode_texts([f"the nice thing {number}" for number in range(34)]), dim=1
    ).numpy()
    similarities = things @ ind.T
    percentiles = np.quantile(similarities, 0.95, axis=1)
    assert row["similarity"] == pytest.approx(percentiles[3], abs=1e-6)
    assert row["rank"] == 1 + int((percentiles < percentiles[3]).sum())
    order = np.argsort(-similarities[3])
    assert [near["label"] for near in row["nearest"]] == [("cat", "dog", "frog")[place] for place in order]
    np.testing.assert_allclose([near["similarity"] for near in row["nearest"]], similarities[3][order], atol=1e-6)
    share = "the 18 nouns that are least similar to the classes (0.5 of all)"
    assert row["rule"] in (f"kept: it is among {share}", f"dropped: it is not among {share}")


def test_what_names_a_class_or_is_no_candidate(make_run, models, selection, candidates):
    named, lost = explain(make_run(), SETTINGS, models, selection, candidates, ["DOGS", "zeppelin", "dogs"])
    assert (named["label"], named["kept"], named["rank"]) == ("dogs", False, None)
    assert named["rule"] == "dropped: it names the in-distribution class 'dog'"
    assert -1 <= named["similarity"] <= 1
    assert lost == {
        "label": "zeppelin", "kept": False, "part_of_speech": None, "similarity": None, "rank": None, "of": None,
        "keeps": None, "cut": None, "nearest": [], "rule": "it is no candidate",
    }  # fmt: skip


def test_a_word_of_both_parts_of_speech_and_none_asked(make_run, models, selection, candidates, store, head):
    candidates.write_text(candidates.read_text() + "\nadj,thing 5\n")
    rows = explain(make_run(), SETTINGS, models, selection, candidates, ["thing 5"])
    assert [row["part_of_speech"] for row in rows] == ["noun", "adj"]
    before = len(store.artifacts())
    assert explain(make_run(), SETTINGS, models, selection, candidates, []) == []
    assert len(store.artifacts()) == before
