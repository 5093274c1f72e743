"""The artifact store: what has been made, from what, and under which identity."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from synood_cli.errors import StoreError, UsageError
from synood_cli.records import ModelSpec
from synood_cli.store.database import DAMAGED, RowCheck, database_errors, not_writable, open_database
from synood_cli.store.files import inside, is_regular, sha256_file
from synood_cli.store.schema import ARTIFACT_TABLES, is_current, migrate
from synood_cli.store.workspace import Workspace

MAKERS = {
    # kind of artifact → the first command that makes one
    "selection": "select",
    "captions": "caption",
    "synthetic": "synthesize",
    "features": "mine-labels",
    "head": "mine-labels",
    "eval": "eval",
    "scores": "score",
    "sweep": "sweep",
}
KINDS = tuple(MAKERS)
SETTLED_NS = 2_000_000_000
"""The coarsest clock of a file system (FAT's)."""
NUMBERS_END = 2**62
"""No version of an artifact, and no number of a question, is that high: one more would still be a number to SQLite."""


@dataclass(frozen=True)
class Artifact:
    """One row of `artifacts`: immutable once complete."""

    id: int
    name: str
    kind: str
    version: int
    stage: str
    status: str
    identity: str
    digest: str | None
    settings: dict[str, Any]
    seed: int
    tool_version: str
    items_done: int
    items_failed: int
    notes: dict[str, Any]
    asked: int
    created_at: str
    finished_at: str | None
    seconds: float
    folder: Path
    reused: bool = field(default=False, compare=False)


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text on every machine."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def stored_name(name: str) -> str | bytes:
    """A file name as SQLite can hold it: text, or its raw bytes where they are not valid UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


def loaded_name(name: str | bytes) -> str:
    """Inverse of `stored_name`."""
    return os.fsdecode(name) if isinstance(name, bytes) else name


def now() -> str:
    """UTC time, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _looks(status: os.stat_result) -> list[int]:
    """Size, modification time and change time: while these stay, so does the content."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


@contextlib.contextmanager
def _upgrading(workspace: Workspace) -> Iterator[None]:
    """Say of a disk that is full or cannot be written to that the workspace's format is upgraded first."""
    try:
        yield
    except (StoreError, sqlite3.OperationalError) as error:
        refused = isinstance(error.__cause__, OSError) if isinstance(error, StoreError) else not_writable(error)
        if not refused or not workspace.database.exists():
            raise
        reason = error.message if isinstance(error, StoreError) else "the disk is full, or the folder read-only"
        room = workspace.database.stat().st_size // 2**20 + 1
        raise StoreError(
            f"an older synood wrote {workspace.database}, whose format must be upgraded before anything else, and this "
            f"failed: {reason}",
            hint=f"any command upgrades it where the folder can be written to and has some {room} MiB of room: make it "
            "so, or copy the workspace to such a place",
        ) from error


class Store:
    """An open workspace. Only one process writes at a time: `Store.open(workspace, write=True)` takes its lock."""

    def __init__(self, workspace: Workspace, db: Database) -> None:
        self.workspace = workspace
        self.db = db

    @classmethod
    @contextlib.contextmanager
    def open(cls, workspace: Workspace, *, write: bool) -> Iterator[Store]:
        """Open the database, migrating it if an older synood wrote it.

        Raises StoreError when another process holds the workspace (for writing), when a newer synood wrote the
        database, when an older one did and nothing can be written, when the file is no database, or when it is gone
        and artifacts are left without it.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(database_errors(workspace.database))
            workspace.refuse_links()
            if write:
                stack.enter_context(workspace.lock())
            db = open_database(workspace, write=write)
            stack.callback(db.close)
            if not is_current(db):
                with _upgrading(workspace):
                    if not write and workspace.database.exists():
                        stack.enter_context(workspace.lock())
                    migrate(db)
            store = cls(workspace, db)
            if write:
                stack.callback(store.forget_begun)
            yield store

    def forget_begun(self) -> None:
        """Forget the artifacts that were begun and hold nothing yet, such as those of a command that found no model."""
        with contextlib.suppress(sqlite3.Error, StoreError), self.db.atomic():
            for artifact in self.artifacts():
                empty = not (artifact.items_done or artifact.items_failed or artifact.notes)
                if artifact.status == "unfinished" and empty and not artifact.folder.exists():
                    self.db.execute("delete from artifacts where id = ?", [artifact.id])
                    self.db.execute(
                        "update versions set newest = newest - 1 where kind = ? and newest = ?",
                        [artifact.kind, artifact.version],
                    )

    def artifacts(self, kind: str | None = None) -> list[Artifact]:
        """All artifacts, oldest first."""
        where, values = ("kind = ?", [kind]) if kind else ("1", [])
        return [self._artifact(row) for row in self.db.table("artifacts").rows_where(where, values, order_by="id")]

    def get(self, name: str) -> Artifact:
        """The artifact called `name` (kind@N, or a kind for its newest complete one)."""
        match = re.fullmatch(r"([a-z]+)(?:@(\d+))?", name)
        if match is None or match[1] not in KINDS:
            raise UsageError(f"{name!r} names no artifact", hint=f"kind@N, where kind is one of {', '.join(KINDS)}")
        if match[2] is None:
            return self.newest(match[1])
        rows = list(self.db.table("artifacts").rows_where("name = ?", [name]))
        if not rows:
            have = ", ".join(a.name for a in self.artifacts(match[1])) or "none yet"
            raise UsageError(f"there is no {name} in {self.workspace.root}", hint=f"{match[1]} artifacts: {have}")
        return self._artifact(rows[0])

    def kind(self, name: str) -> str:
        """`name` if it is a kind of artifact. Raises UsageError otherwise."""
        if name not in KINDS:
            raise UsageError(f"there is no kind of artifact named {name!r}", hint=f"known: {', '.join(KINDS)}")
        return name

    def newest(self, kind: str) -> Artifact:
        """The complete artifact of `kind` that was asked for last: made, or made again and reused. So a script that is
        run again finds at each step what its own step before has answered with.

        Raises UsageError naming the command that makes one.
        """
        rows = list(
            self.db.table("artifacts").rows_where(
                "kind = ? and status = 'complete'", [kind], order_by="asked desc", limit=1
            )
        )
        if not rows:
            raise UsageError(f"this workspace has no complete {kind} yet", hint=f"run `synood {MAKERS[kind]}` first")
        return self._artifact(rows[0])

    def resolve(self, name: str | None, kind: str) -> Artifact:
        """The complete artifact that `--from NAME` means, or the newest complete one of `kind`."""
        if name is None:
            return self.newest(kind)
        artifact = self.get(name)
        if artifact.kind != kind:
            raise UsageError(f"{name} is a {artifact.kind}; this command reads a {kind}")
        if artifact.status != "complete":
            raise UsageError(f"{name} is not finished", hint=f"run its `synood {artifact.stage}` command again")
        return artifact

    def next_version(self, kind: str) -> tuple[int, str]:
        """Number and name of the next artifact of `kind`. A number is never given twice, also when its artifact is
        gone; nor is one whose folder exists, such as those of artifacts that are newer than a database restored."""
        query = """insert into versions (kind, newest) values (?, 1)
                   on conflict (kind) do update set newest = newest + 1 returning newest"""
        while True:
            version = int(self.db.execute(query, [kind]).fetchone()[0])
            name = f"{kind}@{version}"
            if not os.path.lexists(self.workspace.artifacts / name):
                return version, name

    @contextlib.contextmanager
    def without_waiting(self) -> Iterator[None]:
        """Within: transactions do not wait until they are on the disk; the next one outside makes them last. They are
        whole, and in their order, whatever happens."""
        self.db.execute("pragma synchronous = normal")
        try:
            yield
        finally:
            self.db.execute("pragma synchronous = full")

    def has_inputs(self, artifact: Artifact, inputs: Mapping[str, Artifact]) -> bool:
        """Whether `artifact` is made from exactly these artifacts, not from others of equal content."""
        mine = {role: made.id for role, made in self.inputs(artifact).items()}
        return mine == {role: made.id for role, made in inputs.items()}

    def next_ask(self) -> int:
        """The number of the next question that is asked of this store."""
        return int(self.db.execute("select coalesce(max(asked), 0) + 1 from artifacts").fetchone()[0])

    def ask_for(self, artifact: Artifact) -> None:
        """Note that `artifact` answers the newest question: `newest` gives it from now on."""
        with self.db.atomic():
            self.db.execute("update artifacts set asked = ? where id = ?", [self.next_ask(), artifact.id])

    def find(self, identity: str, status: str) -> Artifact | None:
        """The newest artifact that asks this very question, or None. One whose files are no longer all there answers
        nothing, and cannot be resumed.
        """
        rows = self.db.table("artifacts").rows_where(
            "identity = ? and status = ?", [identity, status], order_by="id desc"
        )
        found = (self._artifact(row) for row in rows)
        return next((artifact for artifact in found if self._has_its_files(artifact)), None)

    def _has_its_files(self, artifact: Artifact) -> bool:
        """Whether each file of `artifact` is there in its size; `verify` looks at the content too."""
        return all(is_regular(path, size) for path, size, _ in self.files(artifact))

    def files(self, artifact: Artifact) -> list[tuple[Path, int, str]]:
        """(path, size, SHA-256) of each file of `artifact`. Raises StoreError for a path that leads elsewhere."""
        rows = self._read("files", artifact, "path")
        return [(inside(artifact.folder, loaded_name(row["path"])), row["bytes"], row["sha256"]) for row in rows]

    def inputs(self, artifact: Artifact) -> dict[str, Artifact]:
        """The artifacts that `artifact` was made from, by role."""
        found: dict[str, Artifact] = {}
        for row in self._read("lineage", artifact, "role"):
            if row["input_id"] >= artifact.id:  # what it was made from was there before it
                raise self._damaged(f"{artifact.name} is made from a later artifact")
            found[row["role"]] = self.by_id(row["input_id"])
        return found

    def by_id(self, artifact_id: int) -> Artifact:
        """The artifact of this id. Raises StoreError when there is none, or its row is damaged."""
        for row in self.db.table("artifacts").rows_where("id = ?", [artifact_id]):
            return self._artifact(row)
        raise self._damaged(f"it lacks artifact {artifact_id}, which another was made from")

    def ancestor(self, artifact: Artifact, kind: str) -> Artifact | None:
        """The nearest input of `kind`, however far up the lineage."""
        level = self.inputs(artifact)
        while level:
            for candidate in level.values():
                if candidate.kind == kind:
                    return candidate
            level = {above.name: above for candidate in level.values() for above in self.inputs(candidate).values()}
        return None

    def lineage(self, artifact: Artifact) -> list[Artifact]:
        """`artifact` and everything that it was made from, each once, the newest first."""
        found, pending = {artifact.id: artifact}, [artifact]
        while pending:
            new = {made.id: made for made in self.inputs(pending.pop()).values() if made.id not in found}
            found |= new
            pending += new.values()
        return sorted(found.values(), key=lambda made: -made.id)

    def models(self, artifact: Artifact) -> dict[str, ModelSpec]:
        """The models that made `artifact`, by role."""
        rows = self._read("artifact_models", artifact, "role")
        return {
            row["role"]: ModelSpec(**{key: row[key] for key in ("adapter", "name", "pretrained", "revision")})
            for row in rows
        }

    def rows(self, artifact: Artifact, table: str) -> Iterator[dict[str, Any]]:
        """The content rows of `artifact` in `table`, in their order; names decoded."""
        for row in self._read(table, artifact, ", ".join(ARTIFACT_TABLES[table])):
            if "path" in row:
                inside(artifact.folder, loaded_name(row["path"]))
            yield {key: loaded_name(value) if isinstance(value, bytes) else value for key, value in row.items()}

    def _read(self, table: str, artifact: Artifact, order: str) -> Iterator[dict[str, Any]]:
        """The rows of `artifact` in `table`. Raises StoreError when a value is not of its column's type."""
        check = self._checks(table)
        for row in self.db.table(table).rows_where("artifact_id = ?", [artifact.id], order_by=order):
            check(row)
            yield row

    def _checks(self, table: str) -> Callable[[Mapping[str, Any]], None]:
        """What checks rows of `table`."""
        return RowCheck(self.workspace.database, table, self.db.table(table).columns)

    def sample(self, artifact: Artifact, count: int) -> dict[str, dict[str, Any]]:
        """For each table with rows of `artifact`: {"count": of all, "sample": the first `count`}; images by name."""
        found: dict[str, dict[str, Any]] = {}
        for table in ARTIFACT_TABLES:
            total = self.db.table(table).count_where("artifact_id = ?", [artifact.id])
            if total:
                first = [self._named(row) for row in itertools.islice(self.rows(artifact, table), count)]
                found[table] = {"count": total, "sample": first}
        return found

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        image = {"image": self.image(row["image_id"])["name"]} if "image_id" in row else {}
        return image | {key: value for key, value in row.items() if key not in ("artifact_id", "image_id")}

    def failures(self, artifact: Artifact) -> list[tuple[str, str]]:
        """(item, reason) of what failed, in order."""
        rows = self._read("failures", artifact, "id")
        return [(loaded_name(row["item"]), row["reason"]) for row in rows]

    def add_images(self, rows: Sequence[dict[str, Any]]) -> list[int]:
        """Register photographs (sha256, root, name, class_name, width, height, bytes, format); returns their ids."""
        ids: list[int] = []
        for row in rows:
            key = [row["sha256"], stored_name(row["root"]), stored_name(row["name"])]
            known = self.db.execute("select id from images where sha256 = ? and root = ? and name = ?", key).fetchone()
            if known:
                ids.append(known[0])
            else:
                columns = {**row, "root": key[1], "name": key[2], "class_name": stored_name(row["class_name"])}
                ids.append(self.db.table("images").insert(columns).last_rowid or 0)
        return ids

    def image(self, image_id: int) -> dict[str, Any]:
        """The row of `images` with its names decoded, and `path`, where the photograph lies.

        Where it is gone but the same photograph was selected elsewhere since (the folder was moved), `path` is there.
        """
        found = next(iter(self.db.table("images").rows_where("id = ?", [image_id])), None)
        if found is None:
            raise self._damaged(f"it lacks image {image_id}, which an artifact names")
        self._checks("images")(found)
        row: dict[str, Any] = dict(found)
        places = self.db.execute("select root, name from images where sha256 = ? order by id desc", [row["sha256"]])
        paths = [Path(loaded_name(root)) / loaded_name(name) for root, name in places.fetchall()]
        for key in ("root", "name", "class_name"):
            row[key] = loaded_name(row[key])
        path = Path(row["root"]) / row["name"]
        row["path"] = path if path.exists() else next((other for other in paths if other.exists()), path)
        return row

    def file_digest(self, path: Path) -> str:
        """SHA-256 of a (large) file, remembered by path, size and times, where the database can be written.

        Raises StoreError when it cannot be read.
        """
        stat = path.stat()
        name = stored_name(str(path.absolute()))
        known = self.db.execute(
            "select sha256 from digest_cache where path = ? and bytes = ? and mtime_ns = ? and ctime_ns = ?",
            [name, *_looks(stat)],
        ).fetchone()
        if known:
            return str(known[0])
        try:
            digest = sha256_file(path)
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error
        if time.time_ns() - stat.st_ctime_ns < SETTLED_NS:  # another change in the same tick would not show
            return digest
        row = dict(zip(("bytes", "mtime_ns", "ctime_ns"), _looks(stat), strict=True))
        with contextlib.suppress(sqlite3.OperationalError):
            self.db.table("digest_cache").insert({"path": name, **row, "sha256": digest}, replace=True)
        return digest

    def remembered_digests(self) -> Iterator[tuple[Path, str]]:
        """(path, SHA-256) of each file whose digest is remembered and that looks as it did then."""
        for name, *looks, digest in self.db.execute("select path, bytes, mtime_ns, ctime_ns, sha256 from digest_cache"):
            path = Path(loaded_name(name or ""))
            with contextlib.suppress(OSError, ValueError):
                if looks == _looks(path.stat()) and path.is_file():
                    yield path, digest

    def _artifact(self, row: Mapping[str, Any]) -> Artifact:
        self._checks("artifacts")(row)
        name, kind = row["name"], row["kind"]
        if kind not in KINDS or name != f"{kind}@{row['version']}" or not 0 < row["version"] < NUMBERS_END:
            raise self._damaged(f"{name!r:.60} is not the name of an artifact")
        if row["status"] != "complete" and any(row[key] is not None for key in ("digest", "record", "finished_at")):
            raise self._damaged(f"{name} is finished, and its status {row['status']!r:.40}")
        if not 0 < row["asked"] < NUMBERS_END:
            raise self._damaged(f"{name} was asked for as number {row['asked']}")
        values = {key: row[key] for key in Artifact.__dataclass_fields__ if key in row}
        for key in ("settings", "notes"):
            try:
                values[key] = json.loads(row[key])
            except (ValueError, RecursionError) as error:
                raise self._damaged(f"the {key} of {name} are not JSON") from error
            if not isinstance(values[key], dict):
                raise self._damaged(f"the {key} of {name} are not a table")
        return Artifact(**values, folder=self.workspace.artifacts / name)

    def _damaged(self, what: str) -> StoreError:
        return StoreError(f"{self.workspace.database} is damaged: {what}", hint=DAMAGED)
