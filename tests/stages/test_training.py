"""The two trainings of a head: train-proj and train-labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline import redraw
from synood_cli.config import MineSettings, SelectSettings, TrainLabelsSettings, TrainProjectionSettings
from synood_cli.data.images import read_image
from synood_cli.errors import ModelError, StoreError, UsageError
from synood_cli.method.boundary import threshold_at_tpr
from synood_cli.method.projection import Projection, train_projection
from synood_cli.models.build import build_encoder
from synood_cli.stages import train_labels as label_stage
from synood_cli.stages import train_proj as projection_stage
from synood_cli.stages.heads import newest_head
from synood_cli.stages.mine_labels import mine_labels
from synood_cli.stages.select import select
from synood_cli.stages.selected import selected_images
from synood_cli.store.heads import Calibration, Head
from synood_cli.store.maintenance import gc

PROJECTION = TrainProjectionSettings(epochs=2, batch_size=8, tpr=0.6)
LABELS = TrainLabelsSettings(epochs=3, batch_size=4, learning_rate=0.05, tpr=0.6)


def encoded(models, paths):
    encoder = build_encoder(models.clip_spec(), "cpu", "fp32")
    return encoder.encode_images(torch.stack([encoder.prepare(read_image(path)) for path in paths]))


def pair_features(store, models, selection, synthetic):
    """F of the synthetic and of the selected images, in the order of the pairs, and the class of each."""
    made = {row["image_id"]: synthetic.folder / row["path"] for row in store.rows(synthetic, "synthetic_images")}
    chosen = selected_images(store, selection)
    classes = [("cat", "dog", "frog").index(image.class_name) for image in chosen]
    syn = encoded(models, [made[image.image_id] for image in chosen])
    return chosen, syn, encoded(models, [image.path for image in chosen]), torch.tensor(classes)


def eq2(head, image, permutation_seed=0):
    """Eq. 2 over the head's groups, plainly."""
    ind, negatives = (torch.tensor(head.tensors[name]).double() for name in ("ind_features", "negative_features"))
    mass = torch.exp(image.double() @ ind.T / head.info.temperature).sum(dim=1)
    groups = head.info.groups
    order = torch.randperm(len(negatives), generator=torch.Generator().manual_seed(permutation_seed))
    size = len(negatives) // groups
    negative = torch.exp(image.double() @ negatives.T / head.info.temperature)
    shares = [mass / (mass + negative[:, order[n * size : (n + 1) * size]].sum(dim=1)) for n in range(groups)]
    return torch.stack(shares).mean(dim=0)


def assignments(store, artifact):
    return {row["image_id"]: (row["label"], row["similarity"]) for row in store.rows(artifact, "assignments")}


def test_projection_is_trained_on_the_pairs(store, make_run, models, selection, head, synthetic):
    made = projection_stage.train_projection(make_run(seed=3), PROJECTION, head, synthetic)
    before, after = Head.read(head.folder), Head.read(made.folder)
    chosen, syn, ind, classes = pair_features(store, models, selection, synthetic)
    negatives = torch.tensor(before.tensors["negative_features"])
    similarity = functional.normalize(syn, dim=1) @ negatives.T
    nearest = similarity.argmax(dim=1)
    labels = [before.info.negative_labels[n].text for n in nearest.tolist()]
    found = assignments(store, made)
    assert {image.image_id: label for image, label in zip(chosen, labels, strict=True)} == {
        image_id: label for image_id, (label, _) in found.items()
    }
    for image, best in zip(chosen, similarity.amax(dim=1).tolist(), strict=True):
        assert found[image.image_id][1] == pytest.approx(best, abs=1e-5)

    sorted_labels = sorted(set(nearest.tolist()))
    targets = torch.cat([torch.tensor([3 + sorted_labels.index(n) for n in nearest.tolist()]), classes])
    text = torch.cat([torch.tensor(before.tensors["ind_features"]), negatives[sorted_labels]])
    expected, losses = train_projection(
        torch.cat([syn, ind]),
        targets,
        text,
        logit_scale=before.info.clip.logit_scale,
        epochs=2,
        batch_size=8,
        learning_rate=1e-3,
        weight_decay=1e-5,
        cosine_to=None,
        generator=torch.Generator().manual_seed(3),
    )
    for name, weight in expected.state_dict().items():
        np.testing.assert_allclose(after.projection[name], weight.numpy(), atol=2e-4)
    steps = list(store.rows(made, "training_steps"))
    assert [(row["step"], row["epoch"]) for row in steps] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    np.testing.assert_allclose([row["loss"] for row in steps], losses, rtol=1e-3)
    assert after.info.method == "+ projection"
    assert made.notes["assigned_labels"] == len(sorted_labels)


def test_projection_leaves_the_labels_alone_and_sets_its_own_threshold(
    store, make_run, models, selection, head, synthetic
):
    made = projection_stage.train_projection(make_run(), PROJECTION, head, synthetic)
    before, after = Head.read(head.folder), Head.read(made.folder)
    for name in ("ind_features", "negative_features"):
        assert after.tensors[name].tobytes() == before.tensors[name].tobytes()
    assert list(store.rows(made, "labels")) == [{**row, "artifact_id": made.id} for row in store.rows(head, "labels")]
    _, _, ind, _ = pair_features(store, models, selection, synthetic)
    projection = Projection(32, torch.Generator())
    projection.load_state_dict({name: torch.tensor(value) for name, value in after.projection.items()})
    scores = eq2(after, projection(ind).detach()).sort(descending=True).values
    # 60% of nine is more than five.
    assert after.info.threshold == pytest.approx(threshold_at_tpr(scores, 0.6), abs=2e-5)
    assert after.info.threshold != before.info.threshold
    assert after.info.calibration == Calibration(images=9, source="selection@1", tpr=0.6, trained_on=True)
    assert (made.items_done, made.items_failed) == (31, 0)


def test_labels_that_are_assigned_are_tuned_and_no_other(store, make_run, models, selection, head, synthetic):
    made = label_stage.train_labels(make_run(), LABELS, head, synthetic)
    before, after = Head.read(head.folder), Head.read(made.folder)
    assigned = {label for label, _ in assignments(store, made).values()}
    assert {label.text for label in after.info.negative_labels if label.tuned} == assigned
    assert {row["text"] for row in store.rows(made, "labels") if row["tuned"]} == assigned
    assert 0 < len(assigned) < 28
    old, new = before.tensors["negative_features"], after.tensors["negative_features"]
    changed = [label.text for row, label in enumerate(before.info.negative_labels) if (old[row] != new[row]).any()]
    assert set(changed) == assigned
    np.testing.assert_allclose(np.linalg.norm(new, axis=1), 1, atol=1e-6)
    assert after.tensors["ind_features"].tobytes() == before.tensors["ind_features"].tobytes()
    assert after.info.method == "+ labels"
    _, _, ind, _ = pair_features(store, models, selection, synthetic)
    scores = eq2(after, functional.normalize(ind, dim=1)).sort(descending=True).values
    assert after.info.threshold == pytest.approx(threshold_at_tpr(scores, 0.6), abs=2e-5)
    assert not after.info.calibration.trained_on


def test_one_step_on_the_labels_is_eq_14_by_hand(store, make_run, models, selection, head, synthetic):
    """One batch of all images: the new features are the old ones minus the rate times the gradient, at unit length."""
    settings = TrainLabelsSettings(epochs=1, batch_size=9, learning_rate=0.05)
    made = label_stage.train_labels(make_run(), settings, head, synthetic)
    before, after = Head.read(head.folder), Head.read(made.folder)
    _, syn, _, _ = pair_features(store, models, selection, synthetic)
    image = functional.normalize(syn, dim=1)
    labels = torch.tensor(before.tensors["negative_features"], requires_grad=True)
    nearest = (image @ labels.T).argmax(dim=1)
    unit = functional.normalize(labels, dim=1)
    loss = torch.zeros(())
    for row, label in enumerate(nearest.tolist()):
        logits = 100 * image @ unit[label]
        loss = loss - (logits[row] - logits.exp().sum().log()) / 9
    loss.backward()
    expected = functional.normalize(labels.detach() - 0.05 * labels.grad, dim=1)
    np.testing.assert_allclose(after.tensors["negative_features"], expected.numpy(), atol=2e-4)
    (step,) = store.rows(made, "training_steps")
    assert step["loss"] == pytest.approx(loss.item(), rel=1e-3)


def test_raw_labels_start_at_the_length_that_the_text_tower_gives_them(
    store, make_run, models, selection, head, synthetic
):
    """One batch of all images: raw features minus the rate times the gradient, then unit length."""
    settings = TrainLabelsSettings(epochs=1, batch_size=9, learning_rate=5.0, label_length="raw")
    made = label_stage.train_labels(make_run(), settings, head, synthetic)
    before, after = Head.read(head.folder), Head.read(made.folder)
    _, syn, _, _ = pair_features(store, models, selection, synthetic)
    image = functional.normalize(syn, dim=1)
    prompts = [before.info.templates[y.part_of_speech].format(y.text) for y in before.info.negative_labels]
    raw = build_encoder(models.clip_spec(), "cpu", "fp32").encode_texts(prompts).requires_grad_()
    unit = functional.normalize(raw, dim=1)
    np.testing.assert_allclose(before.tensors["negative_features"], unit.detach().numpy(), atol=1e-6)
    logits = 100 * unit[(image @ unit.T).argmax(dim=1)] @ image.T
    functional.cross_entropy(logits, torch.arange(9)).backward()
    expected = functional.normalize(raw.detach() - 5.0 * raw.grad, dim=1)
    np.testing.assert_allclose(after.tensors["negative_features"], expected.numpy(), atol=2e-4)
    other = label_stage.train_labels(make_run(), settings.model_copy(update={"label_length": "unit"}), head, synthetic)
    assert abs(Head.read(other.folder).tensors["negative_features"] - expected.numpy()).max() > 1e-2
    assert any(store.resolve(name, "features").stage == "embed-texts" for name in made.notes["features"])


def test_raw_labels_of_a_prompt_that_the_head_does_not_name_are_an_error(store, make_run, head, synthetic):
    document = json.loads((head.folder / "head.json").read_bytes())
    del document["templates"]["adj"]
    (head.folder / "head.json").write_text(json.dumps(document))
    raw = LABELS.model_copy(update={"label_length": "raw"})
    with pytest.raises(StoreError, match=r"head@1 does not say in which prompt its labels \(adj\)"):
        label_stage.train_labels(make_run(), raw, head, synthetic)


def test_settings_that_earlier_versions_did_not_have_count_only_where_they_are_used():
    for settings in (TrainLabelsSettings(), TrainProjectionSettings()):
        assert "cosine_per" not in settings.identity()
        assert settings.model_copy(update={"cosine_per": "epoch"}).identity()["cosine_per"] == "epoch"
    assert TrainLabelsSettings(label_length="raw").identity()["label_length"] == "raw"


def test_both_trainings_make_synood_whichever_comes_first(store, make_run, head, synthetic):
    projected = projection_stage.train_projection(make_run(), PROJECTION, head, synthetic)
    tuned = label_stage.train_labels(make_run(), LABELS, head, synthetic)
    first = Head.read(label_stage.train_labels(make_run(), LABELS, projected, synthetic).folder)
    second = Head.read(projection_stage.train_projection(make_run(), PROJECTION, tuned, synthetic).folder)
    assert first.info.method == second.info.method == "SynOOD"
    # Tuning does not see the projection, so it does the same with and without one, and keeps it.
    assert (
        first.tensors["negative_features"].tobytes() == Head.read(tuned.folder).tensors["negative_features"].tobytes()
    )
    weights = Head.read(projected.folder).projection
    assert {name: value.tobytes() for name, value in first.projection.items()} == {
        name: value.tobytes() for name, value in weights.items()
    }
    assert first.info.calibration.trained_on
    assert second.info.negative_labels == Head.read(tuned.folder).info.negative_labels


def test_a_training_that_is_run_again_does_not_build_on_its_own_result(store, make_run, head, synthetic):
    projected = projection_stage.train_projection(make_run(), PROJECTION, head, synthetic)
    both = label_stage.train_labels(make_run(), LABELS, projected, synthetic)
    untuned, unprojected = ("NegLabel", "+ projection"), ("NegLabel", "+ labels")
    assert store.newest("head").name == both.name
    assert newest_head(store, untuned).name == projected.name
    assert newest_head(store, unprojected).name == head.name
    # A first step that is run again and reused neither hides the later heads from gc nor makes them superseded.
    store.ask_for(head)
    assert newest_head(store, untuned).name == head.name
    removed = {removal.what for removal in gc(store, unfinished=False, superseded=True, dry_run=True)}
    assert not removed & {head.name, projected.name, both.name, synthetic.name}
    with pytest.raises(UsageError, match=r"none is \+ nothing"):
        newest_head(store, ("+ nothing",))


def test_the_same_seed_gives_the_same_head(make_run, head, synthetic):
    made = [
        projection_stage.train_projection(make_run(seed=seed, force=True), PROJECTION, head, synthetic)
        for seed in (1, 1, 2)
    ]
    first, second, other = ((a.folder / "head.safetensors").read_bytes() for a in made)
    assert first == second
    assert first != other


def test_a_pair_with_an_unreadable_image_is_left_out(store, make_run, selection, head):
    synthetic = redraw(store, selection, broken=4)
    made = projection_stage.train_projection(make_run(), PROJECTION, head, synthetic)
    path = [row["path"] for row in store.rows(synthetic, "synthetic_images")]
    ((item, reason),) = store.failures(made)
    assert item in path
    assert reason.startswith("not a picture")
    assert made.notes["images"] == len(assignments(store, made)) == 8
    assert Head.read(made.folder).info.calibration.images == 9


def test_limit_takes_the_first_pairs_by_rank(store, make_run, selection, head, synthetic):
    made = label_stage.train_labels(make_run(limit=3), LABELS, head, synthetic)
    first = {image.image_id for image in selected_images(store, selection) if image.rank == 1}
    assert set(assignments(store, made)) == first
    assert Head.read(made.folder).info.calibration.images == 9


def test_a_clip_with_other_weights_is_refused(
    make_run, models, selection, candidates, synthetic, tmp_path, checkpoints
):
    import shutil

    folder = shutil.copytree(checkpoints.clip, tmp_path / "clip")
    mine = MineSettings(share=0.5, groups=4)
    head = mine_labels(make_run(), mine, models.model_copy(update={"clip": str(folder)}), selection, candidates)
    weights = folder / "open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for stage, settings in (
        (projection_stage.train_projection, PROJECTION),
        (label_stage.train_labels, LABELS),
    ):
        with pytest.raises(ModelError, match=r"head@1 was made with another version of the CLIP .*: \w{12} then"):
            stage(make_run(), settings, head, synthetic)


def test_a_class_that_the_head_lacks_is_named(store, make_run, head, photos):
    (photos / "frog").rename(photos / "a newt")
    other = redraw(store, select(make_run(), SelectSettings(per_class=2), photos))
    with pytest.raises(UsageError, match=r"head@1 has no label for 1 of 3 classes: a newt$") as caught:
        projection_stage.train_projection(make_run(), PROJECTION, head, other)
    assert caught.value.hint == "its classes are cat, dog, frog: name the class folders alike"
    assert [a.name for a in store.artifacts("head")] == ["head@1"]
