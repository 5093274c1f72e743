"""Keep a workspace sound: find what is not as it was written, and remove what is not needed."""

from __future__ import annotations

import logging
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from synood_cli.errors import StoreError
from synood_cli.store.database import is_full
from synood_cli.store.digest import content_digest, follows_from_its_parts, record_digest
from synood_cli.store.files import TEMPORARY, files_below, remove, sha256_file
from synood_cli.store.store import KINDS, NUMBERS_END, Artifact, Store

STRAY: Final = "belongs to no artifact"
"""What is wrong with a file that `gc` removes."""


class Problem(NamedTuple):
    """Something that is not as it was written."""

    where: str
    what: str


class Removal(NamedTuple):
    """What `gc` removed, or would. `what` is an artifact's name or a path below the workspace."""

    what: str
    why: str
    bytes: int


def verify(store: Store) -> Iterator[Problem]:
    """Yield every difference between the workspace and what was recorded of its complete artifacts.

    Checks the database itself (integrity, foreign keys), each file's presence, size and SHA-256, each artifact's
    content digest, record digest and identity, and files that belong to no artifact. Reads everything, changes nothing.
    """
    yield from database_problems(store)
    # The disk before the rows: a stage that is running meanwhile may add to both.
    on_disk = list(files_below(store.workspace.artifacts))
    running, known = set(), set()
    for name, artifact in _artifacts(store):
        if isinstance(artifact, StoreError):
            running.add(name)  # a problem of the database; whose its files are is not known
            continue
        running |= {name} if artifact.status == "unfinished" else set()
        try:
            known |= {path for path, _, _ in store.files(artifact)}
        except (StoreError, sqlite3.DatabaseError):
            continue
        if artifact.status == "complete":
            yield from _verify_files(store, artifact)
    for path, digest in store.remembered_digests():
        if sha256_file(path) != digest:
            yield Problem(
                store.workspace.database.name, f"the remembered SHA-256 of {path} is not its own (digest_cache)"
            )
    for path in on_disk:
        # An unfinished artifact may have files whose rows were not written any more; gc knows them.
        if path not in known and path.relative_to(store.workspace.artifacts).parts[0] not in running:
            yield Problem(str(path.relative_to(store.workspace.root)), STRAY)


def database_problems(store: Store) -> Iterator[Problem]:
    """Yield what `verify` finds in the database alone."""
    database = store.workspace.database.name
    for (text,) in store.db.execute("pragma integrity_check").fetchall():
        if text != "ok":
            yield Problem(database, text)
    for table, row, parent, _ in store.db.execute("pragma foreign_key_check").fetchall():
        yield Problem(database, f"{table} row {row} refers to a row that {parent} lacks")
    yield from _numbers(store)
    for name, artifact in _artifacts(store):
        if isinstance(artifact, StoreError):
            yield Problem(name, artifact.message)
            continue
        try:
            yield from _verify_rows(store, artifact)
        except StoreError as error:
            yield Problem(name, error.message)
        except Exception as error:  # whatever a damaged row leads to is this artifact's problem
            logging.getLogger(__name__).info("%s cannot be checked", name, exc_info=error)
            yield Problem(name, f"its rows in the database cannot be read: {error}")


def _numbers(store: Store) -> Iterator[Problem]:
    """Problems of the numbers that the next artifacts continue."""
    database = store.workspace.database.name
    given = dict(store.db.execute("select kind, max(version) from artifacts group by kind").fetchall())
    newest = dict(store.db.execute("select kind, newest from versions").fetchall())
    for kind in given.keys() | newest.keys():
        last, after = given.get(kind, 0), newest.get(kind)
        goes_on = isinstance(last, int) and isinstance(after, int) and last <= after < NUMBERS_END
        if kind not in KINDS or not goes_on:
            yield Problem(
                database, f"versions gives {after!r:.40} as the last number of {kind!r:.40}, not {last!r:.40}"
            )
    [twice] = store.db.execute("select count(*) - count(distinct asked) from artifacts").fetchone()
    if twice:
        yield Problem(database, "two artifacts are the one that was asked for last (asked)")


def _artifacts(store: Store) -> list[tuple[str, Artifact | StoreError]]:
    """(name, artifact) of every row, or why the row is none."""
    found: list[tuple[str, Artifact | StoreError]] = []
    for row_id, stored in store.db.execute("select id, name from artifacts order by id").fetchall():
        name = stored if isinstance(stored, str) else f"artifact {row_id}"
        try:
            found.append((name, store.by_id(row_id)))
        except StoreError as error:
            found.append((name, error))
        except sqlite3.DatabaseError as error:
            found.append((name, StoreError(str(error))))
    return found


def _verify_rows(store: Store, artifact: Artifact) -> Iterator[Problem]:
    store.inputs(artifact)
    store.models(artifact)
    store.failures(artifact)
    store.files(artifact)
    if artifact.status != "complete":
        return
    if content_digest(store.db, artifact.id) != artifact.digest:
        yield Problem(artifact.name, "its rows in the database have changed (content digest)")
    [recorded] = store.db.execute("select record from artifacts where id = ?", [artifact.id]).fetchone()
    if record_digest(store.db, artifact.id) != recorded:
        what = "stage, settings, seed, inputs, models, notes, counts, failures or photographs"
        yield Problem(artifact.name, f"what the database says of it has changed: {what} (record digest)")
    if not follows_from_its_parts(store.db, artifact.id):
        yield Problem(artifact.name, "its identity is not that of its stage, settings, seed, inputs and models")


def _verify_files(store: Store, artifact: Artifact) -> Iterator[Problem]:
    for path, size, digest in store.files(artifact):
        where = str(path.relative_to(store.workspace.root))
        try:
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode) or path.parent.resolve() != _real(store, path.parent):
                yield Problem(where, "is a symbolic link, or in a folder that is one")
            elif not stat.S_ISREG(status.st_mode):
                yield Problem(where, "is not a regular file")
            elif status.st_size != size:
                yield Problem(where, f"has {status.st_size} bytes instead of {size}")
            elif sha256_file(path) != digest:
                yield Problem(where, "its content has changed (SHA-256)")
        except OSError as error:
            yield Problem(where, "is missing" if isinstance(error, FileNotFoundError) else f"{error.strerror}")


def _real(store: Store, folder: Path) -> Path:
    """Where `folder`, which is in the workspace, is when only the path to the workspace has links."""
    return store.workspace.root.resolve() / folder.relative_to(store.workspace.root)


def gc(store: Store, *, unfinished: bool, superseded: bool, dry_run: bool) -> list[Removal]:
    """Remove what is not needed and return what was removed; on a dry run, what would be.

    Always: temporary files that a crash left, and what lies in artifacts/ without belonging to an artifact.
    `unfinished`: artifacts that an interrupted run left. `superseded`: complete artifacts that are neither the newest
    of their kind nor what one that stays was made from: its inputs, and the features that it notes.

    The store must be open for writing. An artifact's rows go first, in one transaction: a crash leaves files that the
    next run removes, not rows without files.
    """
    root = store.workspace.root
    leaving = _leaving(store, unfinished=unfinished, superseded=superseded)
    removals = [Removal(artifact.name, why, _size(artifact.folder)) for artifact, why in leaving]
    names = {artifact.name for artifact, _ in leaving}
    strays = [path for path in _strays(store) if path.relative_to(root).parts[1:2] not in {(name,) for name in names}]
    removals += [
        Removal(str(path.relative_to(root)), "temporary" if _temporary(path) else "no artifact's", _size(path))
        for path in strays
    ]
    if not dry_run:
        for path in strays:
            remove(path)
        _remove_artifacts(store, [artifact for artifact, _ in leaving])
    return removals


def _remove_artifacts(store: Store, leaving: Sequence[Artifact]) -> None:
    """Remove rows, then files. Where the disk is too full to note that the rows are gone, and removing the files makes
    more room than that can take, files go first: a crash then leaves artifacts without their files, which nothing
    reuses or resumes, for the next run."""
    try:
        _remove_rows(store, leaving)
    except sqlite3.OperationalError as error:
        room = sum(_size(artifact.folder) for artifact in leaving)
        if not is_full(error) or room < 2 * store.workspace.database.stat().st_size:
            raise
        for artifact in leaving:
            remove(artifact.folder)
        _remove_rows(store, leaving)
    for artifact in leaving:
        remove(artifact.folder)


def _remove_rows(store: Store, leaving: Sequence[Artifact]) -> None:
    with store.db.atomic():
        for artifact in sorted(leaving, key=lambda one: -one.id):  # what was made from an input before it
            store.db.execute("delete from artifacts where id = ?", [artifact.id])


def _leaving(store: Store, *, unfinished: bool, superseded: bool) -> list[tuple[Artifact, str]]:
    artifacts = store.artifacts()
    by_name = {artifact.name: artifact for artifact in artifacts}
    kinds = {artifact.kind for artifact in artifacts if artifact.status == "complete"}
    last_made = {artifact.kind: artifact for artifact in artifacts if artifact.status == "complete"}
    pending = [
        *last_made.values(),
        *(store.newest(kind) for kind in kinds),  # asked for last, and perhaps made long ago
        *(a for a in artifacts if a.status == "unfinished" and not unfinished),
    ]
    needed: set[int] = set()
    while pending:
        artifact = pending.pop()
        if artifact.id not in needed:
            needed.add(artifact.id)
            pending.extend(store.inputs(artifact).values())
            pending.extend(by_name[name] for name in artifact.notes.get("features", ()) if name in by_name)
    asked = {"unfinished": unfinished, "complete": superseded}
    reasons = {"unfinished": "unfinished", "complete": "superseded"}
    return [(a, reasons[a.status]) for a in artifacts if asked[a.status] and a.id not in needed]


def _strays(store: Store) -> Iterator[Path]:
    """Temporary files anywhere, then what lies in artifacts/ and belongs to no artifact; a folder as a whole."""
    workspace = store.workspace
    yield from sorted(workspace.root.glob(f"{TEMPORARY}*"))
    yield from sorted(workspace.reports.rglob(f"{TEMPORARY}*"))
    known = _known_files(store)
    names = {artifact.name for artifact in store.artifacts()}
    for entry in sorted(workspace.artifacts.iterdir()) if workspace.artifacts.is_dir() else []:
        if entry.name not in names:
            yield entry
        else:
            yield from (path for path in files_below(entry) if path not in known)


def _known_files(store: Store) -> set[Path]:
    return {path for artifact in store.artifacts() for path, _, _ in store.files(artifact)}


def _temporary(path: Path) -> bool:
    return path.name.startswith(TEMPORARY)


def _size(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return sum(file.lstat().st_size for file in files_below(path))
    return path.lstat().st_size if path.is_symlink() or path.exists() else 0
