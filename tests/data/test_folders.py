from __future__ import annotations

import hashlib
import os
import random
import unicodedata
from pathlib import Path

import pytest

from bad_images import OK, bad_image_folder
from synood_cli.data.folders import Scan, class_text, folder_fingerprint, scan_classes, scan_images
from synood_cli.errors import UsageError
from synood_cli.records import ImageFile


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content is not looked at")
    return root


def found(scan: Scan) -> list[tuple[str, str]]:
    return [(image.class_name, image.name) for image in scan.images]


def test_images_are_found_under_their_class_and_sorted(tmp_path: Path) -> None:
    names = ["dog/b.jpg", "dog/a.JPEG", "cat/x.png", "cat/deep/er/y.webp", "cat/z.Bmp", "cat a/1.gif", "dog/c.tif"]
    fill(tmp_path, *names, "dog/d.TIFF", "dog/10.jpg", "dog/9.jpg")
    scan = scan_classes(tmp_path)
    assert found(scan) == [
        ("cat", "cat/deep/er/y.webp"),
        ("cat", "cat/x.png"),
        ("cat", "cat/z.Bmp"),
        ("cat a", "cat a/1.gif"),
        ("dog", "dog/10.jpg"),
        ("dog", "dog/9.jpg"),
        ("dog", "dog/a.JPEG"),
        ("dog", "dog/b.jpg"),
        ("dog", "dog/c.tif"),
        ("dog", "dog/d.TIFF"),
    ]
    assert scan.classes == ["cat", "cat a", "dog"]
    assert {image.root for image in scan.images} == {tmp_path}
    assert scan.problems == []
    assert scan.ignored == 0


def test_the_order_does_not_depend_on_when_files_were_made(tmp_path: Path) -> None:
    names = [f"class {i % 3}/{i}.jpg" for i in range(30)]
    results = []
    for seed in range(3):
        random.Random(seed).shuffle(names)
        results.append(found(scan_classes(fill(tmp_path / str(seed), *names))))
    assert results[0] == results[1] == results[2] == sorted(results[0])


def test_hidden_files_are_skipped_and_others_counted(tmp_path: Path) -> None:
    fill(tmp_path, "dog/a.jpg", "dog/.b.jpg", "dog/.hidden/c.jpg", ".git/d.jpg", "dog/notes.txt", "dog/jpg", "list.csv")
    scan = scan_classes(tmp_path)
    assert found(scan) == [("dog", "dog/a.jpg")]
    assert scan.ignored == 3
    assert scan.problems == []


def test_images_outside_a_class_and_empty_classes_are_problems(tmp_path: Path) -> None:
    fill(tmp_path, "stray.jpg", "dog/a.jpg", "fox/readme.md")
    (tmp_path / "elk").mkdir()
    scan = scan_classes(tmp_path)
    assert found(scan) == [("dog", "dog/a.jpg")]
    assert scan.problems == [
        ("elk", "a class folder without images"),
        ("fox", "a class folder without images"),
        ("stray.jpg", "lies outside every class folder"),
    ]


def test_a_folder_whose_name_ends_like_an_image_is_a_folder(tmp_path: Path) -> None:
    fill(tmp_path, "dog/album.jpg/a.jpg")
    assert found(scan_classes(tmp_path)) == [("dog", "dog/album.jpg/a.jpg")]


def test_links_are_followed_and_those_that_lead_nowhere_are_problems(tmp_path: Path) -> None:
    elsewhere = fill(tmp_path / "elsewhere", "x.jpg", "sub/y.jpg")
    root = fill(tmp_path / "root", "dog/a.jpg")
    (root / "dog/linked.jpg").symlink_to(root / "dog/a.jpg")
    (root / "dog/linked").symlink_to(elsewhere)
    (root / "hound").symlink_to(root / "dog")
    (root / "dog/broken.jpg").symlink_to("nowhere")
    (root / "dog/itself.jpg").symlink_to("itself.jpg")
    (root / "gone").symlink_to("nowhere")
    (root / "wolf").symlink_to("wolf")
    scan = scan_classes(root)
    below = ["a.jpg", "linked.jpg", "linked/sub/y.jpg", "linked/x.jpg"]
    assert found(scan) == [(name, f"{name}/{path}") for name in ("dog", "hound") for path in below]
    assert scan.problems == [
        ("dog/broken.jpg", "broken symbolic link"),
        ("dog/itself.jpg", "symbolic link loop"),
        ("gone", "broken symbolic link"),
        ("hound/broken.jpg", "broken symbolic link"),
        ("hound/itself.jpg", "symbolic link loop"),
        ("wolf", "symbolic link loop"),
    ]


def test_links_back_into_the_tree_end_there(tmp_path: Path) -> None:
    fill(tmp_path, "dog/a.jpg", "dog/one/b.jpg", "dog/two/c.jpg")
    (tmp_path / "dog/up").symlink_to(tmp_path / "dog")
    (tmp_path / "dog/one/two").symlink_to(tmp_path / "dog/two")
    (tmp_path / "dog/two/one").symlink_to(tmp_path / "dog/one")
    scan = scan_classes(tmp_path)
    assert found(scan) == [("dog", "dog/a.jpg"), ("dog", "dog/one/b.jpg"), ("dog", "dog/one/two/c.jpg")]
    reason = "a link to a folder that is scanned already (a loop?)"
    assert scan.problems == [(name, reason) for name in ("dog/one/two/one", "dog/two", "dog/up")]


def test_a_folder_without_permission_is_a_problem(tmp_path: Path) -> None:
    fill(tmp_path, "dog/a.jpg", "dog/locked/b.jpg")
    (tmp_path / "dog/locked").chmod(0)
    try:
        scan = scan_classes(tmp_path)
    finally:
        (tmp_path / "dog/locked").chmod(0o700)
    if os.geteuid() == 0:  # permissions do not stop root
        assert found(scan) == [("dog", "dog/a.jpg"), ("dog", "dog/locked/b.jpg")]
    else:
        assert found(scan) == [("dog", "dog/a.jpg")]
        assert scan.problems == [("dog/locked", "permission denied")]


def test_folders_nested_deeper_than_pythons_stack_end_in_a_problem_at_worst(tmp_path: Path) -> None:
    fill(tmp_path, "dog/a.jpg")
    here = os.open(tmp_path / "dog", os.O_RDONLY)
    for _ in range(2_100):  # beyond the longest path that the system takes
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    try:
        scan = scan_classes(tmp_path)
    finally:
        remove_chain(tmp_path / "dog" / "d")
    assert found(scan) == [("dog", "dog/a.jpg")]
    assert [reason for _, reason in scan.problems] == ["file name too long"]


def remove_chain(first: Path) -> None:
    """Unlink nested folders by renaming each inner one up: pytest's own clean-up cannot enter paths this long."""
    while (first / "d").exists():
        moved = first.with_name("moved")
        (first / "d").rename(moved)
        first.rmdir()
        moved.rename(first)
    first.rmdir()


def test_names_of_any_kind(tmp_path: Path) -> None:
    odd = ["with space", "quote'\"", "new\nline", "shark 🦈", os.fsdecode(b"\xff"), "-n", "a\\b", "*?[x]"]
    for name in odd:
        fill(tmp_path, f"{name}/{name}.jpg")
    scan = scan_classes(tmp_path)
    assert found(scan) == sorted((name, f"{name}/{name}.jpg") for name in odd)
    assert all(image.path.is_file() for image in scan.images)


def test_every_kind_of_bad_image_is_an_image_or_a_problem(tmp_path: Path) -> None:
    expected = bad_image_folder(tmp_path / "cat")
    scan = scan_classes(tmp_path)
    links = {"broken_link.jpg", "loop.jpg"}
    assert {name for _, name in found(scan)} == {f"cat/{name}" for name in expected.keys() - links}
    assert scan.problems == [(f"cat/{name}", expected[name]) for name in sorted(links)]
    assert OK in expected.values()


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        (["a.jpg", "b.jpg"], "has no class folders", "a folder of its own"),
        (["readme.txt"], "has no class folders", "a folder of its own"),
        ([".hidden/a.jpg"], "has no class folders", "a folder of its own"),
        (
            ["dog/a.txt"],
            r"there are no images in .* \(1 other file was not looked at \(.txt 1\): dog/a.txt; dog: a class",
            ".jpeg, .jpg",
        ),
    ],
)
def test_a_folder_that_is_no_labelled_one(tmp_path: Path, names: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        scan_classes(fill(tmp_path, *names))
    assert hint in (caught.value.hint or "")


def test_a_root_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "broken").symlink_to("nowhere")
    for name, reason in [
        ("no\nne", "no such file"),
        ("loop", "symbolic link loop"),
        ("broken", "broken symbolic link"),
    ]:
        for scan in (scan_classes, scan_images):
            with pytest.raises(UsageError, match=f"cannot read the folder .*: {reason}") as caught:
                scan(tmp_path / name)
            assert "\n" not in caught.value.message
    with pytest.raises(UsageError, match="not a directory") as caught:
        scan_classes(tmp_path / "a.jpg")
    assert "a folder of its own" in (caught.value.hint or "")


def test_unlabelled_images_at_any_depth(tmp_path: Path) -> None:
    fill(tmp_path, "b.jpg", "a/deep/c.png", "a.png", "a/notes.txt")
    (tmp_path / "a/back").symlink_to(tmp_path)
    scan = scan_images(tmp_path)
    assert found(scan) == [("", "a.png"), ("", "a/deep/c.png"), ("", "b.jpg")]
    assert scan.problems == [("a/back", "a link to a folder that is scanned already (a loop?)")]
    assert scan.ignored == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"there are no images in .*empty$"):
        scan_images(tmp_path / "empty")


def test_one_image_file_of_any_name(tmp_path: Path) -> None:
    fill(tmp_path, "photo")
    assert scan_images(tmp_path / "photo").images == [ImageFile(tmp_path, "photo", "")]


def test_a_relative_root_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "photos/dog/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert scan_classes(Path("photos")).images == [ImageFile(tmp_path / "photos", "dog/a.jpg", "dog")]


def test_the_fingerprint_sees_place_names_sizes_and_times_but_no_order(tmp_path: Path) -> None:
    def images(place: str) -> list[ImageFile]:
        root = fill(tmp_path / place, "x/1.jpg", "x/2.jpg")
        for path in (root / "x").iterdir():
            os.utime(path, ns=(0, 1_000_000_007))
        return scan_classes(root).images

    first, second = images("first"), images("second")
    fingerprint = folder_fingerprint(first)
    assert fingerprint == folder_fingerprint(reversed(first))
    # equal names, sizes and times, as archives unpack them, may still be other pictures
    assert fingerprint != folder_fingerprint(second)
    assert len(fingerprint) == 64

    changed = {folder_fingerprint(first[:1]), folder_fingerprint([])}
    os.utime(second[0].path, ns=(0, 1_000_000_008))
    changed.add(folder_fingerprint(second))
    second[0].path.write_bytes(b"longer content than there was before")
    os.utime(second[0].path, ns=(0, 1_000_000_007))
    changed.add(folder_fingerprint(second))
    second[0].path.unlink()
    changed.add(folder_fingerprint(second))
    renamed = second[1]._replace(name="x/3.jpg")
    second[1].path.rename(renamed.path)
    changed.add(folder_fingerprint([first[0], renamed]))
    assert len(changed) == 6
    assert fingerprint not in changed


def test_the_fingerprint_sees_an_image_of_the_same_size_and_time(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos", "1.jpg", "2.jpg")
    for path in root.iterdir():
        os.utime(path, ns=(0, 1_000_000_007))
    before = folder_fingerprint(scan_images(root).images)
    assert folder_fingerprint(scan_images(root).images) == before
    for one, other in (("1.jpg", "x"), ("2.jpg", "1.jpg"), ("x", "2.jpg")):  # the two change their names
        (root / one).rename(root / other)
    assert folder_fingerprint(scan_images(root).images) != before


def test_the_fingerprint_by_hand(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.jpg")
    (tmp_path / name).write_bytes(b"12345")
    os.utime(tmp_path / name, ns=(0, 42))
    changed = (tmp_path / name).stat().st_ctime_ns
    looks = b"\0\xff.jpg\x005\x0042\x00%d\x00" % changed
    expected = hashlib.sha256(os.fsencode(tmp_path.resolve()) + looks).hexdigest()
    assert folder_fingerprint([ImageFile(tmp_path, name, "")]) == expected


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("great_white_shark", "great white shark"),
        ("n01484850_great_white_shark", "great white shark"),
        ("n01484850-tench", "tench"),
        ("n01484850", "n01484850"),
        ("n01484850_", "n01484850"),
        ("n0148485_shark", "n0148485 shark"),
        ("03_dog", "03 dog"),
        ("747", "747"),
        ("T-shirt", "T-shirt"),
        ("tench, Tinca tinca", "tench, Tinca tinca"),
        ("  two\n lines ", "two lines"),
        ("cafe\N{COMBINING ACUTE ACCENT}", "café"),
        ("シャチ", "シャチ"),
        (os.fsdecode(b"sh\xffrk"), "sh\\xffrk"),
        ("bell\x07", "bell\\x07"),
        ("___", "___"),
    ],
)
def test_label_text_of_a_class_folder(folder: str, text: str) -> None:
    assert class_text(folder) == text


def test_class_folders_that_differ_in_composition_alone_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = "chaton âgé", unicodedata.normalize("NFD", "chaton âgé")
    for number, name in enumerate((composed, decomposed, "chien")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / f"{number}.jpg").write_bytes(b"")
    found = scan_classes(tmp_path)
    assert found.classes == [composed, "chien"]
    assert [(image.class_name, image.name) for image in found.images if image.class_name == composed] == [
        (composed, f"{decomposed}/1.jpg"),
        (composed, f"{composed}/0.jpg"),
    ]
