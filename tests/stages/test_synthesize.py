import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from checkpoints import tiny_classifier
from hostile import merged
from pipeline import Silent, photograph
from synood_cli.config import CaptionSettings, Models, SelectSettings, SynthesizeSettings
from synood_cli.data.encoding import describe_encoding
from synood_cli.errors import ModelError, UsageError
from synood_cli.models.build import build_classifier, build_inpainter
from synood_cli.stages.caption import caption
from synood_cli.stages.select import select
from synood_cli.stages.synthesize import synthesize
from synood_cli.store.maintenance import verify

SETTINGS = SynthesizeSettings(steps=5, iterations=3, step_size=50.0)


@pytest.fixture
def models(checkpoints):
    return Models(inpainter=str(checkpoints.inpainter), classifier=str(checkpoints.classifier))


@pytest.fixture
def captions(make_run, photos, store, tmp_path):
    photograph(photos / "cat/lossless.png", 77, detail=1)
    selection = select(make_run(), SelectSettings(per_class=2), photos)
    file = tmp_path / "captions.jsonl"
    with file.open("w") as lines:
        for row in store.rows(selection, "selected_images"):
            name = store.image(row["image_id"])["name"]
            lines.write(json.dumps({"image": name, "elements": ["grass", "sky", name[-5]]}) + "\n")
    return caption(make_run(), CaptionSettings(), Models(), selection, file)


def pixels(store, synthetic):
    rows = store.rows(synthetic, "synthetic_images")
    return {row["image_id"]: np.asarray(Image.open(synthetic.folder / row["path"])).astype(int) for row in rows}


def trajectories(store, synthetic):
    rows = list(store.rows(synthetic, "iterations"))
    return {row["image_id"]: [r for r in rows if r["image_id"] == row["image_id"]] for row in rows}


def test_trajectories_and_files(store, make_run, captions, models):
    made = synthesize(make_run(), SETTINGS, models, captions)
    assert (made.items_done, made.items_failed) == (6, 0)
    for image_id, steps in trajectories(store, made).items():
        assert [step["iteration"] for step in steps] == [1, 2, 3]
        assert [step["kept"] for step in steps] == [0, 0, 1]
        assert steps[2]["gradient_norm"] is None
        assert all(step["gradient_norm"] >= 0 for step in steps[:2])
        assert all(step["top1_name"] == ("cat", "dog", "frog")[step["top1"]] for step in steps)
        row = next(r for r in store.rows(made, "synthetic_images") if r["image_id"] == image_id)
        assert (row["score"], row["kept_iteration"]) == (steps[2]["score"], 3)
        assert row["boundary"] == made.notes["boundary"]
        source = describe_encoding(store.image(image_id)["path"])
        written = describe_encoding(made.folder / row["path"])
        assert (written.format, written.tables, written.subsampling) == (
            source.format,
            source.tables,
            source.subsampling,
        )
        assert (row["format"], row["quality"]) == (source.format, source.quality)
    assert {row["format"] for row in store.rows(made, "synthetic_images")} == {"JPEG", "PNG"}


def test_the_boundary_is_what_95_percent_of_the_photographs_reach(store, make_run, captions, models):
    made = synthesize(make_run(), SETTINGS, models, captions)
    g = build_classifier(models.classifier_spec(), "cpu", "fp32")
    side = build_inpainter(models.inpainter_spec(), "cpu", "fp32").resolution
    selection = store.inputs(captions)["selection"]
    scores = []
    for row in store.rows(selection, "selected_images"):
        square = Image.open(store.image(row["image_id"])["path"]).resize((side, side), Image.Resampling.BICUBIC)
        logits = g.logits(torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255)
        scores.append(math.log(sum(math.exp(value) for value in logits[0].tolist())))
    assert made.notes["boundary"] == pytest.approx(min(scores), abs=1e-4)  # of 6, 95% are all
    assert made.notes["boundary_images"] == 6


def test_batches_change_nothing_but_rounding(store, make_run, captions, models):
    one = synthesize(make_run(batch_size=1), SETTINGS, models, captions)
    many = synthesize(make_run(batch_size=6, force=True), SETTINGS, models, captions)
    scores = [[row["score"] for row in store.rows(made, "iterations")] for made in (one, many)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    formats = {row["image_id"]: row["format"] for row in store.rows(one, "synthetic_images")}
    first, second = pixels(store, one), pixels(store, many)
    for image_id, file_format in formats.items():
        difference = np.abs(first[image_id] - second[image_id])
        # A grey level that is rounded the other way is one level; JPEG can turn it into a quantisation step.
        assert difference.max() <= (1 if file_format == "PNG" else 16)
        assert difference.mean() < 0.05


def test_a_run_interrupted_gives_what_an_undisturbed_one_gives(store, make_run, captions, models):
    with pytest.raises(KeyboardInterrupt):
        # the boundary counts six photographs, then the fourth image is stored
        synthesize(make_run(batch_size=1, progress=Silent(stop_after=10)), SETTINGS, models, captions)
    [half] = store.artifacts("synthetic")
    assert half.items_done in (3, 4)
    whole = synthesize(make_run(batch_size=1), SETTINGS, models, captions)
    assert whole.name == half.name
    undisturbed = synthesize(make_run(batch_size=1, force=True), SETTINGS, models, captions)
    assert undisturbed.name == "synthetic@2"
    assert whole.digest == undisturbed.digest


@pytest.mark.parametrize("stop_after", [1, 2, 6])
def test_a_batch_that_was_interrupted_is_done_again_as_a_whole(store, make_run, captions, models, stop_after):
    settings = SETTINGS.model_copy(update={"boundary": 1.0})
    with pytest.raises(KeyboardInterrupt):
        synthesize(make_run(batch_size=4, progress=Silent(stop_after=stop_after)), settings, models, captions)
    [half] = store.artifacts("synthetic")
    assert 0 <= half.items_done < 6
    resumed = synthesize(make_run(batch_size=4), settings, models, captions)
    assert (resumed.name, resumed.items_done) == (half.name, 6)
    undisturbed = synthesize(make_run(batch_size=4, force=True), settings, models, captions)
    assert resumed.digest == undisturbed.digest  # every file, score and gradient, bit for bit


def test_a_failure_in_a_batch_and_its_second_try_change_nothing_for_the_others(store, make_run, captions, models):
    settings = SETTINGS.model_copy(update={"boundary": 1.0})
    undisturbed = synthesize(make_run(batch_size=4), settings, models, captions)
    image = store.image(next(store.rows(captions, "prompts"))["image_id"])
    content = image["path"].read_bytes()
    image["path"].write_bytes(bytes(len(content)))
    broken = synthesize(make_run(batch_size=4, force=True), settings, models, captions)
    assert [(item, reason.split(";")[0]) for item, reason in store.failures(broken)] == [
        (image["name"], "has changed since it was selected")  # though its size is the same
    ]
    image["path"].write_bytes(content)
    cured = synthesize(make_run(batch_size=4, retry_failed=True), settings, models, captions)
    assert (cured.items_done, cured.items_failed) == (6, 0)
    assert cured.digest == undisturbed.digest


def test_a_boundary_that_was_found_without_some_photographs_is_found_again(store, make_run, captions, models):
    paths = [store.image(row["image_id"])["path"] for row in store.rows(captions, "prompts")]
    contents = [path.read_bytes() for path in paths]
    for path in paths[1:]:
        path.write_bytes(b"another photograph")
    with pytest.raises(KeyboardInterrupt):  # when the boundary is found
        synthesize(make_run(batch_size=1, progress=Silent(stop_after=7)), SETTINGS, models, captions)
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    [half] = store.artifacts("synthetic")
    assert (half.notes["boundary_images"], half.items_done) == (1, 0)
    made = synthesize(make_run(batch_size=1), SETTINGS, models, captions)
    assert made.notes["boundary_images"] == 6


def test_the_gradient_moves_the_energy_up_to_the_boundary(store, make_run, captions, models):
    settings = SETTINGS.model_copy(update={"boundary": 50.0, "step_size": 200.0})
    made = synthesize(make_run(), settings, models, captions)
    plain = synthesize(make_run(), settings.model_copy(update={"source": "plain"}), models, captions)
    moved = trajectories(store, made)
    for image_id, steps in trajectories(store, plain).items():
        assert {step["gradient_norm"] for step in steps} == {None}
        assert len(steps) == 1 or steps[0]["score"] == pytest.approx(steps[-1]["score"], abs=1e-4)
        assert moved[image_id][0]["score"] == pytest.approx(steps[0]["score"], abs=1e-4)
    rise = [steps[-1]["score"] - steps[0]["score"] for steps in moved.values()]
    assert sum(rise) > 0
    distance = list(
        store.db.query("select * from mean_trajectories where artifact = ? order by iteration", [made.name])
    )
    assert distance[-1]["mean_absolute_distance"] < distance[0]["mean_absolute_distance"]


def test_seeds_differ_by_run_and_image(store, make_run, captions, models):
    first = synthesize(make_run(), SETTINGS, models, captions)
    second = synthesize(make_run(seed=1), SETTINGS, models, captions)
    assert second.name == "synthetic@2"
    seeds = [row["seed"] for made in (first, second) for row in store.rows(made, "synthetic_images")]
    assert len(set(seeds)) == 12
    a, b = pixels(store, first), pixels(store, second)
    assert all(np.abs(a[key] - b[key]).max() > 1 for key in a)


def test_the_selection_is_part_of_the_question(store, make_run, captions, models, photos, tmp_path):
    """The same prompts of a larger selection: the boundary is another."""
    selection = store.inputs(captions)["selection"]
    first = synthesize(make_run(), SETTINGS, models, captions)
    larger = select(make_run(), SelectSettings(per_class=3), photos)
    file = tmp_path / "same.jsonl"
    with file.open("w") as lines:
        for row in store.rows(selection, "selected_images"):
            name = store.image(row["image_id"])["name"]
            lines.write(json.dumps({"image": name, "elements": ["grass", "sky", name[-5]]}) + "\n")
    again = caption(make_run(), CaptionSettings(), Models(), larger, file)
    assert again.digest == captions.digest
    second = synthesize(make_run(), SETTINGS, models, again)
    assert not second.reused
    assert second.notes["boundary_images"] == 9 > first.notes["boundary_images"]


def test_work_is_not_gone_on_with_for_photographs_selected_elsewhere(store, make_run, captions, models, photos):
    """Rows name photographs by their ids, and those of a moved folder have others."""
    with pytest.raises(KeyboardInterrupt):
        synthesize(make_run(batch_size=1, progress=Silent(stop_after=10)), SETTINGS, models, captions)
    before = store.inputs(captions)["selection"]
    moved = photos.rename(photos.with_name("moved"))
    selection = select(make_run(), SelectSettings(per_class=2), moved)
    assert (selection.digest, selection.name) == (before.digest, "selection@2")
    again = caption(make_run(force=True), CaptionSettings(), Models(), selection, moved.parent / "captions.jsonl")
    made = synthesize(make_run(batch_size=1), SETTINGS, models, again)
    assert made.name == "synthetic@2"
    assert made.items_done == len(list(store.rows(made, "synthetic_images"))) == 6


def test_a_photograph_replaced_since_it_was_selected_is_a_failure(store, make_run, captions, models):
    row = next(store.rows(captions, "prompts"))
    other = store.image(row["image_id"])
    Image.new("RGB", (200, 200), "red").save(other["path"])
    made = synthesize(make_run(), SETTINGS, models, captions)
    [(item, reason)] = store.failures(made)
    assert item == other["name"]
    assert reason.startswith("has changed since it was selected")
    assert made.items_done == 5


def test_a_photograph_that_went_bad_is_a_failure(store, make_run, captions, models):
    row = next(store.rows(captions, "prompts"))
    bad = store.image(row["image_id"])
    bad["path"].write_bytes(b"not an image any more")
    made = synthesize(make_run(), SETTINGS, models, captions)
    assert (made.items_done, made.items_failed) == (5, 1)
    assert [item for item, _ in store.failures(made)] == [bad["name"]]
    assert made.notes["boundary_images"] == 5


def test_what_failed_is_tried_again_and_the_rest_is_kept(store, make_run, captions, models):
    row = next(store.rows(captions, "prompts"))
    path = store.image(row["image_id"])["path"]
    content = path.read_bytes()
    path.write_bytes(b"gone for a while")
    first = synthesize(make_run(), SETTINGS, models, captions)
    path.write_bytes(content)
    assert synthesize(make_run(), SETTINGS, models, captions).name == first.name
    progress = Silent()
    second = synthesize(make_run(progress=progress, retry_failed=True), SETTINGS, models, captions)
    assert second.name == "synthetic@2"
    assert (second.items_done, second.items_failed) == (6, 0)
    assert progress.started == [("synthesize", 6, 5)]  # the boundary stands, one image is left to do
    before = {row["image_id"]: row for row in store.rows(first, "synthetic_images")}
    for row in store.rows(second, "synthetic_images"):
        if row["image_id"] in before:
            assert row["sha256"] == before[row["image_id"]]["sha256"]
            assert (second.folder / row["path"]).samefile(first.folder / row["path"])
    assert not list(verify(store))
    assert synthesize(make_run(retry_failed=True), SETTINGS, models, captions).reused
    assert store.newest("synthetic").name == second.name
    assert store.get(first.name).items_failed == 1


def test_a_classifier_of_other_classes_is_refused(store, make_run, captions, models, tmp_path):
    other = tmp_path / "birds"
    tiny_classifier(other, ["cat", "dog", "bird"])
    with pytest.raises(ModelError, match="does not know 1 of 3 classes: frog") as caught:
        synthesize(make_run(), SETTINGS, models.model_copy(update={"classifier": str(other)}), captions)
    assert "cat, dog, bird" in (caught.value.hint or "")
    config = json.loads((other / "config.json").read_text())
    config.pop("label_names", None)
    config.get("pretrained_cfg", {}).pop("label_names", None)
    nameless = tmp_path / "nameless"
    shutil.copytree(other, nameless)
    (nameless / "config.json").write_text(json.dumps(config))
    made = synthesize(make_run(), SETTINGS, models.model_copy(update={"classifier": str(nameless)}), captions)
    assert made.items_done == 6


def test_release_recipe(store, make_run, captions, models):
    settings = SynthesizeSettings(**SynthesizeSettings.release, steps=5)
    made = synthesize(make_run(), settings, models, captions)
    assert made.notes["boundary"] == 5.0
    for steps in trajectories(store, made).values():
        assert all(step["loss"] == pytest.approx((5.0 - step["score"]) ** 2, rel=1e-4) for step in steps)


def test_resolution(store, make_run, captions, models):
    made = synthesize(make_run(limit=1), SETTINGS.model_copy(update={"resolution": 40}), models, captions)
    [row] = store.rows(made, "synthetic_images")
    assert (row["width"], row["height"]) == (40, 40)
    assert np.asarray(Image.open(made.folder / row["path"])).shape == (40, 40, 3)


@pytest.mark.parametrize("known", [1000, 7])
def test_more_steps_than_the_scheduler_has_are_refused_before_anything_is_made(
    store, make_run, captions, models, tmp_path, known
):
    inpainter = tmp_path / "inpainter"
    shutil.copytree(models.inpainter, inpainter)
    merged(inpainter, "scheduler/scheduler_config.json", num_train_timesteps=known)
    models = Models(inpainter=str(inpainter), classifier=models.classifier)
    message = f"--steps 2000: the scheduler of this inpainter has {known} steps at most"
    with pytest.raises(UsageError, match=message) as refused:
        synthesize(make_run(), SynthesizeSettings(steps=2000), models, captions)
    assert refused.value.hint == f"--steps {min(known, 50)}"
    assert list(store.artifacts("synthetic")) == []
