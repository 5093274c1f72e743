from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from image_set_files import add_member, write_tar
from pipeline import photograph
from synood_cli.data.images import image_header, read_image
from synood_cli.data.tar_shards import TarMember, is_tar_folder, scan_tars
from synood_cli.errors import ItemError, UsageError


def picture(tmp_path: Path, seed: int, ending: str = "png") -> bytes:
    return photograph(tmp_path / "pictures" / f"{seed}.{ending}", seed).read_bytes()


def test_members_are_read_in_place_with_their_classes(tmp_path: Path) -> None:
    one, two, three = (picture(tmp_path, seed) for seed in (1, 2, 3))
    second = [("b/1.left.png", three), ("b/1.json", json.dumps({"label": 5}).encode())]
    write_tar(tmp_path / "s/1.tar", second)
    write_tar(
        tmp_path / "s/0.tar",
        [
            ("x.cls", b" 207\n"), ("x.JPG", one), ("x.txt", b"a caption"), ("x.npy", b""),
            ("y.png", two), ("y.cls", b"-1"), (".hidden.png", one),
        ],
    )  # fmt: skip
    found = scan_tars(tmp_path / "s")
    assert [(image.name, image.class_name) for image in found.images] == [
        ("0.tar/x.JPG", "207"),
        ("0.tar/y.png", ""),
        ("1.tar/b/1.left.png", "5"),
    ]
    assert [image.place.read() for image in found.images] == [one, two, three]
    assert (found.kind, list(found.problems), found.strays, found.files) == ("tar", [], ["0.tar/x.npy"], [])
    original = Image.open(tmp_path / "pictures/3.png")
    assert read_image(found.images[2].place).tobytes() == original.tobytes()
    header = image_header(found.images[2].place)
    assert (header.width, header.height, header.format, header.bytes) == (48, 40, "PNG", len(three))


def test_names_that_lead_out_of_the_archive_are_names_only(tmp_path: Path) -> None:
    content = picture(tmp_path, 1)
    odd = os.fsdecode(b"\xff.png")
    write_tar(tmp_path / "a.tar", [("../../up.png", content), ("/root.png", content), (odd, content)])
    before = sorted(tmp_path.rglob("*"))
    found = scan_tars(tmp_path / "a.tar")
    assert [image.name for image in found.images] == ["a.tar/../../up.png", "a.tar//root.png", f"a.tar/{odd}"]
    assert [image.place.read() for image in found.images] == [content] * 3
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_picture_of_its_own_is_a_problem(tmp_path: Path) -> None:
    content = picture(tmp_path, 1)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        add_member(archive, "twice.png", b"first")
        add_member(archive, "twice.png", content)
        add_member(archive, "odd.png", content)
        add_member(archive, "odd.json", b"{not json")
    found = scan_tars(tmp_path / "a.tar")
    assert [(image.name, image.place.read()) for image in found.images] == [
        ("a.tar/twice.png", content),
        ("a.tar/odd.png", content),
    ]
    assert [name for name, _ in found.problems] == ["a.tar/link.png", "a.tar/twice.png", "a.tar/odd.png"]
    reasons = [reason for _, reason in found.problems]
    assert reasons[:2] == ["is not a regular file", "is in the archive twice; the last counts"]
    assert reasons[2].startswith("its label cannot be read: Expecting property name")


def test_a_damaged_archive_gives_what_precedes_the_damage(tmp_path: Path) -> None:
    content = picture(tmp_path, 1)
    whole = write_tar(tmp_path / "whole.tar", [(f"{number}.png", content) for number in range(4)]).read_bytes()
    step = 512 + -(-len(content) // 512) * 512
    cut = tmp_path / "cut.tar"
    for length, names in ((2 * step + 600, ["0", "1"]), (2 * step, ["0", "1"]), (2 * step + 100, ["0", "1"])):
        cut.write_bytes(whole[:length])
        found = scan_tars(cut)
        assert [image.name for image in found.images] == [f"cut.tar/{name}.png" for name in names]
        assert len(found.problems) > 0
    cut.write_bytes(whole[: 2 * step] + b"\7" * 512 + whole[2 * step + 512 :])
    found = scan_tars(cut)
    assert len(found.images) == 2
    assert found.problems == [("cut.tar", "the archive is damaged or cut off: what follows is not found")]
    assert scan_tars(tmp_path / "whole.tar").problems == []


def test_archives_that_were_joined_by_cat_are_told(tmp_path: Path) -> None:
    first = write_tar(tmp_path / "first.tar", [("a.png", picture(tmp_path, 1))]).read_bytes()
    second = write_tar(tmp_path / "second.tar", [("b.png", picture(tmp_path, 2))]).read_bytes()
    (tmp_path / "both.tar").write_bytes(first + second)
    found = scan_tars(tmp_path / "both.tar")
    assert [image.name for image in found.images] == ["both.tar/a.png"]
    assert [name for name, reason in found.problems if "another archive follows" in reason] == ["both.tar"]
    (tmp_path / "first.tar").write_bytes(first + b"a signature" * 100)
    assert scan_tars(tmp_path / "first.tar").problems == []


def test_a_shard_among_several_that_is_none(tmp_path: Path) -> None:
    write_tar(tmp_path / "s/a.tar", [("a.png", picture(tmp_path, 1))])
    (tmp_path / "s/b.tar").write_bytes(b"no archive at all")
    (tmp_path / "s/c.tar").write_bytes(b"")
    found = scan_tars(tmp_path / "s")
    assert [image.name for image in found.images] == ["a.tar/a.png"]
    assert [name for name, _ in found.problems] == ["b.tar", "c.tar"]
    assert all(reason.startswith("not an uncompressed tar archive, or damaged: ") for _, reason in found.problems)


def test_an_archive_without_pictures(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("a.cls", b"1"), ("b.npy", b"")])
    with pytest.raises(UsageError, match=r"there are no images in .*a\.tar$"):
        scan_tars(tmp_path / "a.tar")


def test_a_member_that_is_gone_by_now(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.png", picture(tmp_path, 1))])
    place = scan_tars(path).images[0].place
    assert isinstance(place, TarMember)
    path.write_bytes(path.read_bytes()[: place.offset + 5])
    with pytest.raises(ItemError, match="its archive ends within the picture"):
        read_image(place)
    path.unlink()
    with pytest.raises(ItemError, match="its archive: no such file"):
        read_image(place)
    with pytest.raises(ItemError, match="the file is empty"):
        read_image(TarMember(write_tar(path, []), 0, 0))


def test_what_a_folder_of_shards_is(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [])
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / ".hidden.png").write_bytes(b"")
    assert is_tar_folder(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"")
    assert not is_tar_folder(tmp_path)
    (tmp_path / "photo.png").unlink()
    (tmp_path / "n01440764").mkdir()
    assert not is_tar_folder(tmp_path)


@pytest.mark.parametrize(
    "label",
    [
        b'{"label": "\\ud800"}',
        b'{"label": {"name": "cat"}}',
        b'{"label": [1]}',
        b'{"label": true}',
        b'{"label": 0.5}',
        b'{"label": NaN}',
        b'{"label": -7}',
        b'{"label": ' + b"9" * 5000 + b"}",
        b'{"label": "' + b"x" * 5000 + b'"}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_label_that_is_none_is_the_problem_of_its_image(tmp_path: Path, label: bytes) -> None:
    found = scan_tars(write_tar(tmp_path / "a.tar", [("a.png", picture(tmp_path, 1)), ("a.json", label)]))
    assert [(image.name, image.class_name) for image in found.images] == [("a.tar/a.png", "")]
    [(name, reason)] = found.problems
    assert (name, reason.startswith("its label cannot be read: ")) == ("a.tar/a.png", True)
    assert len(reason) < 400
