import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from image_set_files import write_dataset, write_shards
from pipeline import Silent, photograph
from synood_cli.config import SelectSettings
from synood_cli.errors import UsageError
from synood_cli.stages.select import CHANGED, select
from synood_cli.stages.selected import class_folders, selected_images


def ranks(store, selection):
    return {
        (row["class_name"], store.image(row["image_id"])["name"]): row["rank"]
        for row in store.rows(selection, "selected_images")
    }


def test_keeps_the_most_bytes_per_pixel_of_each_class(store, make_run, photos):
    sizes = {}
    for path in sorted(photos.rglob("*.jpg")):
        with Image.open(path) as image:
            sizes[path.relative_to(photos).as_posix()] = path.stat().st_size / (image.width * image.height)
    selection = select(make_run(), SelectSettings(per_class=2), photos)

    expected = {}
    for class_name in ("cat", "dog", "frog"):
        names = sorted((name for name in sizes if name.startswith(class_name)), key=lambda name: -sizes[name])
        expected |= {(class_name, name): rank for rank, name in enumerate(names[:2], start=1)}
    assert ranks(store, selection) == expected
    for row in store.rows(selection, "selected_images"):
        assert row["complexity"] == sizes[store.image(row["image_id"])["name"]]
        assert row["measured"] == "file"
    assert selection.items_done == 6
    assert selection.items_failed == 0


def test_other_formats_are_measured_as_jpeg(store, make_run, tmp_path):
    flat = photograph(tmp_path / "photos/a/flat.png", 1, detail=64)
    busy = photograph(tmp_path / "photos/a/busy.png", 1, detail=1)
    selection = select(make_run(), SelectSettings(per_class=2), tmp_path / "photos")
    assert [(store.image(r["image_id"])["path"], r["measured"]) for r in store.rows(selection, "selected_images")] == [
        (busy, "jpeg95"),
        (flat, "jpeg95"),
    ]


class Meddling(Silent):
    """Somebody who does `something` to the photographs as soon as those of a class are measured."""

    def __init__(self, something):
        super().__init__()
        self.something = something

    def advance(self, items=1):
        super().advance(items)
        if self.finished == 4:
            self.something()


def test_a_photograph_that_vanishes_or_changes_between_two_looks_is_a_failure(store, make_run, photos):
    def meddle():
        (photos / "cat/0.jpg").unlink()
        photograph(photos / "cat/1.jpg", 99, size=(80, 80), detail=2)

    selection = select(make_run(progress=Meddling(meddle)), SelectSettings(per_class=3), photos)
    assert store.failures(selection) == [("cat/0.jpg", "no such file or folder"), ("cat/1.jpg", CHANGED)]
    assert {key for key in ranks(store, selection) if key[0] == "cat"} == {("cat", "cat/2.jpg"), ("cat", "cat/3.jpg")}


def test_an_image_cut_off_is_replaced_by_the_next(store, make_run, photos):
    best = photos / "cat/0.jpg"
    best.write_bytes(best.read_bytes()[:-200])
    selection = select(make_run(), SelectSettings(per_class=3), photos)
    assert len([key for key in ranks(store, selection) if key[0] == "cat"]) == 3
    assert ("cat", "cat/0.jpg") not in ranks(store, selection)
    [(item, reason)] = store.failures(selection)
    assert item == "cat/0.jpg"
    assert "truncated" in reason


def test_a_small_class_is_kept_and_named(store, make_run, photos):
    (photos / "dog/0.jpg").unlink()
    selection = select(make_run(), SelectSettings(per_class=4), photos)
    assert selection.notes["warnings"] == ["1 of 3 classes have fewer than 4 images; the smallest is dog with 3"]
    assert selection.items_done == 11


def test_a_class_without_usable_images_is_named(store, make_run, photos):
    for path in (photos / "dog").iterdir():
        path.write_bytes(b"")
    selection = select(make_run(), SelectSettings(per_class=1), photos)
    assert "class dog has no usable image and is left out" in selection.notes["warnings"]
    assert class_folders(store, selection) == ["cat", "frog"]
    assert {reason for _, reason in store.failures(selection)} == {"the file is empty (zero bytes)"}


def test_reused_until_a_photograph_changes(store, make_run, photos):
    settings = SelectSettings(per_class=2)
    first = select(make_run(), settings, photos)
    again = select(make_run(), settings, photos)
    assert (again.name, again.reused, first.reused) == ("selection@1", True, False)
    photograph(photos / "cat/9.jpg", 99, detail=1)
    changed = select(make_run(), settings, photos)
    assert (changed.name, changed.reused) == ("selection@2", False)
    assert changed.digest != first.digest


def test_the_same_photographs_elsewhere_have_the_same_digest(store, make_run, photos, tmp_path):
    settings = SelectSettings(per_class=2)
    first = select(make_run(), settings, photos)
    moved = tmp_path / "elsewhere"
    shutil.move(photos, moved)
    second = select(make_run(), settings, moved)
    assert second.name == "selection@2"
    assert second.digest == first.digest
    # what was selected at the old place is found at the new one
    assert all(image.path.is_file() for image in selected_images(store, first))


def test_photographs_given_from_above_are_found_when_the_folder_they_were_given_from_is_gone(
    store, make_run, photos, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    selection = select(make_run(), SelectSettings(per_class=1), Path("..") / photos.relative_to(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rmdir()
    assert all(image.path.is_file() for image in selected_images(store, selection))


def test_photographs_reached_another_way_are_selected_anew(store, make_run, photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    linked = select(make_run(), SelectSettings(per_class=1), tmp_path / "link")
    (tmp_path / "link").unlink()
    again = select(make_run(), SelectSettings(per_class=1), photos)
    assert (again.name, again.digest) == ("selection@2", linked.digest)
    assert all(image.path.is_file() for image in selected_images(store, again))


def test_goes_on_after_an_interruption(store, make_run, photos):
    settings = SelectSettings(per_class=2)
    with pytest.raises(KeyboardInterrupt):
        select(make_run(progress=Silent(stop_after=6)), settings, photos)
    [half] = store.artifacts("selection")
    assert half.status == "unfinished"
    assert {row["class_name"] for row in store.rows(half, "selected_images")} == {"cat"}
    progress = Silent()
    whole = select(make_run(progress=progress), settings, photos)
    assert progress.started == [("select", 12, 4)]
    assert whole.name == half.name
    assert whole.digest == select(make_run(force=True), settings, photos).digest


def test_going_on_keeps_the_failures_of_finished_classes(store, make_run, photos):
    (photos / "cat/0.jpg").write_bytes(b"")
    settings = SelectSettings(per_class=2)
    with pytest.raises(KeyboardInterrupt):
        select(make_run(progress=Silent(stop_after=6)), settings, photos)
    whole = select(make_run(), settings, photos)
    assert (whole.items_done, whole.items_failed) == (6, 1)
    assert [item for item, _ in store.failures(whole)] == ["cat/0.jpg"]


def test_going_on_knows_class_folders_of_any_bytes(store, make_run, tmp_path):
    for class_name in ("a\udcff", "b"):
        for index in range(4):
            photograph(tmp_path / "photos" / class_name / f"{index}.jpg", index)
    settings = SelectSettings(per_class=3)
    with pytest.raises(KeyboardInterrupt):
        select(make_run(progress=Silent(stop_after=6)), settings, tmp_path / "photos")
    progress = Silent()
    whole = select(make_run(progress=progress), settings, tmp_path / "photos")
    assert progress.started == [("select", 8, 4)]
    assert whole.items_done == 6


def test_names_of_any_bytes(store, make_run, tmp_path):
    names = ["a b.jpg", "it's.jpg", 'say "x".jpg', "new\nline.jpg", "🐼.jpg", os.fsdecode(b"\xff\xfe.jpg")]
    for index, name in enumerate(names):
        photograph(tmp_path / "photos" / "class\udcff" / name, index)
    selection = select(make_run(), SelectSettings(per_class=9), tmp_path / "photos")
    images = selected_images(store, selection)
    assert sorted(Path(image.name).name for image in images) == sorted(names)
    assert all(image.path.is_file() for image in images)
    assert class_folders(store, selection) == ["class\udcff"]


def test_first_part_covers_the_classes(store, make_run, photos):
    selection = select(make_run(), SelectSettings(per_class=4), photos)
    assert [image.class_name for image in selected_images(store, selection, 4)] == ["cat", "dog", "frog", "cat"]


def test_photographs_of_a_list_file(store, make_run, tmp_path):
    for number in range(4):
        photograph(tmp_path / "data" / "some dir" / f"{number}.jpg", number, detail=2 + number)
    path = tmp_path / "train.txt"
    path.write_text("some dir/0.jpg 207\nsome dir/1.jpg 207\nsome dir/2.jpg 0\nsome dir/3.jpg -1\ngone.jpg 0\n")
    plain = select(make_run(), SelectSettings(per_class=1), path, tmp_path / "data")
    assert [row["class_name"] for row in store.rows(plain, "selected_images")] == ["0", "207"]
    named = select(make_run(), SelectSettings(per_class=2, classes="imagenet-1k"), path, tmp_path / "data")
    rows = [(row["class_name"], store.image(row["image_id"])) for row in store.rows(named, "selected_images")]
    assert [(name, image["name"]) for name, image in rows] == [
        ("n01440764", "some dir/2.jpg"),
        ("n02099601", "some dir/0.jpg"),
        ("n02099601", "some dir/1.jpg"),
    ]
    assert all(image["path"].is_file() for _, image in rows)
    assert sorted(store.failures(named)) == [
        ("gone.jpg", "no such file or folder"),
        ("some dir/3.jpg", "has no class: it is out of distribution"),
    ]


def test_class_folders_that_are_numbers(store, make_run, photos):
    for number, name in enumerate(("cat", "dog", "frog")):
        (photos / name).rename(photos / str(number))
    made = select(make_run(), SelectSettings(per_class=1, classes="cifar-10"), photos)
    assert [row["class_name"] for row in store.rows(made, "selected_images")] == ["airplane", "automobile", "bird"]


def test_sources_that_nothing_can_be_selected_from(make_run, photos, tmp_path):
    pictures = [(path, path.parent.name) for path in sorted(photos.glob("*/*.jpg"))]
    for place, where in (
        (write_shards(tmp_path / "tar", pictures, 5), "in a tar archive"),
        (write_dataset(tmp_path / "set", pictures), "in a dataset on disk"),
    ):
        with pytest.raises(UsageError, match=rf"lie {where}: photographs are selected from folders and list files"):
            select(make_run(), SelectSettings(), place)
    path = tmp_path / "ood.txt"
    path.write_text("cat/0.jpg -1\n")
    with pytest.raises(UsageError, match="has no image with a class"):
        select(make_run(), SelectSettings(), path, photos)
