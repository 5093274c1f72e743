from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from pipeline import Silent, photograph
from synood_cli.config import SelectSettings
from synood_cli.data.folders import scan_classes
from synood_cli.data.images import TOO_THIN, read_image
from synood_cli.data.known_files import CHANGED, TOUCHED
from synood_cli.errors import SynoodError
from synood_cli.models.build import build_encoder
from synood_cli.models.revisions import resolve_revision
from synood_cli.stages.embed import SHARD_ROWS, Item, embed_images, embed_texts, folder_items, load_features, spread
from synood_cli.stages.heads import embed_selection
from synood_cli.stages.select import select
from synood_cli.stages.selected import selected_images
from synood_cli.store.files import sha256_file
from synood_cli.store.store import Store
from synood_cli.store.workspace import Workspace


@pytest.fixture
def spec(models, store):
    return resolve_revision(models.clip_spec(), store.file_digest)


def items(photos):
    return [Item(path, f"{path.parent.name}/{path.name}", path.parent.name) for path in sorted(photos.glob("*/*.jpg"))]


def image_artifact(run, spec, found, digest="d"):
    return embed_images(run, spec, found, digest=digest, precision="fp32", what="photos")


def test_image_features_are_the_encoders_own_before_normalisation(store, make_run, spec, photos):
    found = items(photos)
    made = image_artifact(make_run(batch_size=5), spec, found)
    encoder = build_encoder(spec, "cpu", "fp32")
    one_by_one = torch.cat([encoder.encode_images(encoder.prepare(read_image(item.place))[None]) for item in found])
    torch.testing.assert_close(torch.tensor(load_features(made.folder)), one_by_one, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(one_by_one.norm(dim=1), torch.ones(12))
    rows = [(row["position"], row["item"], row["class_name"]) for row in store.rows(made, "embedded")]
    assert rows == [(n, item.name, item.class_name) for n, item in enumerate(found)]
    assert made.notes["clip"] == {
        "parameters": encoder.parameters,
        "quick_gelu": True,
        "width": 32,
        "logit_scale": encoder.logit_scale,
        "preprocessing": made.notes["clip"]["preprocessing"],
    }
    assert made.notes["clip"]["preprocessing"]["size"] == [32, 32]


def test_text_features_are_the_encoders_own(store, make_run, spec):
    texts = [f"the nice thing {number}" for number in range(300)]
    made = embed_texts(make_run(), spec, texts, precision="fp32", what="labels")
    features = load_features(made.folder)
    expected = build_encoder(spec, "cpu", "fp32").encode_texts(texts).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert (abs(np.linalg.norm(features, axis=1) - 1) > 0.1).all()
    assert [row["item"] for row in store.rows(made, "embedded")] == texts


def test_texts_that_are_embedded_already_are_taken_over(store, make_run, spec):
    texts = [f"the nice thing {number}" for number in range(600)]
    first = embed_texts(make_run(), spec, texts[:400], precision="fp32", what="labels")
    # An encoder that is asked for a known text would show: those features are altered in the store.
    path = first.folder / "shard-00000.safetensors"
    marked = load_file(path)["features"]
    marked[:, 0] = 7
    save_file({"features": marked}, path)
    mixed = [*texts[390:600:7], *texts[:390:5], *texts[400:410], texts[395], texts[395]]
    made = embed_texts(make_run(), spec, mixed, precision="fp32", what="labels")
    found = dict(zip(mixed, load_features(made.folder), strict=True))
    assert [row["item"] for row in store.rows(made, "embedded")] == mixed
    fresh = build_encoder(spec, "cpu", "fp32").encode_texts(texts).numpy()
    for number, text in enumerate(texts):
        if text in found:
            np.testing.assert_allclose(found[text], marked[number] if number < 400 else fresh[number], atol=1e-5)
    assert made.notes["clip"] == first.notes["clip"]
    whole = embed_texts(make_run(), spec, mixed[::-1], precision="fp32", what="labels")
    np.testing.assert_array_equal(load_features(whole.folder)[::-1], load_features(made.folder))
    assert whole.notes["clip"] == first.notes["clip"]


def test_texts_of_another_model_or_precision_or_lost_files_are_not_taken_over(store, make_run, spec):
    texts = [f"word {number}" for number in range(5)]
    first = embed_texts(make_run(), spec, texts, precision="fp32", what="labels")
    path = first.folder / "shard-00000.safetensors"
    save_file({"features": np.full((5, 32), 7, dtype=np.float32)}, path)
    other = embed_texts(make_run(), spec, texts, precision="bf16", what="labels")
    assert (load_features(other.folder) != 7).all()
    revised = spec.model_copy(update={"revision": "other"})
    assert (load_features(embed_texts(make_run(), revised, texts, precision="fp32", what="x").folder) != 7).all()
    path.unlink()
    again = embed_texts(make_run(), spec, texts[:4], precision="fp32", what="labels")
    expected = build_encoder(spec, "cpu", "fp32").encode_texts(texts[:4]).numpy()
    np.testing.assert_allclose(load_features(again.folder), expected, atol=1e-5)


def test_some_rows_of_features(tmp_path):
    rows = np.arange(14, dtype=np.float32).reshape(7, 2)
    save_file({"features": rows[:3]}, tmp_path / "shard-00000.safetensors")
    save_file({"features": rows[3:6]}, tmp_path / "shard-00001.safetensors")
    save_file({"features": rows[6:]}, tmp_path / "shard-00002.safetensors")
    for first, last in ((0, None), (0, 7), (2, 4), (3, 6), (5, 7), (6, 99), (1, 1), (7, 9)):
        np.testing.assert_array_equal(load_features(tmp_path, first, last), rows[first:last])


def test_an_unreadable_image_is_a_failure_and_has_no_row(store, make_run, spec, photos):
    whole = image_artifact(make_run(), spec, items(photos))
    (photos / "cat" / "2.jpg").write_bytes(b"")
    made = image_artifact(make_run(), spec, items(photos), digest="other")
    assert store.failures(made) == [("cat/2.jpg", "the file is empty (zero bytes)")]
    assert (made.items_done, made.items_failed) == (11, 1)
    rows = list(store.rows(made, "embedded"))
    assert [row["position"] for row in rows] == list(range(11))
    assert "cat/2.jpg" not in {row["item"] for row in rows}
    kept = np.delete(load_features(whole.folder), 2, axis=0)
    np.testing.assert_allclose(load_features(made.folder), kept, rtol=1e-4, atol=1e-5)


def test_a_picture_too_thin_for_the_model_is_a_lasting_failure(store, make_run, spec, photos):
    (photos / "cat" / "2.jpg").unlink()
    Image.new("1", (1, 40_000_000), 1).save(photos / "cat" / "2.jpg", "PNG", optimize=True)
    made = image_artifact(make_run(), spec, items(photos))
    assert store.failures(made) == [("cat/2.jpg", TOO_THIN)]
    assert made.items_done == 11
    again = image_artifact(make_run(), spec, items(photos))
    assert (again.name, again.reused) == (made.name, True)


def test_no_readable_image_at_all_is_an_error(make_run, spec, photos):
    for item in items(photos):
        item.place.write_bytes(b"no picture")
    with pytest.raises(SynoodError, match=r"none of the 12 images \(photos\) can be read; cat/0.jpg: not a picture"):
        image_artifact(make_run(), spec, items(photos))


def test_a_set_is_embedded_once_per_model_and_precision(make_run, spec, photos, checkpoints):
    first = image_artifact(make_run(), spec, items(photos))
    again = image_artifact(make_run(force=True, limit=3, seed=5), spec, items(photos))
    assert (again.name, again.reused) == (first.name, True)
    other_model = spec.model_copy(update={"revision": "other"})
    changed = [
        image_artifact(make_run(), spec, items(photos), digest="e"),
        image_artifact(make_run(), other_model, items(photos)),
        embed_images(make_run(), spec, items(photos), digest="d", precision="bf16", what="photos"),
    ]
    assert [made.name for made in changed] == ["features@2", "features@3", "features@4"]
    assert not any(made.reused for made in changed)


def test_an_interrupted_run_goes_on_at_the_next_shard(tmp_path, store, make_run, spec, photos):
    """The same twelve files over and over, one of them broken: failures that the store forgets are found again."""
    (photos / "dog" / "1.jpg").write_bytes(b"no picture")
    count = SHARD_ROWS + 5
    files = items(photos)
    found = [files[number % 12]._replace(name=f"{number}.jpg") for number in range(count)]
    bad = [f"{number}.jpg" for number in range(count) if number % 12 == 5]

    with pytest.raises(KeyboardInterrupt):
        image_artifact(make_run(batch_size=64, progress=Silent(stop_after=count)), spec, found)
    progress = Silent()
    made = image_artifact(make_run(batch_size=64, progress=progress), spec, found)
    assert progress.started == [("embed photos", count, SHARD_ROWS)]
    assert progress.finished == count - SHARD_ROWS
    with Store.open(Workspace.create(tmp_path / "undisturbed"), write=True) as other:
        whole = image_artifact(replace(make_run(batch_size=64), store=other), spec, found)
        assert made.digest == whole.digest
        assert store.failures(made) == other.failures(whole)
        assert (made.items_done, made.items_failed) == (whole.items_done, whole.items_failed)
    assert [name for name, _ in store.failures(made)] == bad
    assert len(load_features(made.folder)) == made.items_done == count - len(bad)


def test_an_image_that_can_be_read_on_resuming_is_embedded_after_all(store, make_run, spec, photos):
    broken = photos / "cat" / "0.jpg"
    broken.write_bytes(b"no picture")
    one = Item(broken, "first", "cat")
    found = [one, *(items(photos)[1]._replace(name=str(number)) for number in range(SHARD_ROWS))]
    with pytest.raises(KeyboardInterrupt):
        image_artifact(make_run(batch_size=64, progress=Silent(stop_after=len(found))), spec, found)
    photograph(broken, 0)
    made = image_artifact(make_run(batch_size=64), spec, found)
    assert (made.items_done, made.items_failed) == (len(found), 0)
    assert [row["item"] for row in store.rows(made, "embedded")] == [item.name for item in found]
    assert len(load_features(made.folder)) == len(found)


def test_spread_covers_a_list_from_end_to_end():
    assert spread(range(10), None) == spread(range(10), 10) == range(10)
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread(range(10), 1) == [0]


def test_features_depend_neither_on_the_batch_size_nor_on_images_that_cannot_be_read(make_run, spec, photos):
    """Bit for bit, on the CPU."""
    found = items(photos)
    whole = load_features(image_artifact(make_run(batch_size=5), spec, found, "whole").folder)
    backwards = load_features(image_artifact(make_run(batch_size=3), spec, found[::-1], "backwards").folder)
    np.testing.assert_array_equal(backwards[::-1], whole)
    found[1].place.write_bytes(b"no picture")
    broken = load_features(image_artifact(make_run(batch_size=5), spec, found, "broken").folder)
    np.testing.assert_array_equal(broken, np.delete(whole, 1, axis=0))


def test_what_is_embedded_of_a_selection_is_what_was_selected(store, make_run, spec, photos, selection):
    """Other photographs of the same size, put back afterwards: none of theirs is kept, and `force` is not needed."""
    wanted = embed_selection(make_run(), spec, selection, "fp32")
    contents = {path: path.read_bytes() for path in photos.glob("*/*.jpg")}
    with Store.open(Workspace.create(photos.parent / "other"), write=True) as other:
        run = make_run(store=other)
        chosen = select(run, SelectSettings(per_class=3), photos)
        for number, path in enumerate(contents):
            if number % 2:
                photograph(path, 500 + number, detail=1)
        first = embed_selection(run, spec, chosen, "fp32")
        reasons = {reason for _, reason in other.failures(first)}
        assert reasons == {CHANGED}
        for path, content in contents.items():
            path.write_bytes(content)
        cured = embed_selection(run, spec, chosen, "fp32")
        assert (cured.items_done, cured.items_failed) == (9, 0)
        np.testing.assert_array_equal(load_features(cured.folder), load_features(wanted.folder))
        assert cured.digest == wanted.digest
        digests = {row["sha256"] for row in other.rows(cured, "embedded")}
        assert digests == {image.sha256 for image in selected_images(other, chosen)}


def test_an_image_of_a_set_that_is_touched_meanwhile_is_a_failure(store, make_run, spec, photos):
    images = scan_classes(photos).images
    found = folder_items(images)
    content = images[0].path.read_bytes()
    photograph(images[0].path, 900, detail=1)
    made = image_artifact(make_run(), spec, found)
    assert store.failures(made) == [(images[0].name, TOUCHED)]
    images[0].path.write_bytes(content)
    cured = image_artifact(make_run(), spec, folder_items(images))
    assert (cured.items_done, cured.items_failed) == (12, 0)
    assert [row["sha256"] for row in store.rows(cured, "embedded")] == [sha256_file(image.path) for image in images]
