"""`synood show`: everything about one artifact."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synood_cli.cli.command import workspace_command
from synood_cli.cli.output import Output

if TYPE_CHECKING:
    from synood_cli.store.store import Artifact, Store

SAMPLES = 3


@workspace_command(write=False)
def show(
    store: Store,
    output: Output,
    name: Annotated[str, typer.Argument(metavar="NAME", help="kind@N, or a kind for its newest complete one.")],
    failures: Annotated[bool, typer.Option("--failures", help="Every item that failed, with its reason.")] = False,
) -> None:
    """Show an artifact's settings, inputs, models, files and some of its rows; or its failures."""
    artifact = store.get(name)
    if failures:
        found = store.failures(artifact)
        output.document([{"item": item, "reason": reason} for item, reason in found])
        output.table(["item", "reason"], found)
        return
    about = describe(store, artifact)
    output.document(about)
    content = about.pop("content")
    output.fields({name: _shown(value) for name, value in about.items()})
    for table, rows in content.items():
        output.line("")
        shown = rows["sample"]
        output.table(list(shown[0]), [list(map(_cell, row.values())) for row in shown], title=_title(table, rows))


def describe(store: Store, artifact: Artifact) -> dict[str, Any]:
    """What the database says of `artifact`, as JSON values; `content` holds count and first rows by table."""
    files, size = store.db.execute(
        "select count(*), coalesce(sum(bytes), 0) from files where artifact_id = ?", [artifact.id]
    ).fetchone()
    return {
        "artifact": artifact.name,
        "stage": artifact.stage,
        "status": artifact.status,
        "done": artifact.items_done,
        "failed": artifact.items_failed,
        "seconds": round(artifact.seconds, 3),
        "created_at": artifact.created_at,
        "finished_at": artifact.finished_at,
        "synood": artifact.tool_version,
        "seed": artifact.seed,
        "settings": artifact.settings,
        "inputs": {role: made.name for role, made in store.inputs(artifact).items()},
        "models": {role: spec.model_dump(exclude={"url"}) for role, spec in store.models(artifact).items()},
        "notes": artifact.notes,
        "files": files,
        "bytes": size,
        "folder": str(artifact.folder),
        "identity": artifact.identity,
        "digest": artifact.digest,
        "content": store.sample(artifact, SAMPLES),
    }


def _title(table: str, rows: dict[str, Any]) -> str:
    count = rows["count"]
    return f"{table}: {count} rows" + (f", the first {SAMPLES}" if count > SAMPLES else "")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_shown(inner)}" for key, inner in value.items()) or "none"
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def _cell(value: Any) -> Any:
    """Long texts, such as a captioner's raw answer, are cut."""
    return f"{value[:60]}…" if isinstance(value, str) and len(value) > 60 else value
