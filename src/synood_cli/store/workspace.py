"""A workspace: a folder with `synood.toml`, `synood.db`, `artifacts/` and `reports/`, found like git's."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synood_cli.config import Execution, Models
from synood_cli.errors import StoreError, UsageError
from synood_cli.records import printable
from synood_cli.settings_file import TOML_TEMPLATE, Config
from synood_cli.store.files import disk_errors, write_atomic

ENVIRONMENT = "SYNOOD_WORKSPACE"


@dataclass(frozen=True)
class Workspace:
    """Where everything of one study lies."""

    root: Path

    @property
    def settings_file(self) -> Path:
        return self.root / "synood.toml"

    @property
    def database(self) -> Path:
        return self.root / "synood.db"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    def config(self) -> Config:
        return Config.read(self.settings_file)

    @classmethod
    def create(cls, root: Path) -> Workspace:
        """Make a workspace at `root`; one that is there already is left as it is."""
        workspace = cls(root.absolute())
        with disk_errors(root):
            if root.exists() and not root.is_dir():
                raise UsageError(f"{root} is a file, not a folder", hint="name a folder that is new or empty")
            workspace.refuse_links()
            workspace.artifacts.mkdir(parents=True, exist_ok=True)
            workspace.reports.mkdir(exist_ok=True)
        if not _is_workspace(workspace.root):
            text = TOML_TEMPLATE.format(models=Models(), execution=Execution())
            write_atomic(workspace.settings_file, text.encode())
        return workspace

    @classmethod
    def find(cls, given: Path | None) -> Workspace:
        """The workspace at `given`, else at $SYNOOD_WORKSPACE, else the nearest one from here upwards."""
        named = given or (Path(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else None)
        if named is not None:
            if not _is_workspace(named):
                raise UsageError(
                    f"{named} is no synood workspace (no synood.toml)", hint=f"synood init {shlex.quote(str(named))}"
                )
            return cls(named.absolute())
        here = Path.cwd()
        for folder in (here, *here.parents):
            if _is_workspace(folder):
                return cls(folder)
        raise UsageError("no synood workspace here or above", hint="synood init DIR && cd DIR, or -w DIR")

    @classmethod
    def found(cls, given: Path | None) -> Workspace | None:
        """As `find`, but None where nothing names a workspace and there is none from here upwards."""
        try:
            return cls.find(given)
        except UsageError:
            if given or os.environ.get(ENVIRONMENT):
                raise
            return None

    def refuse_links(self) -> None:
        """Raise StoreError when a part of the workspace is a symbolic link, or no folder or file where one belongs: who
        made the workspace must not decide what is overwritten or removed outside it."""
        database = self.database.name
        folders = {self.artifacts.name, self.reports.name}
        for name in (*sorted(folders), database, *(f"{database}-{part}" for part in ("wal", "shm", "journal"))):
            path = self.root / name
            try:
                mode = path.lstat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise StoreError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error
            if stat.S_ISLNK(mode):
                raise StoreError(f"{path} is a symbolic link, which a workspace does not follow", hint=_NO_LINKS)
            wanted = "folder" if name in folders else "regular file"
            if not (stat.S_ISDIR(mode) if wanted == "folder" else stat.S_ISREG(mode)):
                raise StoreError(f"{path} is no {wanted}", hint=f"restore the {wanted}, or move it away to start again")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the workspace for writing. Raises StoreError naming the process that holds it already."""
        path = self.root / ".lock"
        descriptor = _open_lock(path)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"the workspace {self.root} is in use by {_holder(descriptor)}",
                    hint="wait until it ends, or work in another workspace (-w DIR)",
                ) from None
            except OSError as error:
                raise StoreError(
                    f"the file system of {self.root} cannot lock files ({error.strerror})",
                    hint="it may be a network drive: put the workspace on a disk of this machine",
                ) from error
            note = json.dumps({"pid": os.getpid(), "command": " ".join(["synood", *sys.argv[1:]])})
            with contextlib.suppress(OSError):  # the note is a courtesy: `synood gc` must run on a full disk
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, note.encode("utf-8", "backslashreplace"), 0)
            yield
        finally:
            os.close(descriptor)


_NO_LINKS = "replace it with what it leads to; a workspace as a whole may be reached through a link"
_NOTE_LIMIT = 2**16


def _is_workspace(folder: Path) -> bool:
    """Whether `folder` holds a settings file. Raises UsageError when it holds something else of that name, or cannot be
    looked into."""
    path = folder / "synood.toml"
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise UsageError(f"cannot read {path!s:.300}: {error.strerror}", hint="check the path") from error
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is no regular file", hint="replace it with a text file; an empty one will do")
    return True


def _open_lock(path: Path) -> int:
    """A descriptor of the lock file, which is made where there is none; nothing in it is changed.

    Raises StoreError when it is a link, a pipe, or a second name of some other file: what is written to it would be
    written elsewhere.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with disk_errors(path):
            descriptor = os.open(path, flags, 0o644)
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.ELOOP:
            raise StoreError(f"{path} is a symbolic link, not the workspace's lock", hint=f"remove {path}") from cause
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise StoreError(f"{path} is not the workspace's own lock file", hint=f"remove {path}")
    return descriptor


def _holder(descriptor: int) -> str:
    """Who holds the lock, as the note in it says."""
    try:
        note = json.loads(os.pread(descriptor, _NOTE_LIMIT, 0))
        return printable(f"process {note['pid']} ({note['command']})")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
