from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path

import pytest

from synood_cli.data.set_aside import ChangedError, SetAside
from synood_cli.errors import ItemError

PICTURE = sha256(b"picture").hexdigest()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "photos" / "a" / "1.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"picture")
    os.utime(path, (1e9, 1e9))
    return path


@pytest.fixture(params=["one file system", "two file systems"])
def devices(request, monkeypatch):
    """What the kernel answers where a link would lead to another file system; one file system is the other case."""
    link = os.link

    def refuse(source, target, **options):
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, target, **options)

    if request.param == "two file systems":
        monkeypatch.setattr(os, "link", refuse)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("move", [True, False])
def test_it_goes_to_its_relative_place(tmp_path, source, move):
    aside = tmp_path / "ood"
    SetAside(aside, move=move)(source, "a/1.jpg", PICTURE)
    assert files(aside) == ["a/1.jpg"]
    assert (aside / "a/1.jpg").read_bytes() == b"picture"
    assert (aside / "a/1.jpg").stat().st_mtime == 1e9
    assert source.exists() is not move


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("move", [True, False])
def test_nothing_is_overwritten(tmp_path, source, move):
    taken = tmp_path / "ood" / "a" / "1.jpg"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"another")
    with pytest.raises(ItemError, match=r"another file is at .* already"):
        SetAside(tmp_path / "ood", move=move)(source, "a/1.jpg", PICTURE)
    assert (taken.read_bytes(), source.read_bytes()) == (b"another", b"picture")
    taken.unlink()
    taken.symlink_to(source)  # to follow it would be to overwrite the picture with itself, and then remove it
    with pytest.raises(ItemError, match="another file is at"):
        SetAside(tmp_path / "ood", move=move)(source, "a/1.jpg", PICTURE)
    assert files(tmp_path / "ood") == ["a/1.jpg"]
    assert source.read_bytes() == b"picture"


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("move", [True, False])
def test_what_was_half_done_is_finished(tmp_path, source, move):
    set_aside = SetAside(tmp_path / "ood", move=move)
    copied = tmp_path / "ood" / "a" / "1.jpg"
    copied.parent.mkdir(parents=True)
    copied.write_bytes(b"picture")  # the copy was there when the power went, and the picture too
    set_aside(source, "a/1.jpg", PICTURE)
    assert (files(tmp_path / "ood"), source.exists()) == (["a/1.jpg"], not move)


@pytest.mark.usefixtures("devices")
def test_links_do_not_lead_out_of_the_folder(tmp_path, source):
    (tmp_path / "ood").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ood" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ItemError, match="a link leads out of"):
        SetAside(tmp_path / "ood", move=True)(source, "a/1.jpg", PICTURE)
    with pytest.raises(ItemError, match="a link leads out of"):
        SetAside(tmp_path / "ood", move=True)(source, "../1.jpg", PICTURE)
    assert files(tmp_path / "elsewhere") == []
    assert source.exists()


@pytest.mark.usefixtures("devices")
def test_of_a_link_the_picture_is_kept(tmp_path, source):
    link = tmp_path / "photos" / "link.jpg"
    link.symlink_to("a/1.jpg")
    SetAside(tmp_path / "ood", move=True)(link, "link.jpg", PICTURE)
    assert not (tmp_path / "ood/link.jpg").is_symlink()
    assert (tmp_path / "ood/link.jpg").read_bytes() == source.read_bytes() == b"picture"
    assert not link.is_symlink()


def test_a_file_system_without_links(tmp_path, source, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    SetAside(tmp_path / "ood", move=True)(source, "1.jpg", PICTURE)
    assert (files(tmp_path / "ood"), source.exists()) == (["1.jpg"], False)


def test_a_folder_that_is_a_file(tmp_path, source):
    (tmp_path / "ood").write_bytes(b"")
    with pytest.raises(ItemError, match=r"file exists|not a directory"):
        SetAside(tmp_path / "ood", move=True)(source, "1.jpg", PICTURE)
    assert source.exists()


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("move", [True, False])
@pytest.mark.parametrize("linked", [True, False])
def test_what_is_not_what_was_scored_stays(tmp_path, source, move, linked):
    if linked:
        source.rename(tmp_path / "1.jpg")
        source.symlink_to(tmp_path / "1.jpg")
    source.write_bytes(b"PICTURE")  # of the same size
    os.utime(source, (1e9, 1e9))
    with pytest.raises(ChangedError, match="changes while it is moved"):
        SetAside(tmp_path / "ood", move=move)(source, "a/1.jpg", PICTURE)
    assert (files(tmp_path / "ood"), source.read_bytes()) == ([], b"PICTURE")
    assert files(source.parent) == ["1.jpg"]


@pytest.mark.usefixtures("devices")
def test_what_comes_while_an_image_is_moved_stays(tmp_path, source, monkeypatch):
    fsync = os.fsync

    def replaced(descriptor):
        if (tmp_path / "ood/a/1.jpg").exists():  # the image is there in its new place, and not yet removed
            monkeypatch.setattr(os, "fsync", fsync)
            (source.parent / "new").write_bytes(b"new")
            (source.parent / "new").replace(source)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", replaced)
    with pytest.raises(ChangedError):
        SetAside(tmp_path / "ood", move=True)(source, "a/1.jpg", PICTURE)
    assert (tmp_path / "ood/a/1.jpg").read_bytes() == b"picture"
    assert (files(source.parent), source.read_bytes()) == (["1.jpg"], b"new")


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("move", [True, False])
def test_an_image_that_is_in_its_place_already_stays_there(tmp_path, source, move):
    (tmp_path / "link").symlink_to("photos")
    for folder in (tmp_path / "photos", tmp_path / "link"):
        SetAside(folder, move=move)(source, "a/1.jpg", PICTURE)
        assert files(tmp_path / "photos") == ["a/1.jpg"]


def test_a_pipe_in_the_place_of_an_image_is_not_waited_for(tmp_path, source):
    source.unlink()
    os.mkfifo(source)
    for move in (True, False):
        with pytest.raises(ItemError):
            SetAside(tmp_path / "ood", move=move)(source, "a/1.jpg", PICTURE)
        assert files(tmp_path / "ood") == []
    assert source.is_fifo()
