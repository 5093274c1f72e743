from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from image_set_files import write_dataset, write_list, write_shards, write_tar
from pipeline import photograph
from synood_cli.data.folders import folder_fingerprint
from synood_cli.data.image_sets import images_fingerprint, label_name, set_fingerprint
from synood_cli.data.sources import find_images, find_ind
from synood_cli.errors import UsageError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(6):
        photograph(tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png", number)
    return tmp_path / "photos"


def pictures(photos: Path) -> list[tuple[Path, str]]:
    return [(path, path.parent.name) for path in sorted(photos.glob("*/*.png"))]


def test_each_source_is_recognised_by_what_lies_there(tmp_path: Path, photos: Path) -> None:
    rows = [(str(path.relative_to(photos)), ["cat", "dog"].index(label)) for path, label in pictures(photos)]
    listed = write_list(tmp_path / "lists" / "set.TXT", rows)
    shards = write_shards(tmp_path / "shards", pictures(photos), per_shard=4)
    dataset = write_dataset(tmp_path / "dataset", pictures(photos))
    found = {
        "folder": find_images(photos, labelled=True),
        "list": find_images(listed, data_root=photos),
        "tar": find_images(shards),
        "dataset": find_images(dataset),
    }
    classes = ["cat"] * 3 + ["dog"] * 3
    for kind, images in found.items():
        assert images.kind == kind
        assert [image.class_name for image in images.images] == (["0"] * 3 + ["1"] * 3 if kind == "list" else classes)
        assert len({image.name for image in images.images}) == 6
        assert list(images.problems) == list(images.strays) == []
    assert [len(images.files) for images in found.values()] == [6, 6, 0, 0]
    assert len(find_images(shards / "shard-00004.tar").images) == 2
    assert [image.name for image in find_images(photos / "cat/0.png").images] == ["0.png"]
    assert find_images(photos).classes == []


def test_a_list_beside_its_images_needs_no_data_root(photos: Path) -> None:
    assert len(find_images(write_list(photos / "set.txt", [("cat/0.png", 3)])).images) == 1


def test_roots_lead_through_no_parent_and_go_where_the_system_goes(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "photos").symlink_to(photos)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    above = tmp_path / "link" / ".."
    listed = write_list(tmp_path / "elsewhere" / "set.txt", [("cat/0.png", 0)])
    given = [
        find_images(above / "photos", labelled=True),
        find_images(above / "set.txt", data_root=above / "photos"),
        find_images(above / listed.name, data_root=photos),
    ]
    assert [found.files[0].root for found in given] == [tmp_path / "elsewhere" / "photos"] * 2 + [photos]


def test_ind_images_without_class_folders_have_no_classes(tmp_path: Path, photos: Path) -> None:
    assert find_ind(photos).classes == ["cat", "dog"]
    assert find_ind(photos / "cat").classes == []
    with pytest.raises(UsageError, match="cannot read the folder"):
        find_ind(tmp_path / "none")


@pytest.mark.parametrize("name", ["a.tar.gz", "A.ZIP"])
def test_compressed_archives_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(UsageError, match="is compressed: its images cannot be read in place"):
        find_images(tmp_path / name)


def test_fingerprints_change_with_the_content_and_not_with_order_or_labels(tmp_path: Path, photos: Path) -> None:
    folder = find_images(photos, labelled=True)
    assert (
        images_fingerprint(folder.images) == folder_fingerprint(folder.files) == images_fingerprint(folder.images[::-1])
    )
    shards = write_shards(tmp_path / "shards", pictures(photos), per_shard=4)
    dataset = write_dataset(tmp_path / "dataset", pictures(photos))
    for place, touched in ((shards, shards / "shard-00000.tar"), (dataset, next(dataset.glob("*.arrow")))):
        found = find_images(place)
        known = images_fingerprint(found.images)
        assert known == images_fingerprint(found.images[::-1])
        assert known == images_fingerprint(found.renamed({"cat": "lion"}).images)
        assert known != images_fingerprint(found.images[:-1])
        os.utime(touched, ns=(1, 1))
        assert known != images_fingerprint(find_images(place).images)
    write_tar(shards / "shard-00000.tar", [("other.png", photos.joinpath("cat/0.png").read_bytes())])
    assert len(find_images(shards).images) == 3


def test_the_fingerprint_of_a_set_knows_its_problems_and_which_list_it_is(tmp_path: Path, photos: Path) -> None:
    folder = find_images(photos)
    looks = images_fingerprint(folder.images)

    def known(**changes: Any) -> str:
        return set_fingerprint(dataclasses.replace(folder, **changes), looks)

    same = [known(), known(problems=[]), known(place=tmp_path)]
    others = [
        known(problems=[("a.jpg", "broken symbolic link")]),
        known(problems=[("a.jpg", "permission denied")]),
        known(problems=[("b.jpg", "permission denied")]),
        known(kind="list"),
        known(kind="list", place=tmp_path / "other.txt"),
    ]
    assert (len(set(same)), len({*same, *others})) == (1, 6)
    assert known(problems=[("a", "1"), ("b", "2")]) == known(problems=[("b", "2"), ("a", "1")])
    (photos / "broken.jpg").symlink_to("nowhere")
    broken = find_images(photos)
    assert images_fingerprint(broken.images) == looks
    assert set_fingerprint(broken, looks) != known()


def test_labels_as_class_names() -> None:
    assert [label_name(label) for label in (None, "", -1, "-1", 0, "7", "cat")] == ["", "", "", "", "0", "7", "cat"]


def test_a_pipe_or_a_device_is_no_image_set(tmp_path: Path) -> None:
    for ending in ("", ".txt", ".tar", ".jpg"):
        os.mkfifo(tmp_path / f"pipe{ending}")
        with pytest.raises(UsageError, match="is a pipe or a device, not images"):
            find_images(tmp_path / f"pipe{ending}")
        with pytest.raises(UsageError, match="is a pipe or a device, not images"):
            find_ind(tmp_path / f"pipe{ending}")
    with pytest.raises(UsageError, match="is a pipe or a device, not images"):
        find_images(Path("/dev/zero"))
