"""Nothing in a folder is passed over without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, features

from bad_images import photograph
from image_set_files import write_tar
from synood_cli.data.endings import EXTENSIONS, UNREADABLE, taken_for
from synood_cli.data.folders import scan_classes, scan_images
from synood_cli.data.images import read_image
from synood_cli.data.inputs import find_images
from synood_cli.data.passed_over import PassedOver
from synood_cli.data.tar_shards import scan_tars


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jfif", "c", "d.JPE", "notes.txt", "more.txt", ".hidden", "IMG_1.HEIC", "e.jp2"):
        (tmp_path / "inbox").mkdir(exist_ok=True)
        photograph().save(tmp_path / "inbox" / name, "JPEG")
    return tmp_path / "inbox"


TOLD = "3 other files were not looked at (.txt 2, without ending 1)"
UNREAD = "pictures in the format .heic are not read; convert it to JPEG or PNG"


def test_both_ways_through_a_folder_see_the_same(inbox: Path) -> None:
    found = scan_images(inbox)
    assert [image.name for image in found.images] == ["a.jpg", "b.jfif", "d.JPE"]
    assert [name for name, _ in found.problems] == ["IMG_1.HEIC", "e.jp2"]
    assert found.problems[0] == ("IMG_1.HEIC", UNREAD)
    assert str(PassedOver(sorted(found.strays))) == f"{TOLD}: c, more.txt, notes.txt"
    passed_over = PassedOver()
    streamed = sorted(find_images([str(inbox)], passed_over=passed_over))
    assert [(each.name, each.problem) for each in streamed if each.problem is None] == [
        (image.name, None) for image in found.images
    ]
    assert [(each.name, each.problem) for each in streamed if each.problem] == found.problems
    assert str(passed_over).startswith(TOLD)
    assert passed_over.document()["endings"] == {"": 1, ".txt": 2}


def test_in_a_labelled_folder_and_in_a_shard(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    inbox.rename(tmp_path / "root/cat")
    (tmp_path / "root/lost.heic").write_bytes(b"")
    found = scan_classes(tmp_path / "root")
    assert [name for name, _ in found.problems] == ["cat/IMG_1.HEIC", "cat/e.jp2", "lost.heic"]
    assert sorted(found.strays) == ["cat/c", "cat/more.txt", "cat/notes.txt"]
    write_tar(tmp_path / "s/0.tar", [("a.jpg", b""), ("b.heic", b""), ("c", b""), ("d.npy", b""), ("a.txt", b"")])
    (tmp_path / "s/index.json").write_text("{}")
    shards = scan_tars(tmp_path / "s")
    assert shards.problems == [("0.tar/b.heic", UNREAD)]
    assert shards.strays == ["index.json", "0.tar/c", "0.tar/d.npy"]


def test_what_pillow_reads_is_read_by_its_ending(tmp_path: Path) -> None:
    assert {".jfif", ".jpe", ".jif", ".apng"} < EXTENSIONS
    assert not EXTENSIONS & UNREADABLE
    assert taken_for("x.avif") == ("image" if features.check("avif") else "unreadable")
    if features.check("avif"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / "a.avif")
        red, green, blue = read_image(tmp_path / "a.avif").getpixel((4, 4))  # type: ignore[misc]
        assert red > 240 > 20 > max(green, blue)


def test_counts_are_short_for_however_many() -> None:
    passed_over = PassedOver(f"{number}.e{number % 20}" for number in range(1000))
    assert str(passed_over).startswith("1000 other files were not looked at (.e0 50, .e1 50, ")
    assert str(passed_over).endswith("12 more endings): 0.e0, 1.e1, 2.e2, 3.e3, 4.e4 and 995 more")
    assert str(PassedOver()) == ""
    assert str(PassedOver(["a"])) == "1 other file was not looked at (without ending 1): a"
