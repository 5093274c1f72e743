"""An artifact being written: item by item, so that a killed run goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synood_cli import __version__
from synood_cli.records import ModelSpec, printable
from synood_cli.store.digest import content_digest, record_digest
from synood_cli.store.files import files_below, link_file, refuse_links, remove, sha256_bytes, sync_folder, write_inside
from synood_cli.store.identity import identity_of, question_of
from synood_cli.store.schema import ARTIFACT_TABLES
from synood_cli.store.store import Artifact, Store, canonical_json, loaded_name, now, stored_name


class Draft:
    """The artifact that answers one question: a finished one to reuse, an unfinished one to go on with, or a new one.

    `artifact.reused` says whether there is nothing to do. Otherwise: write files, `commit` rows item by item (each
    commit is one transaction), `fail` what cannot be done, and `complete`.
    """

    def __init__(self, store: Store, artifact: Artifact) -> None:
        self.store = store
        self.artifact = artifact
        self._since = time.monotonic()
        self._written: dict[str, tuple[int, str]] = {}

    @classmethod
    def begin(
        cls,
        store: Store,
        kind: str,
        stage: str,
        *,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        models: Mapping[str, ModelSpec],
        seed: int,
        digests: Mapping[str, str] | None = None,
        force: bool = False,
        retry_failed: bool = False,
        keep_failures: bool = False,
    ) -> Draft:
        """Find or start the artifact for this question.

        `inputs` are artifacts (they enter the identity by content digest, and the lineage); `digests` are other
        inputs: the fingerprint of a folder, of a file. `retry_failed`: where the answer lacks items that failed, start
        another with everything that it has. `keep_failures`: the stage itself forgets, on going on, what it tries
        again; else all that failed before the interruption is forgotten.

        Rows name photographs by their ids, so work is gone on with, or taken over, only for the very same inputs:
        those of equal content, selected elsewhere since, have other ids.
        """
        question = cls.question(stage, settings, inputs, models, seed, digests)
        identity = identity_of(question)
        complete = None if force else store.find(identity, "complete")
        partial = complete if complete and retry_failed and complete.items_failed else None
        if complete and not partial:
            store.ask_for(complete)
            return cls(store, replace(complete, reused=True))
        if partial and not store.has_inputs(partial, inputs):
            partial = None
        known = store.find(identity, "unfinished")
        if known and store.has_inputs(known, inputs):
            store.ask_for(known)
            draft = cls(store, known)
            with store.db.atomic():  # where an older synood began it, it is not recorded yet
                store.db.execute("update artifacts set question = ? where id = ?", [question, known.id])
            if not keep_failures:
                draft.forget_failures()
            if partial and not known.items_done:  # interrupted before it had taken anything over
                draft._copy(partial)
            return draft
        with store.db.atomic():
            version, name = store.next_version(kind)
            row = {
                "name": name,
                "kind": kind,
                "version": version,
                "stage": stage,
                "status": "unfinished",
                "identity": identity,
                "question": question,
                "settings": canonical_json(dict(settings)),
                "seed": seed,
                "tool_version": __version__,
                "created_at": now(),
                "asked": store.next_ask(),
            }
            artifact_id = store.db.table("artifacts").insert(row).last_pk
            store.db.table("lineage").insert_all(
                {"artifact_id": artifact_id, "role": role, "input_id": made.id} for role, made in inputs.items()
            )
            store.db.table("artifact_models").insert_all(
                {"artifact_id": artifact_id, "role": role, **spec.model_dump(exclude={"url"})}
                for role, spec in models.items()
            )
        draft = cls(store, store.get(name))
        if partial:
            draft._copy(partial)
        return draft

    @staticmethod
    def identity(
        stage: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        models: Mapping[str, ModelSpec],
        seed: int,
        digests: Mapping[str, str] | None = None,
    ) -> str:
        """The identity that `begin` would look for."""
        return identity_of(Draft.question(stage, settings, inputs, models, seed, digests))

    @staticmethod
    def question(
        stage: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        models: Mapping[str, ModelSpec],
        seed: int,
        digests: Mapping[str, str] | None = None,
    ) -> str:
        """The text of which that identity is the hash."""
        parts = {f"artifact {role}": made.digest or "" for role, made in inputs.items()}
        parts |= {f"digest {name}": digest for name, digest in (digests or {}).items()}
        return question_of(stage, settings, parts, models, seed)

    @property
    def folder(self) -> Path:
        return self.artifact.folder

    def keys(self, table: str, column: str = "image_id") -> set[Any]:
        """The `column` of what is finished in `table`: what a resumed run need not do again."""
        query = f"select {column} from {table} where artifact_id = ?"
        values = (row[0] for row in self.store.db.execute(query, [self.artifact.id]))
        return {loaded_name(value) if isinstance(value, bytes) else value for value in values}

    def write_file(self, path: str, content: bytes) -> str:
        """Write one file of the artifact, whole or not at all; returns its SHA-256. `commit` makes it known."""
        write_inside(self.folder, path, content)
        digest = sha256_bytes(content)
        self._written[path] = (len(content), digest)
        return digest

    def commit(
        self, rows: Mapping[str, Sequence[Mapping[str, Any]]], files: Sequence[str] = (), *, done: int = 0
    ) -> None:
        """Record content rows by table, and files written before, in one transaction; `done` items are finished."""
        db, artifact_id = self.store.db, self.artifact.id
        with db.atomic():
            for table, content in rows.items():
                db.table(table).insert_all(
                    ({"artifact_id": artifact_id, **_storable(row)} for row in content), replace=True
                )
            for path in files:
                size, digest = self._written.pop(path)
                row = {"artifact_id": artifact_id, "path": stored_name(path), "bytes": size, "sha256": digest}
                db.table("files").insert(row, replace=True)
            self._count(done=done)

    def fail(self, item: str, reason: str) -> None:
        """Record that `item` cannot be worked on; the run goes on.

        The disk is not waited for, as a million broken images would be a million waits: the next `commit` or `complete`
        makes it last. A power cut before that loses no more than failures, and what failed is tried again anyway.
        """
        db = self.store.db
        row = [self.artifact.id, stored_name(item), printable(reason), now()]
        with self.store.without_waiting(), db.atomic():
            db.execute("insert into failures (artifact_id, item, reason, created_at) values (?, ?, ?, ?)", row)
            self._count(failed=1)

    def _copy(self, other: Artifact) -> None:
        """Take over what is finished in `other`: files (linked where the file system can), then rows."""
        db, mine = self.store.db, self.artifact.id
        targets = [self.folder / path.relative_to(other.folder) for path, _, _ in self.store.files(other)]
        for target in targets:
            relative = str(target.relative_to(self.folder))
            refuse_links(other.folder, relative)
            refuse_links(self.folder, relative)
            link_file(other.folder / relative, target)
        for folder in {target.parent for target in targets}:
            sync_folder(folder)
        with db.atomic():
            for table in (*ARTIFACT_TABLES, "files"):
                columns = ", ".join(c.name for c in db.table(table).columns if c.name != "artifact_id")
                theirs = f"select ?, {columns} from {table} where artifact_id = ?"
                db.execute(f"insert into {table} (artifact_id, {columns}) {theirs}", [mine, other.id])
            db.execute(
                "update artifacts set (items_done, notes) = (select items_done, notes from artifacts where id = ?)"
                " where id = ?",
                [other.id, mine],
            )
        self.artifact = self.store.get(self.artifact.name)

    def forget_failures(self, keep: Collection[str] = ()) -> None:
        """Forget what failed before the run was interrupted, except for the items in `keep`: it is tried again."""
        db, mine = self.store.db, self.artifact.id
        with db.atomic():
            rows = db.execute("select id, item from failures where artifact_id = ?", [mine]).fetchall()
            for row_id, item in rows:
                if loaded_name(item) not in keep:
                    db.execute("delete from failures where id = ?", [row_id])
            count = "(select count(*) from failures where artifact_id = artifacts.id)"
            db.execute(f"update artifacts set items_failed = {count} where id = ?", [mine])

    def note(self, notes: Mapping[str, Any]) -> None:
        """Set what the stage found out (JSON values), such as the boundary. The record of an artifact that is complete,
        such as where the CLIP of a pulled head is now, is sealed again."""
        found, db, mine = self.store.get(self.artifact.name), self.store.db, self.artifact.id
        text = canonical_json({**found.notes, **notes})
        with db.atomic():
            db.execute("update artifacts set notes = ? where id = ?", [text, mine])
            if found.status == "complete":
                db.execute("update artifacts set record = ? where id = ?", [record_digest(db, mine), mine])

    def complete(self, done: int | None = None) -> Artifact:
        """Seal the artifact: digest its content and mark it complete. `done` sets how many items are finished, for a
        stage that commits them all at once, and perhaps again after an interruption."""
        db, mine = self.store.db, self.artifact.id
        digest = content_digest(db, mine)
        self._remove_leftovers()
        with db.atomic():
            self._count()
            if done is not None:
                db.execute("update artifacts set items_done = ? where id = ?", [done, mine])
            db.execute(
                "update artifacts set status = 'complete', digest = ?, finished_at = ? where id = ?",
                [digest, now(), mine],
            )
            db.execute("update artifacts set record = ? where id = ?", [record_digest(db, mine), mine])
        return self.store.get(self.artifact.name)

    def _remove_leftovers(self) -> None:
        """Remove what an interrupted run wrote into the folder and did not come to record."""
        recorded = {path for path, _, _ in self.store.files(self.artifact)}
        for path in files_below(self.folder):
            if path not in recorded:
                remove(path)

    def _count(self, done: int = 0, failed: int = 0) -> None:
        elapsed, self._since = time.monotonic() - self._since, time.monotonic()
        self.store.db.execute(
            """update artifacts set items_done = items_done + ?, items_failed = items_failed + ?,
               seconds = seconds + ? where id = ?""",
            [done, failed, elapsed, self.artifact.id],
        )


def _storable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: stored_name(value) if isinstance(value, str) else int(value) if isinstance(value, bool) else value
        for key, value in row.items()
    }
