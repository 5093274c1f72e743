"""Which members of a tar shard are pictures, labels and companions."""

from __future__ import annotations

from pathlib import Path

from image_set_files import write_tar
from pipeline import photograph
from synood_cli.data.tar_samples import Sample, tar_samples
from synood_cli.data.tar_shards import scan_tars


def test_one_picture_a_sample_and_its_companions_are_strays() -> None:
    found = tar_samples(
        ["a/0.jpg", "a/0.cls", "a/0.mask.png", "a/0.seg.PNG", "a/0.txt", "a/0.npy", "a/1.JPG", "b/0.png", ".x.jpg"]
    )
    assert found.samples == [Sample("a/0.jpg", {"cls": "a/0.cls"}), Sample("a/1.JPG", {}), Sample("b/0.png", {})]
    assert found.strays == ["a/0.mask.png", "a/0.seg.PNG", "a/0.npy"]
    assert found.problems == []


def test_names_with_dots_find_their_labels() -> None:
    names = [f"clip7.frame{number}.{ending}" for number in (1, 2) for ending in ("jpg", "cls", "mask.png")]
    found = tar_samples(names)
    assert found.samples == [
        Sample(f"clip7.frame{number}.jpg", {"cls": f"clip7.frame{number}.cls"}) for number in (1, 2)
    ]
    assert found.strays == ["clip7.frame1.mask.png", "clip7.frame2.mask.png"]
    unlabelled = tar_samples(["2020.01.jpg", "2020.02.jpg"])
    assert [sample.image for sample in unlabelled.samples] == ["2020.01.jpg", "2020.02.jpg"]
    assert tar_samples(["1.left.png", "1.json"]).samples == [Sample("1.left.png", {"json": "1.json"})]


def test_what_cannot_be_told_apart_is_refused_by_name() -> None:
    found = tar_samples(["0.jpg", "0.png", "0.cls", "1.jpg"])
    assert [sample.image for sample in found.samples] == ["1.jpg"]
    assert found.problems == [("0.jpg", "each is a picture of the same sample: 0.jpg, 0.png")]
    found = tar_samples(["0.left.png", "0.right.png", "0.cls"])
    assert (found.samples, found.strays) == ([], [])
    assert found.problems == [("0.left.png", "one label stands beside several pictures: 0.left.png, 0.right.png")]


def test_labels_and_masks_without_a_picture_are_strays() -> None:
    found = tar_samples(["0.cls", "1.json", "2.mask.png", "3.jpg", "3.other.cls"])
    assert [sample.image for sample in found.samples] == ["3.jpg"]
    assert found.strays == ["0.cls", "1.json", "2.mask.png", "3.other.cls"]


def test_a_shard_with_masks_has_as_many_images_as_one_without(tmp_path: Path) -> None:
    content = photograph(tmp_path / "a.png", 1).read_bytes()
    plain = [(f"{number}.{ending}", content if ending == "png" else b"cat") for number in range(3) for ending in
             ("png", "cls")]  # fmt: skip
    masks = [(f"{number}.mask.png", content) for number in range(3)]
    one, other = (
        scan_tars(write_tar(tmp_path / name, members))
        for name, members in (("1.tar", plain), ("2.tar", [*plain, *masks]))
    )
    assert [image.class_name for image in one.images] == [image.class_name for image in other.images] == ["cat"] * 3
    assert other.strays == [f"2.tar/{name}" for name, _ in masks]
