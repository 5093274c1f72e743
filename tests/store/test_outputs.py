"""What is written outside a workspace: locked, whole or absent, and never in anybody's way."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from store_rows import python

from synood_cli.errors import StoreError, UsageError
from synood_cli.store.files import TEMPORARY, write_atomic
from synood_cli.store.outputs import (
    descriptor_of,
    new_file,
    new_folder,
    open_stream,
    output_lock,
    write_output,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_output_has_one_writer_and_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.csv"
    with output_lock(path):
        with pytest.raises(StoreError, match=r"s\.csv is being written by another process"), output_lock(path):
            pass
        with output_lock(path.with_name("other.csv")):
            pass
    assert names(path.parent) == []
    (path.parent / ".s.csv.lock").write_bytes(b"")  # as a crash leaves it
    with output_lock(path):
        pass
    assert names(path.parent) == []


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / ".s.csv.lock").symlink_to("mine")
    with pytest.raises(StoreError, match="symbolic link"), output_lock(tmp_path / "s.csv"):
        pass
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_a_new_folder_is_there_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "data.unfinished").mkdir()
    (tmp_path / "data.unfinished" / "mine").write_bytes(b"mine")
    with new_folder(tmp_path / "data") as scratch:
        (scratch / "1").write_bytes(b"1")
        assert not (tmp_path / "data").exists()
        with (
            pytest.raises(StoreError, match="is being written by another process"),
            new_folder(tmp_path / "data"),
        ):
            pass
    assert names(tmp_path) == ["data", "data.unfinished"]
    assert names(tmp_path / "data") == ["1"]
    assert names(tmp_path / "data.unfinished") == ["mine"]
    for place in (tmp_path / "data", tmp_path / "data" / "1"):
        with pytest.raises(UsageError, match="exists and is not empty"), new_folder(place):
            pass


def test_a_folder_that_failed_leaves_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "a" / "data") as scratch:
            (scratch / "1").write_bytes(b"1")
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="the disk is full"):
        fail()
    assert names(tmp_path / "a") == []
    with new_folder(tmp_path / "a" / "data"):
        pass
    assert names(tmp_path / "a") == ["data"]


KILLED = """
import os, pathlib, signal, sys
from synood_cli.store.files import write_atomic
from synood_cli.store.outputs import new_file, new_folder
place = pathlib.Path(sys.argv[1])
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "write_atomic":
    write_atomic(place, b"new")
with {"new_file": new_file, "new_folder": new_folder}[sys.argv[2]](place):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["new_file", "new_folder", "write_atomic"])
def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path, how: str) -> None:
    (tmp_path / ".writing-notes").write_bytes(b"a name of the user's")
    with new_file(tmp_path / "slow") as held:  # another process's, which is not finished
        with python(KILLED, tmp_path / "out", how) as killed:
            assert killed.wait() == -signal.SIGKILL
        assert len(list(tmp_path.glob(f"{TEMPORARY}*"))) == 3
        if how == "write_atomic":
            write_atomic(tmp_path / "out", b"new")
        else:
            with {"new_file": new_file, "new_folder": new_folder}[how](tmp_path / "out"):
                pass
        assert sorted(tmp_path.glob(f"{TEMPORARY}*")) == sorted([held, tmp_path / ".writing-notes"])
    assert names(tmp_path) == [".writing-notes", "out", "slow"]


def test_what_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def interfere() -> None:
        with new_folder(tmp_path / "data"):
            (tmp_path / "data").mkdir()
            (tmp_path / "data" / "mine").write_bytes(b"mine")

    with pytest.raises(UsageError, match="exists and is not empty"):
        interfere()
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == ["mine"]


def test_an_empty_folder_will_do_also_by_a_link_but_not_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UsageError, match="the current folder"), new_folder(Path()):
        pass
    monkeypatch.chdir(tmp_path)
    with new_folder(tmp_path / "link") as scratch:
        (scratch / "1").write_bytes(b"1")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "empty") == ["1"]


def test_a_new_file_replaces_the_old_one_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "link").symlink_to("old")

    def fail() -> None:
        with new_file(tmp_path / "link") as scratch:
            scratch.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (tmp_path / "old").read_bytes() == b"old"
    with new_file(tmp_path / "link", ".onnx") as scratch:
        assert scratch.suffix == ".onnx"
        scratch.write_bytes(b"new")
    assert (tmp_path / "old").read_bytes() == b"new"
    assert names(tmp_path) == ["link", "old"]


def test_a_file_does_not_replace_what_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for place in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(StoreError, match=r"it is (a folder|not a regular file)"), new_file(place):
            pass
    with pytest.raises(StoreError, match="symbolic link loop"), new_file(tmp_path / "loop"):
        pass
    assert names(tmp_path) == ["loop", "pipe"]


def test_open_files_of_this_process_are_known_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    assert descriptor_of(Path("/dev/stdout")) == descriptor_of(tmp_path / "link") == 1
    assert descriptor_of(Path("/dev/fd/63")) == descriptor_of(Path("/proc/self/fd/63")) == 63
    assert descriptor_of(tmp_path / "file") is None


def test_an_open_file_is_written_to_where_it_stands(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as file:  # as `>> log` opens it
        file.write(b"before\n")
        file.flush()
        write_output(Path(f"/dev/fd/{file.fileno()}"), b"rows\n")
    assert (tmp_path / "log").read_bytes() == b"before\nrows\n"
    with pytest.raises(UsageError, match="is not open for writing"):
        write_output(Path("/dev/fd/999"), b"rows\n")
    with (tmp_path / "log").open("rb") as file, pytest.raises(UsageError, match="is not open for writing"):
        write_output(Path(f"/dev/fd/{file.fileno()}"), b"rows\n")


def test_a_pipe_is_written_to_once_somebody_reads(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_output(pipe, b"x" * 200_000)  # more than a pipe holds
    reader.join(timeout=30)
    assert [len(each) for each in read] == [200_000]
    with pytest.raises(UsageError, match="no program reads from the pipe"):
        open_stream(pipe, seconds=0.1)
    assert pipe.is_fifo()


def test_devices_folders_and_loops(tmp_path: Path) -> None:
    for device in ("/dev/null", "/dev/zero"):
        write_output(Path(device), b"rows\n")
    with pytest.raises(StoreError, match="the disk is full"):
        write_output(Path("/dev/full"), b"rows\n")
    with pytest.raises(StoreError, match="it is a folder"):
        open_stream(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StoreError, match="symbolic link loop"):
        open_stream(tmp_path / "loop")
    assert open_stream(tmp_path / "new") is None
    write_output(tmp_path / "new", b"rows\n")
    assert (tmp_path / "new").read_bytes() == b"rows\n"
