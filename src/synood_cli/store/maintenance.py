"""Keep a workspace sound: find what is not as it was written, and remove what is not needed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from synood_cli.store.digest import content_digest
from synood_cli.store.files import TEMPORARY, disk_errors, sha256_file
from synood_cli.store.store import Artifact, Store, loaded_name


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
    content digest, and files that belong to no artifact. Reads everything, changes nothing.
    """
    for (text,) in store.db.execute("pragma integrity_check").fetchall():
        if text != "ok":
            yield Problem(store.workspace.database.name, text)
    for table, row, parent, _ in store.db.execute("pragma foreign_key_check").fetchall():
        yield Problem(store.workspace.database.name, f"{table} row {row} refers to a row that {parent} lacks")
    # The disk before the rows: a stage that is running meanwhile may add to both.
    on_disk = list(_files(store.workspace.artifacts))
    for artifact in store.artifacts():
        if artifact.status == "complete":
            yield from _verify_artifact(store, artifact)
    running = {artifact.name for artifact in store.artifacts() if artifact.status == "unfinished"}
    known = _known_files(store)
    for path in on_disk:
        # An unfinished artifact may have files whose rows were not written any more; gc knows them.
        if path not in known and path.relative_to(store.workspace.artifacts).parts[0] not in running:
            yield Problem(str(path.relative_to(store.workspace.root)), "belongs to no artifact")


def _verify_artifact(store: Store, artifact: Artifact) -> Iterator[Problem]:
    rows = store.db.execute("select path, bytes, sha256 from files where artifact_id = ? order by path", [artifact.id])
    for name, size, digest in rows.fetchall():
        path = artifact.folder / loaded_name(name)
        where = str(path.relative_to(store.workspace.root))
        try:
            actual = path.stat().st_size
            if actual != size:
                yield Problem(where, f"has {actual} bytes instead of {size}")
            elif sha256_file(path) != digest:
                yield Problem(where, "its content has changed (SHA-256)")
        except OSError as error:
            yield Problem(where, "is missing" if isinstance(error, FileNotFoundError) else f"{error.strerror}")
    if content_digest(store, artifact.id) != artifact.digest:
        yield Problem(artifact.name, "its rows in the database have changed (content digest)")


def gc(store: Store, *, unfinished: bool, superseded: bool, dry_run: bool) -> list[Removal]:
    """Remove what is not needed and return what was removed; on a dry run, what would be.

    Always: temporary files that a crash left, and what lies in artifacts/ without belonging to an artifact.
    `unfinished`: artifacts that an interrupted run left. `superseded`: complete artifacts that are neither the newest
    of their kind nor what one that stays was made from: its inputs, and the features that it notes.

    The store must be open for writing. Rows go first, in one transaction: a crash leaves files that the next run
    removes, never rows without files.
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
        with store.db.atomic():
            for artifact, _ in sorted(leaving, key=lambda pair: -pair[0].id):  # what was made from an input before it
                store.db.execute("delete from artifacts where id = ?", [artifact.id])
        for path in [*(artifact.folder for artifact, _ in leaving), *strays]:
            _remove(path)
    return removals


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
            yield from (path for path in _files(entry) if path not in known)


def _known_files(store: Store) -> set[Path]:
    rows = store.db.execute("select a.name, f.path from files f join artifacts a on a.id = f.artifact_id").fetchall()
    return {store.workspace.artifacts / name / loaded_name(path) for name, path in rows}


def _files(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, sorted; a link counts as a file, wherever it leads."""
    return (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())


def _temporary(path: Path) -> bool:
    return path.name.startswith(TEMPORARY)


def _size(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return sum(file.lstat().st_size for file in _files(path))
    return path.lstat().st_size if path.is_symlink() or path.exists() else 0


def _remove(path: Path) -> None:
    with disk_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
