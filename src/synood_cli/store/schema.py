"""The tables and views of `synood.db`: numbered SQL files in `migrations/` that are only ever appended to."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from importlib.resources import files

from sqlite_utils import Database, Migrations

from synood_cli.errors import StoreError

ARTIFACT_TABLES = {
    # Content of an artifact: table → the columns that order its rows. Digest, gc and copies go through this list.
    "selected_images": ("class_name", "rank"),
    "prompts": ("image_id",),
    "synthetic_images": ("image_id",),
    "iterations": ("image_id", "iteration"),
    "embedded": ("position",),
    "labels": ("position",),
    "assignments": ("image_id",),
    "training_steps": ("step",),
    "metrics": ("dataset", "method", "head"),
    "differences": ("dataset", "method", "head"),
    "scores": ("dataset", "method", "head", "position"),
    "sweep_rows": ("position",),
}


_RECORDS = ("004_record_digest", "006_every_column")
"""The migrations after which every complete artifact has a new record digest, also those that were made before."""


def _migrations() -> Migrations:
    known = Migrations("synood")
    folder = files("synood_cli.store").joinpath("migrations")
    for file in sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name):
        statements = _statements(file.read_text(encoding="utf-8"))

        def apply(db: Database, statements: list[str] = statements) -> None:
            for statement in statements:
                db.execute(statement)

        def apply_and_record(db: Database, apply: Callable[[Database], None] = apply) -> None:
            from synood_cli.store.digest import record_all  # which knows these tables

            apply(db)
            record_all(db)

        name = file.name.removesuffix(".sql")
        known(name=name)(apply_and_record if name in _RECORDS else apply)
    return known


def _statements(script: str) -> list[str]:
    """The statements of an SQL script; `executescript` would end the migration's transaction."""
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements


MIGRATIONS = _migrations()


def migrate(db: Database) -> None:
    """Bring the database to this version's schema. Raises StoreError when a newer synood has written it."""
    refuse_newer(db)
    MIGRATIONS.apply(db)


def is_current(db: Database) -> bool:
    """Whether no migration is pending. Raises StoreError when a newer synood has written the database."""
    refuse_newer(db)
    return not MIGRATIONS.pending(db)


def refuse_newer(db: Database) -> None:
    """Raise StoreError when the database has a migration that this version does not know."""
    known = {migration.name for migration in MIGRATIONS.pending(Database(memory=True))}
    newer = [migration.name for migration in MIGRATIONS.applied(db) if migration.name not in known]
    if newer:
        raise StoreError(
            f"this workspace's database was written by a newer synood (it has {newer[-1]}, unknown here)",
            hint="upgrade: pip install --upgrade synood",
        )
