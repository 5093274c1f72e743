"""The content digest of an artifact: equal content has an equal digest, whenever and wherever it was made."""

from __future__ import annotations

import hashlib
from typing import Any

from synood_cli.store.schema import ARTIFACT_TABLES
from synood_cli.store.store import Store, canonical_json

_VOLATILE = {"artifact_id", "image_id", "seconds", "model"}  # a model counts by its revision, not by its place


def content_digest(store: Store, artifact_id: int) -> str:
    """SHA-256 over every content row and file digest of the artifact.

    Photographs enter by their SHA-256, not by where they lie; times and row ids do not enter.
    """
    digest = hashlib.sha256()
    for table, order in ARTIFACT_TABLES.items():
        if "image_id" in {column.name for column in store.db[table].columns}:
            keys = ", ".join("m.sha256, m.name" if key == "image_id" else f"t.{key}" for key in order)
            query = f"""select t.*, m.sha256 as image from {table} t join images m on m.id = t.image_id
                        where t.artifact_id = ? order by {keys}"""
        else:
            query = f"select * from {table} t where artifact_id = ? order by {', '.join(order)}"
        for row in store.db.query(query, [artifact_id]):
            digest.update(canonical_json([table, _hashable(row)]).encode())
    for row in store.db.query("select path, sha256 from files where artifact_id = ? order by path", [artifact_id]):
        digest.update(canonical_json(["files", _hashable(row)]).encode())
    return digest.hexdigest()


def _hashable(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.hex() if isinstance(value, bytes) else value for key, value in row.items() if key not in _VOLATILE
    }
