from __future__ import annotations

import os

import pytest
import torch
from torch.nn.functional import normalize

from pipeline import Silent, photograph
from synood_cli.config import ScoreSettings, TrainProjectionSettings
from synood_cli.data.images import read_image
from synood_cli.errors import UsageError
from synood_cli.method.projection import Projection
from synood_cli.models.build import build_encoder
from synood_cli.stages.score import score, score_rows
from synood_cli.stages.train_proj import train_projection
from synood_cli.store.heads import Head

NAMES = [f"{number:02}.jpg" for number in range(40)]


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        photograph(tmp_path / "new" / name, 700 + number, detail=2 + number % 9)
    return tmp_path / "new"


def scored(store, made):
    return {row["item"]: row for row in store.rows(made, "scores")}


def plain(models, head, path):
    """(Eq. 2, nearest InD label, nearest negative label, its similarity) of one image."""
    encoder = build_encoder(models.clip_spec(), "cpu", "fp32")
    features = encoder.encode_images(encoder.prepare(read_image(path))[None])
    ind, negatives = (torch.tensor(head.tensors[name]) for name in ("ind_features", "negative_features"))
    if head.projection:
        projection = Projection(32, torch.Generator())
        projection.load_state_dict({name: torch.tensor(value) for name, value in head.projection.items()})
        image = projection(features).detach()[0]
    else:
        image = normalize(features, dim=1)[0]
    mass = (ind.double() @ image.double() / 0.01).exp().sum()
    groups = torch.randperm(28, generator=torch.Generator().manual_seed(0)).reshape(4, 7)
    shares = [mass / (mass + (negatives[group].double() @ image.double() / 0.01).exp().sum()) for group in groups]
    best = (negatives @ image).max(dim=0)
    label = head.info.ind_labels[int((ind @ image).argmax())].text
    return float(sum(shares) / 4), label, head.info.negative_labels[int(best.indices)].text, float(best.values)


def test_every_column_of_a_score(store, make_run, models, head, synthetic, folder):
    projected = train_projection(make_run(), TrainProjectionSettings(epochs=1), head, synthetic)
    for artifact, method in ((head, "NegLabel"), (projected, "+ projection")):
        made = score(make_run(), ScoreSettings(), artifact, folder)
        described = Head.read(artifact.folder)
        rows = scored(store, made)
        assert list(rows) == NAMES
        assert {(row["method"], row["head"]) for row in rows.values()} == {(method, artifact.name)}
        for name in NAMES[:6]:
            row = rows[name]
            value, label, negative, similarity = plain(models, described, folder / name)
            assert row["score"] == pytest.approx(value, abs=1e-4)
            assert (row["predicted_class"], row["nearest_negative"]) == (label, negative)
            assert row["nearest_similarity"] == pytest.approx(similarity, abs=1e-5)
        threshold = described.info.threshold
        assert all(row["decision"] == ("ind" if row["score"] >= threshold else "ood") for row in rows.values())
        assert made.notes["threshold"] == threshold


def test_a_threshold_of_ones_own_reads_the_same_scores_otherwise(store, make_run, head, folder):
    made = score(make_run(), ScoreSettings(), head, folder)
    values = sorted(row["score"] for row in scored(store, made).values())
    again = score(make_run(), ScoreSettings(threshold=values[30]), head, folder)
    assert (again.name, again.reused) == ("scores@1", True)
    rows = score_rows(store, again, values[30])
    assert sum(row["decision"] == "ind" for row in rows) == sum(value >= values[30] for value in values)
    assert [row["path"] for row in rows] == NAMES


def test_a_tpr_needs_calibration_scores(store, make_run, head, folder):
    with pytest.raises(UsageError, match=r"head@1 keeps no calibration scores .* 0.5 TPR") as caught:
        score(make_run(), ScoreSettings(tpr=0.5), head, folder)
    assert caught.value.hint == "synood calibrate head@1 FOLDER makes a head that does"
    with pytest.raises(UsageError, match="--threshold and --tpr both set the threshold"):
        score(make_run(), ScoreSettings(tpr=0.5, threshold=0.5), head, folder)
    assert store.artifacts("scores") == []


def test_unreadable_images_and_names_of_any_bytes(store, make_run, head, folder):
    odd = os.fsdecode(b"\xff.jpg")
    photograph(folder / "sub" / "x.jpg", 1).rename(folder / odd)
    (folder / "07.jpg").write_bytes(b"no picture")
    (folder / "lost.jpg").symlink_to("nowhere")
    made = score(make_run(), ScoreSettings(), head, folder)
    assert sorted(item for item, _ in store.failures(made)) == ["07.jpg", "lost.jpg"]
    assert (made.items_done, made.items_failed) == (40, 2)
    rows = scored(store, made)
    assert odd in rows
    assert "07.jpg" not in rows
    assert [row["position"] for row in rows.values()] == [n for n in range(41) if n != 7]


def test_one_image_and_the_first_few(store, make_run, head, folder):
    whole = scored(store, score(make_run(), ScoreSettings(), head, folder))
    one = scored(store, score(make_run(), ScoreSettings(), head, folder / "03.jpg"))
    assert list(one) == ["03.jpg"]
    assert one["03.jpg"]["score"] == pytest.approx(whole["03.jpg"]["score"], abs=1e-4)
    assert list(scored(store, score(make_run(limit=5), ScoreSettings(), head, folder))) == NAMES[:5]


def test_an_interrupted_run_scores_only_the_rest(store, make_run, head, folder):
    (folder / "02.jpg").write_bytes(b"no picture")
    with pytest.raises(KeyboardInterrupt):
        score(make_run(batch_size=2, progress=Silent(stop_after=16)), ScoreSettings(), head, folder)
    progress = Silent()
    made = score(make_run(batch_size=2, progress=progress), ScoreSettings(), head, folder)
    # Fifteen of the first sixteen are stored; the one that failed is tried again.
    assert progress.started == [("score", 40, 15)]
    assert progress.finished == 25
    whole = score(make_run(batch_size=2, force=True), ScoreSettings(), head, folder)
    assert (made.items_done, made.items_failed) == (whole.items_done, whole.items_failed) == (39, 1)
    assert store.failures(made) == store.failures(whole)
    resumed, undisturbed = scored(store, made), scored(store, whole)
    assert list(resumed) == list(undisturbed)
    for name, row in undisturbed.items():
        assert resumed[name]["score"] == pytest.approx(row["score"], abs=1e-4)


def test_interrupted_or_with_a_failure_scores_are_the_same_bit_for_bit(store, make_run, head, folder):
    undisturbed = score(make_run(batch_size=3), ScoreSettings(), head, folder)
    with pytest.raises(KeyboardInterrupt):
        score(make_run(batch_size=2, force=True, progress=Silent(stop_after=16)), ScoreSettings(), head, folder)
    [half] = [made for made in store.artifacts("scores") if made.status == "unfinished"]
    resumed = score(make_run(batch_size=3, force=True), ScoreSettings(), head, folder)
    assert (resumed.name, resumed.items_done) == (half.name, undisturbed.items_done)
    assert resumed.digest == undisturbed.digest


def test_a_folder_that_changed_is_scored_anew(make_run, head, folder):
    first = score(make_run(), ScoreSettings(), head, folder)
    assert score(make_run(seed=8), ScoreSettings(), head, folder).reused
    photograph(folder / "new.jpg", 3)
    assert score(make_run(), ScoreSettings(), head, folder).name == "scores@2"
    assert first.name == "scores@1"


def test_problems_are_those_of_now(store, make_run, head, folder):
    assert store.failures(score(make_run(), ScoreSettings(), head, folder)) == []
    (folder / "lost.jpg").symlink_to("nowhere")
    assert [item for item, _ in store.failures(score(make_run(), ScoreSettings(), head, folder))] == ["lost.jpg"]
    (folder / "lost.jpg").unlink()
    again = score(make_run(), ScoreSettings(), head, folder)
    assert (again.name, again.reused, store.failures(again)) == ("scores@1", True, [])


def test_problems_of_a_list_are_its_own(store, make_run, head, folder):
    for name, lines in {"good.txt": "00.jpg 1\n", "bad.txt": "00.jpg 1\nmissing.jpg 1\n"}.items():
        (folder / name).write_text(lines)
    bad = score(make_run(), ScoreSettings(), head, folder / "bad.txt")
    assert [item for item, _ in store.failures(bad)] == ["missing.jpg"]
    assert store.failures(score(make_run(), ScoreSettings(), head, folder / "good.txt")) == []
    (folder / "bad.txt").write_text("00.jpg 1\n")
    assert store.failures(score(make_run(), ScoreSettings(), head, folder / "bad.txt")) == []


def test_an_image_of_the_same_size_and_time_is_another_image(store, make_run, head, folder):
    first = scored(store, score(make_run(), ScoreSettings(), head, folder))
    names = ("00.jpg", "01.jpg")
    size = max((folder / name).stat().st_size for name in names)
    for name in names:  # what follows a picture is no part of it
        (folder / name).write_bytes((folder / name).read_bytes().ljust(size, b"\0"))
        os.utime(folder / name, (1e9, 1e9))
    assert not score(make_run(), ScoreSettings(), head, folder).reused
    for one, other in ((names[0], "x"), names[::-1], ("x", names[1])):
        (folder / one).rename(folder / other)
    second = score(make_run(), ScoreSettings(), head, folder)
    assert not second.reused
    assert scored(store, second)["00.jpg"]["score"] == pytest.approx(first["01.jpg"]["score"], abs=1e-4)


def test_no_images_is_said_before_anything_starts(store, make_run, head, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there are no images in"):
        score(make_run(), ScoreSettings(), head, tmp_path / "empty")
    assert store.artifacts("scores") == []
