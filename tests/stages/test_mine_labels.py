from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch.nn import functional

from synood_cli.config import MineSettings, Models, SelectSettings
from synood_cli.data.wordnet import Candidate, conjugated
from synood_cli.errors import ModelError, SynoodError, UsageError
from synood_cli.method.boundary import threshold_at_tpr
from synood_cli.models.build import build_encoder
from synood_cli.settings_file import Config
from synood_cli.stages.embed import load_features
from synood_cli.stages.mine_labels import excluded_names, mine_labels, plain
from synood_cli.stages.select import select
from synood_cli.store.heads import Head

SETTINGS = MineSettings(share=0.5, groups=4)


def plain_scores(tensors, features, temperature, groups):
    """Eq. 2 with `groups` (lists of rows), image by image, in double precision."""
    images = features / np.linalg.norm(features, axis=1, keepdims=True)
    scores = []
    for image in images.astype(np.float64):
        ind = np.exp(tensors["ind_features"].astype(np.float64) @ image / temperature).sum()
        negative = np.exp(tensors["negative_features"].astype(np.float64) @ image / temperature)
        scores.append(np.mean([ind / (ind + negative[group].sum()) for group in groups]))
    return np.array(scores)


def test_mined_labels_equal_a_plain_recomputation(store, make_run, head, models):
    encoder = build_encoder(models.clip_spec(), "cpu", "fp32")
    ind = functional.normalize(
        encoder.encode_texts([f"the nice {name}" for name in ("cat", "dog", "frog")]), dim=1
    ).numpy()
    nouns = [f"thing {number}" for number in range(34)]
    adjectives = [f"quality {number}" for number in range(20)]
    expected = []
    for words, kind, template in ((nouns, "noun", "the nice {}"), (adjectives, "adj", "This is a {} photo")):
        features = functional.normalize(encoder.encode_texts([template.format(word) for word in words]), dim=1).numpy()
        percentiles = np.quantile(features @ ind.T, 0.95, axis=1)
        order = np.argsort(percentiles, kind="stable")[: {"noun": 18, "adj": 10}[kind]]
        expected += [(words[place], kind, percentiles[place], features[place]) for place in order]
    made = Head.read(head.folder)
    assert [label.text for label in made.info.ind_labels] == ["cat", "dog", "frog"]
    np.testing.assert_allclose(made.tensors["ind_features"], ind, atol=1e-6)
    assert len(expected) == 28
    found = made.info.negative_labels
    assert [(label.text, label.part_of_speech) for label in found] == [(text, kind) for text, kind, _, _ in expected]
    np.testing.assert_allclose([label.similarity for label in found], [row[2] for row in expected], atol=1e-6)
    np.testing.assert_allclose(made.tensors["negative_features"], [row[3] for row in expected], atol=1e-5)
    rows = list(store.rows(head, "labels"))
    assert [row["text"] for row in rows] == ["cat", "dog", "frog", *(row[0] for row in expected)]
    assert [row["role"] for row in rows] == ["ind"] * 3 + ["negative"] * 28
    assert not any(row["tuned"] for row in rows)
    assert made.info.method == "NegLabel"


def test_the_threshold_keeps_the_wanted_share_of_the_selected_images(store, head):
    made = Head.read(head.folder)
    images = next(a for a in store.artifacts("features") if a.stage == "embed-images")
    permutation = torch.randperm(28, generator=torch.Generator().manual_seed(0)).numpy()
    scores = np.sort(plain_scores(made.tensors, load_features(images.folder), 0.01, permutation.reshape(4, 7)))
    assert len(scores) == 9
    # 95% of nine images is more than eight, so all nine reach the threshold.
    assert made.info.threshold == pytest.approx(threshold_at_tpr(torch.tensor(scores), 1), abs=2e-5)
    calibration = made.info.calibration
    assert (calibration.images, calibration.source, calibration.tpr) == (9, "selection@1", 0.95)
    assert not calibration.trained_on
    assert head.notes["threshold"] == made.info.threshold


def test_ungrouped_scores_and_another_share_of_images(make_run, models, selection, candidates, store):
    settings = MineSettings(share=0.5, groups=0, tpr=0.5)
    made = Head.read(mine_labels(make_run(), settings, models, selection, candidates).folder)
    images = next(a for a in store.artifacts("features") if a.stage == "embed-images")
    scores = np.sort(plain_scores(made.tensors, load_features(images.folder), 0.01, [slice(None)]))
    # Five of nine.
    assert made.info.threshold == pytest.approx(threshold_at_tpr(torch.tensor(scores), 5 / 9), abs=2e-5)


def test_the_head_records_its_clip_and_how_it_was_made(head, store, models):
    info = Head.read(head.folder).info
    assert info.clip.model == store.models(head)["clip"]
    assert info.clip.model.name == models.clip
    assert (info.clip.width, info.clip.quick_gelu) == (32, True)
    assert info.clip.logit_scale == pytest.approx(100)
    assert (info.temperature, info.groups, info.group_seed) == (0.01, 4, 0)
    assert set(info.versions) == {"synood", "torch", "open_clip_torch"}
    assert head.notes["candidates"] == 57
    assert head.notes["excluded"] == 3  # Cat, dogs and FROG


def test_candidates_are_embedded_once_whatever_is_mined_from_them(store, make_run, head, models, selection, candidates):
    before = [a.name for a in store.artifacts("features")]
    other = mine_labels(make_run(), MineSettings(share=0.25, percentile=0.5), models, selection, candidates)
    assert [a.name for a in store.artifacts("features")] == before
    assert len(Head.read(other.folder).info.negative_labels) == 9 + 5
    again = mine_labels(make_run(), SETTINGS, models, selection, candidates)
    assert (again.name, again.reused) == (head.name, True)


def test_template_ensembles(make_run, models, selection, candidates):
    templates = ["a photo of a {}", "the nice {}", "one {}"]
    settings = MineSettings(
        share=0.5, groups=4, ind_template=f"{templates[0]} | {templates[1]}", noun_template="|".join(templates)
    )
    made = Head.read(mine_labels(make_run(), settings, models, selection, candidates).folder)
    encoder = build_encoder(models.clip_spec(), "cpu", "fp32")

    def averaged(prompts, words):
        mean = np.mean(
            [
                functional.normalize(encoder.encode_texts([prompt.format(word) for word in words]), dim=1).numpy()
                for prompt in prompts
            ],
            0,
        )
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    ind = averaged(templates[:2], ["cat", "dog", "frog"])
    np.testing.assert_allclose(made.tensors["ind_features"], ind, atol=1e-6)
    nouns = [f"thing {number}" for number in range(34)]
    features = averaged(templates, nouns)
    percentiles = np.quantile(features @ ind.T, 0.95, axis=1)
    order = np.argsort(percentiles, kind="stable")[:18]
    assert [label.text for label in made.info.negative_labels[:18]] == [nouns[place] for place in order]
    np.testing.assert_allclose(made.tensors["negative_features"][:18], features[order], atol=1e-5)
    assert made.info.ind_template == settings.ind_template


def test_class_folders_of_imagenet_have_their_label_texts(make_run, models, photos, candidates):
    for name, other in (("cat", "n01440764"), ("dog", "n02099601"), ("frog", "7")):
        (photos / name).rename(photos / other)
    made = mine_labels(
        make_run(), SETTINGS, models, select(make_run(), SelectSettings(per_class=1), photos), candidates
    )
    labels = Head.read(made.folder).info.ind_labels
    assert [(label.class_name, label.text) for label in labels] == [
        ("7", "7"), ("n01440764", "tench"), ("n02099601", "Golden Retriever"),
    ]  # fmt: skip
    assert made.notes["warnings"] == [
        "1 label texts are numbers: `synood select --classes NAME` gives them their names"
    ]


def test_limit_takes_candidates_evenly(make_run, models, selection, candidates):
    made = mine_labels(make_run(limit=20), MineSettings(share=1.0), models, selection, candidates)
    words = {label.text for label in Head.read(made.folder).info.negative_labels}
    listed = [*[None] * 3, *(f"thing {n}" for n in range(34)), *(f"quality {n}" for n in range(20))]
    # Every third but for rounding, those that name a class excepted.
    assert words == {listed[place * 57 // 20] for place in range(20)} - {None}
    assert len(words) == 18


def test_an_unreadable_selected_image_is_left_out_of_the_calibration(
    store, make_run, models, selection, photos, candidates
):
    name = store.image(next(store.rows(selection, "selected_images"))["image_id"])["name"]
    (photos / name).write_bytes(b"no picture")
    made = mine_labels(make_run(), SETTINGS, models, selection, candidates)
    assert [item for item, _ in store.failures(made)] == [name]
    assert made.items_failed == 1
    assert Head.read(made.folder).info.calibration.images == 8


def test_a_class_folder_of_any_bytes(make_run, models, photos, candidates):
    odd = os.fsdecode(b"n01484850_grey\xff_cat")
    (photos / "cat").rename(photos / odd)
    selection = select(make_run(), SelectSettings(per_class=1), photos)
    info = Head.read(mine_labels(make_run(), SETTINGS, models, selection, candidates).folder).info
    assert [label.text for label in info.ind_labels] == ["dog", "frog", "grey\\xff cat"]
    assert info.labelled([odd, "frog"]) == {odd: 2, "frog": 1}


def test_names_of_classes_are_excluded_in_any_spelling():
    names = excluded_names(["great white shark", "fox", "Pony", "berries", "tench, Tinca tinca"])
    for word in (
        "Great_White-Shark",
        "great white sharks",
        "foxes",
        "ponies",
        "berry",
        "tench",
        "tinca  TINCA",
    ):
        assert plain(word) in names
    for word in ("shark", "white", "foxglove", "pon", "", "carp"):
        assert plain(word) not in names


def test_what_cannot_be_mined_says_why(make_run, models, selection, tmp_path):
    few = tmp_path / "few.txt"
    few.write_text("one\ntwo\n")
    with pytest.raises(SynoodError, match="15% of 2 candidates is not even one label"):
        mine_labels(make_run(), MineSettings(), models, selection, few)
    with pytest.raises(SynoodError, match=r"0\.1% of 2 candidates is not even one label"):
        mine_labels(make_run(), MineSettings(share=0.001), models, selection, few)
    with pytest.raises(UsageError, match=r"'the nice' has no \{\} for the label"):
        mine_labels(make_run(), MineSettings(noun_template="the nice"), models, selection, few)


def test_the_csp_pool_puts_a_superclass_behind_every_adjective(store, make_run, models, selection, candidates):
    settings = MineSettings(share=0.5, groups=4, pool="csp", csp_similarity=1.0)
    made = mine_labels(make_run(), settings, models, selection, candidates)
    info = Head.read(made.folder).info
    assert (info.method, info.pool, made.notes["method"]) == ("CSP", "CSP", "CSP")
    superclasses = {phrase.text.rsplit(" ", 1)[1] for phrase in conjugated([Candidate("odd", "adj")] * 500, 0)}
    adjectives = [label.text for label in info.negative_labels if label.part_of_speech == "adj"]
    assert len(adjectives) == 10
    assert all(text.startswith("quality ") and text.rsplit(" ", 1)[1] in superclasses for text in adjectives)
    assert info.templates["adj"] == "a nice photo of {}"
    nouns = [label.text for label in info.negative_labels if label.part_of_speech == "noun"]
    plain = mine_labels(make_run(), MineSettings(share=0.5, groups=4), models, selection, candidates)
    assert nouns == [text for text in texts_of(plain) if text.startswith("thing")]
    assert plain.settings.keys().isdisjoint({"pool", "csp_similarity", "csp_template"})


def texts_of(head):
    return [label.text for label in Head.read(head.folder).info.negative_labels]


def test_csp_drops_what_is_too_similar_to_any_class(store, make_run, models, selection, candidates):
    """A limit between the candidates' own largest similarities drops those above it, however many are asked for."""
    generous = MineSettings(share=1.0, groups=4, pool="csp", csp_similarity=1.0)
    everything = Head.read(mine_labels(make_run(), generous, models, selection, candidates).folder)
    largest = (everything.tensors["negative_features"] @ everything.tensors["ind_features"].T).max(axis=1)
    ordered = np.sort(largest)
    limit = float(ordered[28:30].mean())  # between two candidates, so that rounding decides nothing
    strict = generous.model_copy(update={"csp_similarity": limit})
    kept = Head.read(mine_labels(make_run(), strict, models, selection, candidates).folder)
    expected = {
        label.text for label, near in zip(everything.info.negative_labels, largest, strict=True) if near <= limit
    }
    assert {label.text for label in kept.info.negative_labels} == expected
    assert len(expected) == 29  # of 34 nouns and 20 adjectives


def test_the_release_of_csp_averages_its_prompts_before_normalisation(make_run, models, selection, candidates):
    settings = Config({}, "synood.toml").settings("mine-labels", "release", {"pool": "csp", "share": 0.5, "groups": 4})
    assert isinstance(settings, MineSettings)
    assert settings.candidates == "csp"
    made = Head.read(mine_labels(make_run(), settings, models, selection, candidates).folder)
    encoder = build_encoder(models.clip_spec(), "cpu", "fp32")
    around = ("a close-up photo of the nice {}.", "a photo with the nice {}.", "a good photo with the nice {}.")
    nouns = (*around, "a photo of the nice {}.", "{}", "the {}", "the good {}", "the nice {}")
    phrases = ("{}", "a nice photo of {}", "a good photo of {}", "a close-up photo of {}")

    def feature(prompts, text):
        mean = encoder.encode_texts([prompt.format(text) for prompt in prompts]).mean(dim=0)
        return (mean / mean.norm()).numpy()

    ind = np.stack([feature(nouns, name) for name in ("cat", "dog", "frog")])
    np.testing.assert_allclose(made.tensors["ind_features"], ind, atol=1e-6)
    for label, found in zip(made.info.negative_labels, made.tensors["negative_features"], strict=True):
        expected = feature(nouns if label.part_of_speech == "noun" else phrases, label.text)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    unit = settings.model_copy(update={"average": "unit"})
    other = Head.read(mine_labels(make_run(), unit, models, selection, candidates).folder)
    assert abs(other.tensors["ind_features"] - ind).max() > 1e-5


def test_lists_of_candidates_by_name_and_by_file(make_run, models, selection, candidates, head, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_file = MineSettings(share=0.5, groups=4, candidates="candidates.txt")
    assert mine_labels(make_run(), by_file, models, selection).name == head.name
    made = [
        mine_labels(make_run(limit=40), MineSettings(share=0.5, candidates=name), models, selection)
        for name in ("neglabel", "csp", "wordnet")
    ]
    assert len({texts_of(one)[0] for one in made} | {texts_of(one)[-1] for one in made}) > 2
    assert len({one.name for one in made}) == 3
    with pytest.raises(UsageError, match="there are no candidates 'neglable'") as caught:
        mine_labels(make_run(), MineSettings(candidates="neglable"), models, selection)
    assert caught.value.hint == "a file, or one of neglabel, csp, wordnet"


def test_the_share_is_of_all_candidates_and_what_names_a_class_is_never_kept(
    store, make_run, models, selection, candidates
):
    """37 nouns, of which three name a class: 90% are 33, and 34 are left to choose from."""
    made = mine_labels(make_run(), MineSettings(share=0.9, groups=0), models, selection, candidates)
    assert sum(text.startswith("thing") for text in texts_of(made)) == 33
    everything = mine_labels(make_run(), MineSettings(share=1.0, groups=0), models, selection, candidates)
    assert sum(text.startswith("thing") for text in texts_of(everything)) == len(texts_of(everything)) - 20 == 34


def test_csp_without_adjectives_is_refused(make_run, models, selection, tmp_path):
    path = tmp_path / "nouns.txt"
    path.write_text("anvil\nbassoon\n")
    with pytest.raises(UsageError, match="--pool csp needs adjectives"):
        mine_labels(make_run(), MineSettings(pool="csp"), models, selection, path)


def test_a_checkpoint_of_unknown_activation_says_so_before_it_is_loaded(make_run, selection, candidates, tmp_path):
    weights, notes = tmp_path / "weights.safetensors", []
    weights.write_bytes(b"no weights")
    clip = Models(clip="ViT-B-16", pretrained=str(weights))
    with pytest.raises(ModelError, match="CLIP encoder"):
        mine_labels(make_run(note=notes.append), SETTINGS, clip, selection, candidates)
    [note] = notes
    assert "a checkpoint file does not say its activation: ViT-B-16 runs it with GELU" in note
    assert "(all that come from OpenAI were) need --clip ViT-B-16-quickgelu" in note
