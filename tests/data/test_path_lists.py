"""One format of lists, whatever wrote it, for score and for eval alike."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from pipeline import photograph
from synood_cli.data.access import ZERO_BYTE
from synood_cli.data.image_lists import scan_list
from synood_cli.data.inputs import find_images
from synood_cli.data.path_lists import LONGEST_LINE, Line, read_lines
from synood_cli.data.text_lists import read_entries
from synood_cli.errors import UsageError


def lines(content: bytes, *, labelled: bool = True) -> list[tuple[str, int | None, str]]:
    found = read_lines(io.BufferedReader(io.BytesIO(content)), labelled=labelled)
    return [(line.path, line.label, line.problem) for line in found]


WANTED = [("imgs/é 0.jpg", 3, ""), ("1.jpg", -1, ""), ("two words.jpg", 12, "")]
TEXT = "imgs/é 0.jpg 3\r\n   \r\n\n1.jpg\t-1 \r\ntwo words.jpg   12  "


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_blank_lines_and_blanks_make_no_difference(encoding: str) -> None:
    assert lines(TEXT.encode(encoding)) == WANTED
    swapped = {"utf-16": "utf-16-be", "utf-32": "utf-32-be"}.get(encoding)
    if swapped:
        assert lines(("\ufeff" + TEXT).encode(swapped)) == WANTED


def test_a_label_follows_the_last_blank_and_is_a_whole_number() -> None:
    content = b"a.jpg\nb 7\nc 7 8\nd -2\ne 1_0\nf +1\ng 1.0\nh " + b"9" * 5000 + b"\n  lead.jpg 1\n5\n"
    assert lines(content) == [
        ("a.jpg", None, ""),
        ("b", 7, ""),
        ("c 7", 8, ""),
        ("d -2", None, ""),
        ("e 1_0", None, ""),
        ("f +1", None, ""),
        ("g 1.0", None, ""),
        ("h " + "9" * 5000, None, ""),
        ("  lead.jpg", 1, ""),
        ("5", None, ""),
    ]
    assert lines(b"b 7\n", labelled=False) == [("b 7", None, "")]


def test_names_of_any_bytes() -> None:
    odd = os.fsdecode(b"caf\xe9.jpg")
    assert lines(b"caf\xe9.jpg 1\n\xff\n") == [(odd, 1, ""), (os.fsdecode(b"\xff"), None, "")]


def test_what_is_separated_by_zero_bytes_is_exact() -> None:
    content = b"a 1\0 b.jpg \0new\nline.jpg\0\0last"
    assert lines(content) == [(name, None, "") for name in ("a 1", " b.jpg ", "new\nline.jpg", "last")]


def test_a_zero_byte_or_a_line_without_end_is_the_problem_of_its_line() -> None:
    assert lines(b"a.jpg\nb\0.jpg 3\nc.jpg\n") == [
        ("a.jpg", None, ""),
        (r"b\x00.jpg 3", None, ZERO_BYTE),
        ("c.jpg", None, ""),
    ]
    long = b"x" * (3 * LONGEST_LINE)
    for content in (b"a.jpg\n" + long + b"\nb.jpg\n", b"a.jpg\n" + long, long + b"\nb.jpg"):
        found = lines(content)
        assert [path for path, _, problem in found if not problem] == [
            name for name in ("a.jpg", "b.jpg") if name.encode() in content
        ]
        assert [problem for _, _, problem in found if problem] == ["longer than 65,536 bytes"]


def test_lines_are_numbered_and_come_as_soon_as_they_are_there() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as sender, os.fdopen(read, "rb") as receiver:
        found = read_lines(receiver, labelled=True)
        sender.write(b"\n1\n")
        assert next(found) == Line(2, "1")
        sender.write(b"2 3\n")
        assert next(found) == Line(3, "2", 3)


@pytest.mark.parametrize("content", ["a.jpg 1\n".encode("utf-16-le"), "a.jpg 1\n".encode("utf-16-be"), b"\xff\xfea"])
def test_what_is_no_text_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    for read in (lambda: list(find_images([str(path)])), lambda: scan_list(path, tmp_path)):
        with pytest.raises(UsageError, match="is not UTF-8 text") as caught:
            read()
        assert caught.value.hint == "save the list as UTF-8"


def test_score_and_eval_read_the_same_images(tmp_path: Path) -> None:
    for number in range(3):
        photograph(tmp_path / f"imgs/{number}.jpg", number)
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfimgs/0.jpg 3\r\n   \r\nimgs/1.jpg 3\r\nimgs/2.jpg 3  \r\n")
    streamed = [found.path for found in find_images([str(path)])]
    assert streamed == [str(image.place) for image in scan_list(path, tmp_path).images]
    assert [Path(name).name for name in streamed] == ["0.jpg", "1.jpg", "2.jpg"]


def test_word_lists_are_read_in_the_same_encodings(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        path.write_bytes("# note\r\nchaton âgé\r\n\r\nchien\r".encode(encoding))
        assert read_entries(path) == [(2, "chaton âgé"), (4, "chien")]
    for content, why in ((b"a\0b\n", "line 1: holds a zero byte"), (b"\xff\xfea\0\xd8", "is damaged")):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=why):
            read_entries(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="a pipe or a device, not a file"):
        read_entries(path)
    with pytest.raises(UsageError, match="a pipe or a device, not a file"):
        read_entries(Path("/dev/zero"))
