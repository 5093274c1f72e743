from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

import pytest

from synood_cli.data.folders import scan_images
from synood_cli.data.inputs import Found, check_inputs, find_images
from synood_cli.errors import UsageError


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_images_below_folders_keep_their_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "a", "1.jpg", "deep/er/2.PNG", "note.md", ".hidden.jpg", ".git/3.jpg")
    fill(tmp_path / "b", "1.jpg")
    found = sorted(find_images(["a", "b/"]))
    assert found == [Found("a/1.jpg", "1.jpg"), Found("a/deep/er/2.PNG", "deep/er/2.PNG"), Found("b/1.jpg", "1.jpg")]


def test_loops_end_and_the_folder_that_images_are_set_aside_in_is_left_out(tmp_path):
    fill(tmp_path, "1.jpg", "ood/2.jpg", "deep/3.jpg")
    (tmp_path / "deep/up").symlink_to("..")
    (tmp_path / "self").symlink_to("self")
    assert {found.name for found in find_images([str(tmp_path)], tmp_path / "ood")} == {"1.jpg", "deep/3.jpg"}


@pytest.mark.parametrize("first", ["link", "folder"])
def test_of_several_ways_to_a_folder_the_same_is_taken_as_in_a_workspace(tmp_path, first):
    made = {"link": lambda: (tmp_path / "z").symlink_to("b"), "folder": lambda: fill(tmp_path, "b/2.jpg")}
    for name in (first, *(made.keys() - {first})):
        made[name]()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/up").symlink_to("../b")
    names = [found.name for found in find_images([str(tmp_path)])]
    assert names == ["a/up/2.jpg"] == [image.name for image in scan_images(tmp_path).images]
    (tmp_path / "a/up").unlink()
    assert [found.name for found in find_images([str(tmp_path)])] == ["b/2.jpg"]


def test_lists_name_paths_from_their_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    odd = os.fsdecode(b"\xff.jpg")
    (tmp_path / "list.txt").write_bytes(b"a b/1.jpg 17\r\n\n../up.jpg -1\n/abs/2.jpg\n\xff.jpg\n# not a comment.jpg")
    outside = str(tmp_path).lstrip("/")
    assert next(find_images(["../list.txt"])) == Found("../a b/1.jpg", f"{outside}/a b/1.jpg")
    assert next(find_images(["../list.txt"], data_root=Path("/data"))).path == "/data/a b/1.jpg"
    (tmp_path / "list.txt").rename("list.txt")
    assert list(find_images(["list.txt"])) == [
        Found("a b/1.jpg", "a b/1.jpg"),
        Found("../up.jpg", f"{outside}/up.jpg"),
        Found("/abs/2.jpg", "abs/2.jpg"),
        Found(odd, odd),
        Found("# not a comment.jpg", "# not a comment.jpg"),
    ]


def test_stdin_is_read_as_it_comes(monkeypatch):
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as sender, os.fdopen(read, "rb") as stdin:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stdin))
        found = find_images(["-"])
        sender.write(b"1.jpg\n")
        assert next(found).path == "1.jpg"
        sender.write(b"2.jpg\n")
        assert next(found).path == "2.jpg"


def test_a_folder_that_cannot_be_read_is_an_item_with_its_reason(tmp_path):
    fill(tmp_path, "1.jpg", "gone/2.jpg")
    images = find_images([str(tmp_path)])
    assert next(images).name == "1.jpg"
    shutil.rmtree(tmp_path / "gone")
    assert list(images) == [Found(str(tmp_path / "gone"), "gone", "no such file or folder")]
    with pytest.raises(UsageError, match="no such file or folder"):
        check_inputs([str(tmp_path / "nowhere")])


def test_only_folders_are_watched(tmp_path):
    fill(tmp_path, "1.jpg")
    check_inputs([str(tmp_path), "-"])
    for given in ("-", str(tmp_path / "1.jpg")):
        with pytest.raises(UsageError, match="is no folder, and only folders grow"):
            check_inputs([given], folders_only=True)
