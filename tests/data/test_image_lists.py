from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline import photograph
from synood_cli.data.image_lists import missing_images, scan_list
from synood_cli.errors import UsageError


def listed(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "set.txt"
    path.write_bytes(content)
    return path


def test_labels_follow_the_last_space_and_the_order_is_that_of_the_file(tmp_path: Path) -> None:
    root = tmp_path / "images"
    odd = os.fsdecode(b"caf\xe9.png")
    for name in ("b/two words 7.png", "a.png", "  lead.png", odd):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        photograph(root / "new.png", 1).rename(root / name)
    content = b"\xef\xbb\xbfb/two words 7.png 7\r\n\na.png -1\n  lead.png  12 \n" + os.fsencode(odd) + b"\t0"
    found = scan_list(listed(tmp_path, content), root)
    assert [(image.name, image.class_name) for image in found.images] == [
        ("b/two words 7.png", "7"),
        ("a.png", ""),
        ("  lead.png", "12"),
        (odd, "0"),
    ]
    assert [image.place for image in found.images] == [root / image.name for image in found.images]
    assert found.problems == []
    assert found.classes == ["0", "12", "7"]


def test_bad_lines_missing_files_and_repetitions_are_problems(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png", 1)
    (tmp_path / "folder.png").mkdir()
    content = b"a.png 1\nmy cat.png\na.png 2\ngone.png 3\nb.png -2\nfolder.png 4\nc.png 1.5\nalone\nz\0.png 1\n"
    found = scan_list(listed(tmp_path, content), tmp_path)
    wrong = [
        ("set.txt, line 2", "not `relative/path label` with a label from -1: my cat.png"),
        ("set.txt, line 3", "a.png is listed already; its first line counts"),
        ("set.txt, line 5", "not `relative/path label` with a label from -1: b.png -2"),
        ("set.txt, line 7", "not `relative/path label` with a label from -1: c.png 1.5"),
        ("set.txt, line 8", "not `relative/path label` with a label from -1: alone"),
        ("set.txt, line 9", "not a path: it holds a zero byte"),
    ]
    assert list(found.problems) == wrong
    assert [image.name for image in found.images] == ["a.png", "gone.png", "folder.png"]  # nobody has looked yet
    looked = missing_images(found)
    assert [(image.name, image.class_name) for image in looked.images] == [("a.png", "1")]
    there = [("gone.png", "no such file or folder"), ("folder.png", "is a folder, not a file")]
    assert list(looked.problems) == [*wrong, *there]


def test_a_list_without_any_image_says_why(tmp_path: Path) -> None:
    lines = b"".join(b"%d.png 0\n" % number for number in range(5))
    with pytest.raises(UsageError, match=r"names no image below .*; 0.png: no such file.*; and 2 more$") as caught:
        scan_list(listed(tmp_path, lines), tmp_path)
    assert "--data-root DIR" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="names no image below"):
        scan_list(listed(tmp_path, b""), tmp_path)
    with pytest.raises(UsageError, match=r"cannot read the list .*: no such file"):
        scan_list(tmp_path / "none.txt", tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UsageError, match="a pipe or a device, not a file"):
        scan_list(tmp_path / "pipe.txt", tmp_path)


def test_the_first_image_that_is_there_may_come_late(tmp_path: Path) -> None:
    photograph(tmp_path / "there.png", 1)
    lines = b"".join(b"%d.png 0\n" % number for number in range(1001)) + b"there.png 1\n"
    found = scan_list(listed(tmp_path, lines), tmp_path)
    assert [image.name for image in found.images] == ["there.png"]


def test_absolute_paths_stay_what_they_are(tmp_path: Path) -> None:
    path = photograph(tmp_path / "elsewhere/a.png", 1)
    [image] = scan_list(listed(tmp_path, b"%b 3" % bytes(path)), tmp_path / "root").images
    assert (image.place, image.class_name) == (path, "3")
