"""The two digests of an artifact.

The content digest: equal content has an equal digest, whenever and wherever it was made; identities are made of it. The
record digest: of everything else that the database says of a complete artifact, so that `verify` sees when it changes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlite_utils import Database

from synood_cli.store.identity import identity_of
from synood_cli.store.schema import ARTIFACT_TABLES
from synood_cli.store.store import canonical_json

_VOLATILE = {"artifact_id", "image_id", "seconds", "model"}  # a model counts by its revision, not by its place
"""Columns of content that the record digest covers instead: another run of the same question has others."""
_RECORD = (
    *("name", "kind", "version", "stage", "status", "identity", "question", "digest", "settings", "seed"),
    *("tool_version", "items_done", "items_failed", "notes", "created_at", "finished_at", "seconds"),
)
"""Columns of `artifacts` that never change in a complete one: all but the id, `asked` and the record digest itself."""
_WITH_IMAGES = ("selected_images", "prompts", "synthetic_images", "assignments")
_RELATED = {
    "lineage": "select l.role, i.name, i.digest from lineage l left join artifacts i on i.id = l.input_id"
    " where l.artifact_id = ?1 order by l.role, l.input_id",
    "artifact_models": "select role, adapter, name, pretrained, revision from artifact_models"
    " where artifact_id = ?1 order by role",
    "failures": "select item, reason, created_at from failures where artifact_id = ?1 order by id",
    "images": "select sha256, root, name, class_name, width, height, bytes, format from images where id in ("
    + " union ".join(f"select image_id from {table} where artifact_id = ?1" for table in _WITH_IMAGES)
    + ") order by sha256, root, name",
    "prompts": "select image_id, model, seconds from prompts where artifact_id = ?1 order by image_id",
    "synthetic_images": "select image_id, seconds from synthetic_images where artifact_id = ?1 order by image_id",
    "metrics": "select dataset, method, head, model from metrics where artifact_id = ?1 order by dataset, method, head",
}


def content_digest(db: Database, artifact_id: int) -> str:
    """SHA-256 over every content row and file digest of the artifact.

    Photographs enter by their SHA-256, not by where they lie; times and row ids do not enter.
    """
    digest = hashlib.sha256()
    for table, order in ARTIFACT_TABLES.items():
        if "image_id" in {column.name for column in db.table(table).columns}:
            keys = ", ".join("m.sha256, m.name" if key == "image_id" else f"t.{key}" for key in order)
            query = f"""select t.*, m.sha256 as image from {table} t join images m on m.id = t.image_id
                        where t.artifact_id = ? order by {keys}"""
        else:
            query = f"select * from {table} t where artifact_id = ? order by {', '.join(order)}"
        for row in db.query(query, [artifact_id]):
            digest.update(canonical_json([table, _content(row)]).encode())
    for row in db.query("select path, sha256 from files where artifact_id = ? order by path", [artifact_id]):
        digest.update(canonical_json(["files", _content(row)]).encode())
    return digest.hexdigest()


def record_digest(db: Database, artifact_id: int) -> str:
    """SHA-256 over the artifact's row (stage, settings, seed, notes, counts, …), its inputs with their digests, its
    models with their revisions, its failures, the rows of the photographs that its content names, and what the content
    digest leaves out: times, and models by name."""
    digest = hashlib.sha256()
    queries = {"artifacts": f"select {', '.join(_RECORD)} from artifacts where id = ?1", **_RELATED}
    for table, query in queries.items():
        for row in db.query(query, [artifact_id]):
            digest.update(canonical_json([table, {key: _hashable(value) for key, value in row.items()}]).encode())
    return digest.hexdigest()


def record_all(db: Database) -> None:
    """Record the digest of every complete artifact, as it is now."""
    for (artifact_id,) in db.execute("select id from artifacts where status = 'complete'").fetchall():
        db.execute("update artifacts set record = ? where id = ?", [record_digest(db, artifact_id), artifact_id])


def follows_from_its_parts(db: Database, artifact_id: int) -> bool:
    """Whether the artifact's identity is the hash of its question, and the question names its stage, settings, seed,
    inputs and models. The question of an artifact that an older synood began is not known: that follows."""
    [row] = db.query("select identity, question, stage, settings, seed from artifacts where id = ?", [artifact_id])
    if row["question"] is None:
        return True
    if identity_of(row["question"]) != row["identity"]:
        return False
    asked = json.loads(row["question"])
    own = {"stage": row["stage"], "settings": json.loads(row["settings"]), "seed": row["seed"]}
    inputs = {f"artifact {role}": digest or "" for role, _, digest in db.execute(_RELATED["lineage"], [artifact_id])}
    models = {model["role"]: model for model in db.query(_RELATED["artifact_models"], [artifact_id])}
    return (
        own.items() <= asked.items()
        and inputs == {name: digest for name, digest in asked["inputs"].items() if name.startswith("artifact ")}
        and models.keys() == asked["models"].keys()
        and all({**model, **asked["models"][role]} == model for role, model in models.items())
    )


def _content(row: dict[str, Any]) -> dict[str, Any]:
    # The digests of embedded images are in a column that earlier versions did not have.
    counted = {key: value for key, value in row.items() if key not in _VOLATILE and (key, value) != ("sha256", None)}
    return {key: _hashable(value) for key, value in counted.items()}


def _hashable(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
