"""Putting images into another folder, so that none is ever lost: not overwritten, not half, not outside the folder."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path

from synood_cli.data.access import access_problem
from synood_cli.data.identity import content_sha256
from synood_cli.errors import ItemError

TEMPORARY = ".setting-aside-"
_CHANGED = "it changes while it is moved"
_NO_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


class ChangedError(ItemError):
    """The file is no longer the one that was meant."""


class SetAside:
    """Moves or copies images into `folder`, each to its relative name. Doing it twice is doing it once: what an
    interruption left half done is finished, what is there already stays.
    """

    def __init__(self, folder: Path, *, move: bool) -> None:
        self.folder = folder
        self.move = move

    def __call__(self, source: Path, name: str, sha256: str) -> None:
        """Move or copy `source`, whose content must have this SHA-256, to folder/name.

        Raises ChangedError when `source` is another image by now; ItemError when another file of that name is there,
        when a link in the folder leads out of it, or when the disk refuses. `source` is then where it was.
        """
        target = self.folder / name
        try:
            before = source.lstat()
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(self.folder.resolve()) or target.name in ("", ".."):
                raise ItemError(f"a link leads out of {self.folder}")
            if _is_same_name(source, before, target):
                return
            if not self._linked(source, target, sha256):
                self._copied(source, target, sha256)
            if self.move:
                _sync(target.parent)
                _remove(source, before)
                _sync(source.parent)
        except OSError as error:
            raise ItemError(access_problem(target, error)) from error

    def _linked(self, source: Path, target: Path, sha256: str) -> bool:
        """Whether the file itself got the name `target`, which takes no room and cannot be half done."""
        if not self.move or source.is_symlink():
            return False
        try:
            target.hardlink_to(source)
        except FileExistsError:
            _require_same(target, sha256, source)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return False
        else:
            _require_content(target, sha256)
        return True

    def _copied(self, source: Path, target: Path, sha256: str) -> None:
        if os.path.lexists(target):
            _require_same(target, sha256, source)
            return
        temporary = target.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            shutil.copyfile(source, temporary)
            shutil.copystat(source, temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            if content_sha256(temporary) != sha256:
                raise ChangedError(_CHANGED)
            _named(temporary, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        _sync(target.parent)


def _is_same_name(source: Path, before: os.stat_result, target: Path) -> bool:
    """Whether the two are one name of one file (also by way of another mount, or in other capitals where these do not
    count): there it is already, and removing the one would remove the other."""
    try:
        there = target.lstat()
    except FileNotFoundError:
        return False
    one_entry = source.name == target.name and source.parent.samefile(target.parent)
    return one_entry or (before.st_nlink == 1 and os.path.samestat(before, there))


def _require_content(target: Path, sha256: str) -> None:
    """Raise ChangedError, and take the name `target` back, when the file that has got it is not the one meant."""
    try:
        found = content_sha256(target)
    except OSError:
        target.unlink()
        raise
    if found != sha256:
        target.unlink()
        raise ChangedError(_CHANGED)


def _require_same(target: Path, sha256: str, source: Path) -> None:
    """Raise an error unless `target` and `source` are files of this content."""
    if target.is_symlink() or not target.is_file() or content_sha256(target) != sha256:
        raise ItemError(f"another file is at {target} already")
    if content_sha256(source) != sha256:
        raise ChangedError(_CHANGED)


def _remove(source: Path, before: os.stat_result) -> None:
    """Remove what `source` was `before`. Whatever has taken its place meanwhile stays: a rename takes hold of one file,
    so that none is removed but the one that is looked at. Raises ChangedError in that case."""
    held = source.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    source.rename(held)
    if _looks(held.lstat()) == _looks(before):
        held.unlink()
        return
    with contextlib.suppress(FileExistsError):  # a third one has come, and would have replaced this one
        _named(held, source)
    held.unlink(missing_ok=True)
    raise ChangedError(_CHANGED)


def _looks(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _named(temporary: Path, target: Path) -> None:
    """Give a whole file its name. Unlike a rename, a link fails where that name is taken."""
    try:
        target.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):  # a file system without links: looked at, then renamed
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        temporary.rename(target)


def _sync(folder: Path) -> None:
    with contextlib.suppress(PermissionError):  # a folder that may be written to, not listed
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        finally:
            os.close(descriptor)
