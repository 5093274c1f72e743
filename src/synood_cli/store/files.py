"""Files that are either whole or absent: temp, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from synood_cli.errors import StoreError
from synood_cli.records import printable

TEMPORARY = ".writing-"
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "file too large",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file of that name is in the way",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EISDIR: "it is a folder",
    errno.EIO: "the disk does not answer as it should (input/output error)",
    errno.ELOOP: "symbolic link loop",
    errno.ENOENT: "its folder does not exist, or can hold no files",
}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a used-up quota or a read-only folder into a message that names `path`."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
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
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:  # with the permissions of any new file; tempfile's are private
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


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
            write_atomic(target, source.read_bytes())


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(content: bytes) -> str:
    """Hex SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()
