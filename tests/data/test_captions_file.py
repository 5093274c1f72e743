from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from synood_cli.data.captions_file import Caption, CaptionsFile
from synood_cli.errors import UsageError
from synood_cli.records import ImageFile


def written(path: Path, *lines: object) -> CaptionsFile:
    packed = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(packed))
    return CaptionsFile(path)


def test_a_caption_is_found_by_any_of_three_paths(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    captions = written(
        tmp_path / "captions.jsonl",
        {"image": str(photos / "dog/absolute.jpg"), "caption": "one"},
        {"image": "dog/by_root.jpg", "caption": "two"},
        {"image": "photos/dog/by_file.jpg", "caption": "three"},
        {"image": "./dog//untidy.jpg", "caption": "four"},
    )
    names = ["absolute", "by_root", "by_file", "untidy", "other"]
    answers = [captions.find(ImageFile(photos, f"dog/{name}.jpg", "dog")) for name in names]
    texts = ["one", "two", "three", "four"]
    assert answers == [*(Caption(text, None, line) for line, text in enumerate(texts, start=1)), None]
    assert len(captions) == 4
    assert captions.problems == []


def test_a_captions_file_beside_the_photographs(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    captions = written(tmp_path / "lists/captions.jsonl", {"image": "../photos/a.jpg", "caption": "one"})
    assert captions.find(ImageFile(tmp_path / "photos", "a.jpg", "")) == Caption("one", None, 1)


def test_the_absolute_path_goes_before_the_root_and_the_root_before_the_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    lines = [
        {"image": "root/a.jpg", "caption": "by file"},
        {"image": "a.jpg", "caption": "by root"},
        {"image": str(root / "a.jpg"), "caption": "absolute"},
    ]
    for count, text in ((1, "by file"), (2, "by root"), (3, "absolute")):
        caption = written(tmp_path / "captions.jsonl", *lines[:count]).find(ImageFile(root, "a.jpg", ""))
        assert caption == Caption(text, None, count)


def test_a_relative_root_and_a_relative_captions_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    captions = written(Path("captions.jsonl"), {"image": "root/a.jpg", "caption": "one"})
    assert captions.find(ImageFile(Path("root"), "a.jpg", "")) == Caption("one", None, 1)


def test_elements_apart_and_together_with_the_raw_text(tmp_path: Path) -> None:
    captions = written(
        tmp_path / "c",
        {"image": "a.jpg", "elements": ["sea", "sky"]},
        {"image": "b.jpg", "elements": ["sea"], "caption": "The sea.", "model": "x"},
        {"image": "c.jpg", "elements": []},
        {"image": "d.jpg", "elements": None, "caption": ""},
    )
    assert [captions.find(ImageFile(tmp_path, name, "")) for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")] == [
        Caption("sea, sky", ["sea", "sky"], 1),
        Caption("The sea.", ["sea"], 2),
        Caption("", [], 3),
        Caption("", None, 4),
    ]


def test_malformed_lines_are_named_and_the_good_ones_kept(tmp_path: Path) -> None:
    captions = written(
        tmp_path / "c",
        {"image": "good.jpg", "caption": "kept"},
        b"",
        b"{",
        b'{"image": "\xff.jpg", "caption": "x"}',
        b"[]",
        {"caption": "x"},
        {"image": "", "caption": "x"},
        {"image": 3, "caption": "x"},
        {"image": "a.jpg"},
        {"image": "a.jpg", "caption": 3},
        {"image": "a.jpg", "elements": "sea"},
        {"image": "a.jpg", "elements": ["sea", 3]},
        {"image": "a.jpg", "elements": ["sea"], "caption": ["x"]},
        {"image": "a.jpg", "caption": "\ud800"},
        b"[" * 100_000,
        b'{"image": "last.jpg", "caption": "kept too"}\r',
    )
    assert captions.problems == [
        (3, "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (4, "not UTF-8"),
        (5, 'not an object like {"image": …, "caption": …}'),
        (6, '"image" is missing'),
        (7, '"image" must be a path'),
        (8, '"image" must be a path'),
        (9, '"caption" or "elements" is missing'),
        (10, '"caption" must be a text'),
        (11, '"elements" must be a list of texts'),
        (12, '"elements" must be a list of texts'),
        (13, '"caption" must be a text'),
        (14, "the text holds half of a surrogate pair"),
        (15, "not JSON that can be read"),
    ]
    assert captions.find(ImageFile(tmp_path, "good.jpg", "")) == Caption("kept", None, 1)
    assert captions.find(ImageFile(tmp_path, "last.jpg", "")) == Caption("kept too", None, 16)
    assert len(captions) == 2


def test_of_a_repeated_image_the_last_line_counts(tmp_path: Path) -> None:
    lines = [{"image": "a.jpg", "caption": "one"}, {"image": "./a.jpg", "caption": "two"}]
    captions = written(tmp_path / "c", *lines)
    assert captions.find(ImageFile(tmp_path, "a.jpg", "")) == Caption("two", None, 2)
    assert captions.problems == [(2, "./a.jpg was captioned in line 1 already; the last counts")]


def test_byte_order_mark_and_odd_names(tmp_path: Path) -> None:
    undecodable = os.fsdecode(b"\xff.jpg")
    captions = written(
        tmp_path / "c",
        b'\xef\xbb\xbf{"image": "a.jpg", "caption": "one"}',
        {"image": "new\nline 🦈.jpg", "caption": "two"},
        {"image": undecodable, "caption": "three"},
    )
    for name, text in (("a.jpg", "one"), ("new\nline 🦈.jpg", "two"), (undecodable, "three")):
        caption = captions.find(ImageFile(tmp_path, name, ""))
        assert caption is not None
        assert caption.text == text


def test_a_captions_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the captions file .*absent: no such file or folder"):
        CaptionsFile(tmp_path / "absent")
    with pytest.raises(UsageError, match="is a folder, not a file"):
        CaptionsFile(tmp_path)
