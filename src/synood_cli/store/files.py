"""Files that are either whole or absent: temp, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from synood_cli.errors import StoreError
from synood_cli.paths import REASONS, refused
from synood_cli.records import printable

TEMPORARY = ".writing-"
_SCRATCH = re.compile(re.escape(TEMPORARY) + r"[0-9a-f]{16}(\.\w+)?")
_REASONS = REASONS | {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "file too large",
    errno.EROFS: "the file system is read-only",
    errno.EPERM: "permission denied",
    errno.EEXIST: "a file of that name is in the way",
    errno.EISDIR: "it is a folder",
    errno.EIO: "the disk does not answer as it should (input/output error)",
    errno.ENOENT: "its folder does not exist, or can hold no files",
    errno.EBUSY: "it is in use by the system (a mount point?)",
    errno.ESTALE: "the network drive has lost it",
    errno.EINVAL: "the file system does not take such a name or file",
}
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS}
"""What fsync says where the file system has none to offer."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn whatever the system says while `path` is written into a message that names it: a full disk, a used-up
    quota, a read-only folder. Only the other end of a pipe or a connection is left to who knows about it."""
    try:
        yield
    except ConnectionError:  # a closed pipe too
        raise
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise refused(path, error) from error
        reason = _REASONS.get(error.errno or 0, (error.strerror or str(error)).lower())
        room = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise StoreError(
            f"cannot write {printable(str(path))}: {reason}",
            hint=f"what was finished is kept: {'make room' if room else 'put that right'} (or choose another place), "
            "then run the same command again",
        ) from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a crash leaves the old file or the new one, never a part. A link is followed.

    Raises StoreError when the disk is full, the folder cannot be written, or `path` is a folder, a device or a pipe:
    none of these is a file that another can replace.
    """
    with disk_errors(path):
        if path.exists() and not path.is_file():
            kind = "it is a folder" if path.is_dir() else "it is not a regular file"
            raise StoreError(f"cannot write {printable(str(path))}: {kind}", hint="remove it, or choose another place")
        target = Path(os.path.realpath(path))
        remove_abandoned(target.parent)
        _replace(target, content)


def write_inside(root: Path, relative: str, content: bytes) -> None:
    """Write the file `relative` below the folder `root`, whole or not at all. No link is followed: what is called
    `relative` is in `root` afterwards, whoever made the folder.

    Raises StoreError, as write_atomic, and when `relative` leads out of `root`, or a part of the path is a link.
    """
    path = inside(root, relative)
    with disk_errors(path):
        refuse_links(root, relative)
        _replace(path, content)


def inside(root: Path, relative: str) -> Path:
    """The path `relative` below the folder `root`. Raises StoreError when it would lead out of it."""
    path = PurePosixPath(relative)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in relative:
        raise StoreError(
            f"{printable(relative):.200} is not a path below {printable(str(root))}",
            hint="the workspace's database was changed, and not by synood: `synood verify` tells more",
        )
    return root / path


def is_regular(path: Path, size: int) -> bool:
    """Whether `path` is a file of `size` bytes, and no link."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, sorted; a link counts as a file, wherever it leads."""
    found = [] if folder.is_symlink() else sorted(folder.rglob("*"))
    return (path for path in found if path.is_symlink() or not path.is_dir())


def remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder with all that is in it, if it exists."""
    with disk_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def refuse_links(root: Path, relative: str) -> None:
    """Raise StoreError when `root`, or a folder between it and `relative` below it, is a symbolic link."""
    folder = root / relative
    while folder != root:
        folder = folder.parent
        if folder.is_symlink():
            raise StoreError(
                f"{printable(str(folder))} is a symbolic link, which a workspace does not follow",
                hint="replace it with the folder itself (a workspace as a whole may be reached through a link)",
            )


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_in(path.parent) as scratch:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            sync(file.fileno())
        scratch.replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def scratch_in(folder: Path, suffix: str = "", *, directory: bool = False) -> Iterator[Path]:
    """Within: a new empty file (or directory) in `folder`, of a name that nobody can guess, which ends in `suffix`. At
    the end it is removed unless it has been renamed. It is locked meanwhile, by which `remove_abandoned` knows it."""
    while True:
        scratch = folder / f"{TEMPORARY}{secrets.token_hex(8)}{suffix}"
        if directory:
            scratch.mkdir()
        else:  # with the permissions of any new file; tempfile's are private
            os.close(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        descriptor = os.open(scratch, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # without locks, nothing is removed either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if has_name(descriptor, scratch):
            break
        os.close(descriptor)  # taken for abandoned between our two steps
    try:
        yield scratch
    finally:
        if directory:
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink(missing_ok=True)
        os.close(descriptor)


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed have left of `scratch_in` in `folder`. What is still held, or belongs to
    another user, stays; so does everything where the file system has no locks."""
    try:
        found = [entry.path for entry in os.scandir(folder) if _SCRATCH.fullmatch(entry.name)]
    except OSError:  # there is no such folder yet, or it cannot be listed
        return
    for path in found:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.geteuid():
                    remove(Path(path))
            finally:
                os.close(descriptor)


def has_name(descriptor: int, path: Path) -> bool:
    """Whether the open file `descriptor` is what is at `path` now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def link_file(source: Path, target: Path) -> None:
    """Give the file `source` a second name `target`; a copy where the file system has no hard links.

    Files of artifacts are never written to, so two names of one file are as good as two files.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:
            _replace(target, source.read_bytes())


def sync(descriptor: int) -> None:
    """Make what was written survive a power cut, as far as the file system offers that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written to but not listed
        return
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(content: bytes) -> str:
    """Hex SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()
