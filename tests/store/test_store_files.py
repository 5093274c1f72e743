"""A file is whole or absent, whatever happens while it is written."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
from pathlib import Path

import pytest
from store_rows import python

from synood_cli.errors import StoreError
from synood_cli.store.files import TEMPORARY, disk_errors, sha256_bytes, sha256_file, write_atomic, write_inside


def test_a_file_is_written_with_its_folders_and_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a/b/c.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_atomic(tmp_path / "atomic", b"")
    assert stat.filemode((tmp_path / "atomic").stat().st_mode) == stat.filemode((tmp_path / "plain").stat().st_mode)


def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    path.write_bytes(b"old")
    script = """
import os, signal, sys
from pathlib import Path
from synood_cli.store.files import write_atomic
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_atomic(Path(sys.argv[1]), b"new")
"""
    killed = python(script, path)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    [left] = [other for other in tmp_path.iterdir() if other != path]
    assert left.name.startswith(TEMPORARY)


def test_a_file_that_does_not_fit_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "images/1.png"
    path.parent.mkdir()
    path.write_bytes(b"old")
    script = """
import resource, sys
from pathlib import Path
from synood_cli.errors import StoreError
from synood_cli.store.files import write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_atomic(Path(sys.argv[1]).with_name("small"), b"fits")
try:
    write_atomic(Path(sys.argv[1]), b"x" * 5000)
except StoreError as error:
    print(error.message)
    print(error.hint)
"""
    output, errors = python(script, path).communicate()
    assert output.splitlines()[0] == f"cannot write {path}: file too large"
    assert "what was finished is kept" in output
    assert errors == ""
    assert path.read_bytes() == b"old"
    assert sorted(other.name for other in path.parent.iterdir()) == ["1.png", "small"]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota"), (errno.EROFS, "read-only")]
)
def test_what_a_disk_refuses_is_said_in_words(number: int, words: str) -> None:
    with pytest.raises(StoreError, match=f"cannot write /data/x: .*{words}"), disk_errors(Path("/data/x")):
        raise OSError(number, "as the system says it")


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot write"):
        write_atomic(tmp_path / "file/below", b"")


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINVAL, errno.ESTALE, errno.EMFILE, errno.ETIMEDOUT, 524, None])
def test_whatever_the_system_says_is_words(number: int | None) -> None:
    with pytest.raises(StoreError, match=r"cannot write /data/x: .") as refused, disk_errors(Path("/data/x")):
        raise OSError(number, "Some Reason") if number else OSError("some reason")
    assert refused.value.hint
    assert "Errno" not in refused.value.message


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(ConnectionResetError), disk_errors(Path("x")):
        raise ConnectionResetError(errno.ECONNRESET, "not of the disk")
    with pytest.raises(BrokenPipeError), disk_errors(Path("x")):
        raise BrokenPipeError(errno.EPIPE, "the reader has enough")


@pytest.mark.parametrize(("number", "written"), [(errno.EINVAL, True), (errno.EOPNOTSUPP, True), (errno.EIO, False)])
def test_a_file_system_without_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, written: bool
) -> None:
    def fsync(_: int) -> None:
        raise OSError(number, "no fsync here")

    monkeypatch.setattr(os, "fsync", fsync)
    with contextlib.nullcontext() if written else pytest.raises(StoreError, match="cannot write"):
        write_atomic(tmp_path / "file", b"content")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([b"content"] if written else [])


def test_what_is_written_inside_a_folder_stays_there(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    victim = tmp_path / "outside/victim"
    victim.write_bytes(b"mine")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "file").symlink_to(victim)
    (inside / "folder").symlink_to(tmp_path / "outside")
    write_inside(inside, "file", b"new")
    assert (inside / "file").read_bytes() == b"new"
    assert not (inside / "file").is_symlink()
    for root, name in [(inside, "folder/victim"), (inside, "folder/below/victim"), (inside / "folder", "victim")]:
        with pytest.raises(StoreError, match="inside/folder is a symbolic link"):
            write_inside(root, name, b"new")
    assert victim.read_bytes() == b"mine"
    assert list((tmp_path / "outside").iterdir()) == [victim]


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == sha256_bytes(b"abc") == expected
