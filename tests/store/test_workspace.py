"""A workspace that somebody else made decides nothing outside it."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from synood_cli.errors import StoreError, UsageError
from synood_cli.store.workspace import Workspace


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_bytes(b"precious")
    return path


def test_a_lock_that_leads_elsewhere_is_refused_and_its_target_kept(workspace: Workspace, victim: Path) -> None:
    lock = workspace.root / ".lock"
    for make in (lambda: lock.symlink_to(victim), lambda: lock.hardlink_to(victim), lambda: os.mkfifo(lock)):
        make()
        with pytest.raises(StoreError, match="lock") as refused, workspace.lock():
            pass
        assert refused.value.hint == f"remove {lock}"
        lock.unlink()
    lock.mkdir()
    with pytest.raises(StoreError, match="it is a folder"), workspace.lock():
        pass
    assert victim.read_bytes() == b"precious"
    lock.rmdir()
    with workspace.lock():
        assert lock.is_file()


@pytest.mark.parametrize(
    "note", [b"", b"\xff\xfe", b"[1]", b'{"pid": 1}', b"[" * 50_000, b'{"pid": "\x1b", "command": 1}']
)
def test_a_lock_whose_note_is_damaged_still_locks(workspace: Workspace, note: bytes) -> None:
    with workspace.lock():
        (workspace.root / ".lock").write_bytes(note)
        with pytest.raises(StoreError, match=r"is in use by (another )?process") as refused, workspace.lock():
            pass
        assert "\x1b" not in refused.value.message


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_said(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match="cannot lock files") as refused, workspace.lock():
        pass
    assert "network drive" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "part", ["artifacts", "reports", "synood.db", "synood.db-wal", "synood.db-shm", "synood.db-journal"]
)
def test_no_part_of_a_workspace_may_be_a_link(workspace: Workspace, victim: Path, part: str) -> None:
    path = workspace.root / part
    if path.is_dir():
        path.rmdir()
    path.symlink_to(victim)
    with pytest.raises(StoreError, match=f"{part} is a symbolic link"):
        workspace.refuse_links()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreError, match=f"{part} is no (folder|regular file)"):
        workspace.refuse_links()


def test_a_workspace_may_be_reached_through_a_link(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(workspace.root)
    Workspace.find(tmp_path / "link").refuse_links()


def test_a_settings_file_that_is_none(workspace: Workspace, tmp_path: Path) -> None:
    workspace.settings_file.unlink()
    os.mkfifo(workspace.settings_file)
    with pytest.raises(UsageError, match=r"synood.toml is no regular file"):
        Workspace.find(workspace.root)
    workspace.settings_file.unlink()
    workspace.settings_file.symlink_to("synood.toml")
    with pytest.raises(UsageError, match=r"cannot read .*symbolic links"):
        Workspace.find(workspace.root)
    for name in ("n" * 5000, "a\0b"):
        with pytest.raises(UsageError, match=r"cannot read|is no synood workspace"):
            Workspace.find(tmp_path / name)
