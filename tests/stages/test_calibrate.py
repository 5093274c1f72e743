from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import binomtest

from pipeline import photograph
from published import changed_info, files_of, write_files
from synood_cli.config import CalibrateSettings, ScoreSettings
from synood_cli.errors import ModelError
from synood_cli.hub.pull import pull_head
from synood_cli.stages.calibrate import calibrate
from synood_cli.stages.score import chosen_threshold, score
from synood_cli.store.heads import Head

COUNT = 23


@pytest.fixture
def folder(tmp_path):
    for number in range(COUNT):
        photograph(tmp_path / "calibration" / f"{number:02}.png", 900 + number, detail=3 + number % 5)
    return tmp_path / "calibration"


def test_the_threshold_is_that_of_the_scores(store, make_run, head, folder):
    made = calibrate(make_run(), CalibrateSettings(tpr=0.8, level=0.9), head, folder)
    before, after = Head.read(head.folder), Head.read(made.folder)
    scored = sorted(row["score"] for row in store.rows(score(make_run(), ScoreSettings(), head, folder), "scores"))
    calibration = after.info.calibration
    assert calibration.scores == pytest.approx(scored, abs=1e-5)
    assert list(calibration.scores) == sorted(calibration.scores)
    below, lowest = calibration.scores[COUNT - 20 : COUNT - 18]  # ⌈0.8 · 23⌉ = 19 reach it
    assert below < after.info.threshold < lowest
    assert (calibration.images, calibration.source, calibration.trained_on) == (COUNT, "calibration", False)
    assert calibration.achieved == 19 / 23
    wanted = binomtest(19, 23).proportion_ci(0.9, method="exact")
    assert (calibration.low, calibration.high) == pytest.approx((wanted.low, wanted.high))
    # Nothing else of the head has changed.
    assert after.tensors.keys() == before.tensors.keys()
    assert all((after.tensors[name] == before.tensors[name]).all() for name in before.tensors)
    changed = {"threshold": before.info.threshold, "calibration": before.info.calibration}
    assert after.info.model_copy(update=changed) == before.info
    assert store.inputs(made) == {"head": head}


def test_a_threshold_for_any_other_tpr_follows(make_run, head, folder):
    made = calibrate(make_run(), CalibrateSettings(), head, folder)
    info = Head.read(made.folder).info
    for tpr, count in ((0.5, 12), (1.0, 23), (0.04, 1)):
        threshold = chosen_threshold(info, ScoreSettings(tpr=tpr), made.name)
        assert sum(score >= threshold for score in info.calibration.scores) == count
    assert chosen_threshold(info, ScoreSettings(), made.name) == info.threshold
    assert chosen_threshold(info, ScoreSettings(threshold=0.125), made.name) == 0.125


def test_unreadable_images_are_failures_and_do_not_count(store, make_run, head, folder):
    (folder / "03.png").write_bytes(b"no picture")
    made = calibrate(make_run(), CalibrateSettings(), head, folder)
    assert [item for item, _ in store.failures(made)] == ["03.png"]
    assert Head.read(made.folder).info.calibration.images == COUNT - 1


def test_asked_again_it_answers_from_the_store(make_run, head, folder):
    first = calibrate(make_run(), CalibrateSettings(), head, folder)
    again = calibrate(make_run(seed=5), CalibrateSettings(), head, folder)
    assert (again.name, again.reused) == (first.name, True)
    assert calibrate(make_run(), CalibrateSettings(tpr=0.5), head, folder).name == "head@3"
    assert calibrate(make_run(limit=5), CalibrateSettings(), head, folder).name == "head@4"


def test_a_published_head_that_is_calibrated_is_not_the_published_one(store, make_run, head, folder, models, tmp_path):
    published = write_files(tmp_path / "published", files_of(store, head))
    pulled = pull_head(store, str(published), clip=Path(models.clip))
    made = calibrate(make_run(), CalibrateSettings(), pulled, folder)
    before, after = Head.read(pulled.folder), Head.read(made.folder)
    assert before.info.publication is not None
    assert after.info.publication is None
    assert after.tensors["ind_features"].dtype == "float32"
    assert all((after.tensors[name] == before.tensors[name]).all() for name in before.tensors)


def test_a_clip_that_is_run_otherwise_is_refused(store, make_run, head, folder, models, tmp_path):
    wrong = changed_info(files_of(store, head), clip__quick_gelu=not Head.read(head.folder).info.clip.quick_gelu)
    pulled = pull_head(store, str(write_files(tmp_path / "published", wrong)), clip=Path(models.clip))
    with pytest.raises(ModelError, match="head@2 was made with a CLIP whose quick_gelu is"):
        calibrate(make_run(), CalibrateSettings(), pulled, folder)
