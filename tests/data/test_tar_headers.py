"""Archives by hand: what tarfile reads well is read alike, and what it loops on or drowns in ends at once."""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from image_set_files import add_member, write_tar
from pipeline import photograph
from synood_cli.data.tar_headers import DamagedTarError, Header, tar_headers
from synood_cli.data.tar_shards import scan_tars

SIZE = slice(124, 136)


def header(name: bytes = b"a.png", size: bytes = b"00000000000\0", kind: bytes = b"0", **parts: bytes) -> bytes:
    """A block of 512 bytes with the right checksum."""
    block = bytearray(512)
    block[: len(name)] = name
    block[SIZE] = size
    block[156:157] = kind
    block[257:265] = b"ustar\00000"
    for place, value in parts.items():
        start = int(place.removeprefix("at_"))
        block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def octal(size: int) -> bytes:
    return b"%011o\0" % size


def members(content: bytes) -> list[Header]:
    return list(tar_headers(io.BytesIO(content), len(content)))


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


END = bytes(1024)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds(format: int) -> None:
    made = io.BytesIO()
    names = ["a.png", "deep/" * 19 + "b.png", "é" * 40 + ".png", "c\n.png", os.fsdecode(b"\xff.png")]
    if format != tarfile.USTAR_FORMAT:
        names.append("d/" + "x" * 300 + ".png")
    with tarfile.open(fileobj=made, mode="w", format=format, errors="surrogateescape") as archive:
        for number, name in enumerate(names):
            add_member(archive, name, bytes(number * 300))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "x" * 200 if format != tarfile.USTAR_FORMAT else "x"
        archive.addfile(link)
    made.seek(0)
    with tarfile.open(fileobj=made, errors="surrogateescape") as archive:
        expected = [(info.name, info.offset_data, info.size) for info in archive if info.isreg()]
    found = members(made.getvalue())
    assert [(each.name, each.offset, each.size) for each in found if each.is_file] == expected
    assert [each.name for each in found if each.is_file] == names
    assert [each.name.rstrip("/") for each in found if each.is_folder] == ["folder"]
    assert [each.name for each in found if not (each.is_file or each.is_folder)] == ["link.png"]


def test_large_sizes_are_read_as_binary_numbers() -> None:
    content = header(size=b"\x80" + (700).to_bytes(11, "big")) + bytes(1024) + END
    assert [each.size for each in members(content)] == [700]
    pax = b"12 size=700\n"
    content = header(b"x", octal(len(pax)), b"x") + padded(pax) + header(size=octal(1)) + bytes(1024) + END
    assert [each.size for each in members(content)] == [700]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "a negative size": (header(size=b"\xff" * 10 + b"\xfe\x00"), "a member has the size -512"),
    "a size that is no number": (header(size=b"99999999999\0"), "the size of a member is no number"),
    "a GNU name of 2 GB": (header(b"l", octal(2**31 - 1), b"L"), "cut off"),
    "a GNU name of a megabyte": (header(b"l", octal(2**20), b"L") + bytes(2**20), "1,048,576 bytes describe a member"),
    "a pax header of 4 MB": (header(b"x", octal(2**22), b"x") + bytes(2**22), "4,194,304 bytes describe a member"),
    "pax records that overlap": (header(b"x", octal(512), b"x") + padded(b"0 path=a\n"), "a pax header is damaged"),
    "a pax record that never ends": (header(b"x", octal(512), b"x") + padded(b"999 path=a\n"), "pax header is damaged"),
    "a pax size below zero": (
        header(b"x", octal(512), b"x") + padded(b"11 size=-5\n"),
        "size of a member is no number",
    ),
    "names upon names": ((header(b"l", octal(1), b"L") + padded(b"a")) * 100, "more than 16 headers"),
    "a map of holes without end": (header(kind=b"S", at_482=b"\1") + (bytes(504) + b"\1" + bytes(7)) * 50, "cut off"),
    "a member longer than the archive": (header(size=octal(2**32 - 1)), "cut off"),
    "a wrong checksum": (b"b" + header()[1:], "begins with no header"),
    "gzip": (b"\x1f\x8b\x08" + bytes(600), "compressed with gzip"),
    "nothing": (b"", "begins with no header"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_cannot_be_followed_is_one_problem_at_once(tmp_path: Path, what: str) -> None:
    content, why = HOSTILE[what]
    with pytest.raises(DamagedTarError, match=why):
        members(content)
    write_tar(tmp_path / "s/0.tar", [("a.png", photograph(tmp_path / "a.png", 1).read_bytes())])
    (tmp_path / "s/1.tar").write_bytes(content)
    found = scan_tars(tmp_path / "s")
    assert [image.name for image in found.images] == ["0.tar/a.png"]
    assert [name.partition("/")[0] for name, _ in found.problems] == ["1.tar"] * len(found.problems)


@pytest.mark.parametrize("records", [b"22 GNU.sparse.major=1\n", b"20 GNU.sparse.map=0\n"])
def test_sparse_files_are_no_regular_files(records: bytes) -> None:
    content = header(b"x", octal(len(records)), b"x") + padded(records) + header(size=octal(3)) + padded(b"abc") + END
    assert [(each.name, each.is_file) for each in members(content)] == [("a.png", False)]


def test_a_file_of_holes_is_read_in_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(header(b"l", octal(2**33 - 1), b"L"))
        file.truncate(2**40)
    with path.open("rb") as opened, pytest.raises(DamagedTarError, match="8,589,934,591 bytes describe a member"):
        list(tar_headers(opened, 2**40))


def test_damaged_headers_end_in_members_or_in_a_problem(tmp_path: Path) -> None:
    made = write_tar(tmp_path / "a.tar", [(f"{number}.png", bytes(100 * number)) for number in range(6)]).read_bytes()
    draw = random.Random(0)
    for _ in range(2000):
        content = bytearray(made)
        for _ in range(draw.randrange(1, 5)):
            content[draw.randrange(len(content))] = draw.choice((0, 0x80, 0xFF, ord("7"), ord("L"), ord("x")))
        try:
            found: Sequence[Header] = members(bytes(content))
        except DamagedTarError:
            continue
        assert all(0 <= each.size <= len(content) for each in found[:-1])
