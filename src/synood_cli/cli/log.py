"""`synood log`: what has been made, and from what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from synood_cli.cli.command import workspace_command
from synood_cli.cli.output import Output
from synood_cli.cli.progress import duration

if TYPE_CHECKING:
    from synood_cli.reports.lineage import Node
    from synood_cli.store.store import Artifact, Store

COLUMNS = ["artifact", "stage", "status", "done", "failed", "inputs", "when (UTC)", "time"]


@workspace_command(write=False)
def log(
    store: Store,
    output: Output,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show what this artifact comes from.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Artifacts of this kind only, such as head.")] = None,
) -> None:
    """List the artifacts, the newest last; or the lineage of one."""
    from synood_cli.reports.lineage import tree

    if name is not None:
        artifact = store.get(name)
        output.document([_entry(store, made) for made in store.lineage(artifact)])
        for node in tree(store, artifact):
            output.line(_line(node))
        return
    artifacts = store.artifacts(kind and store.kind(kind))
    output.document([_entry(store, artifact) for artifact in artifacts])
    if artifacts:
        output.table(COLUMNS, [_row(store, artifact) for artifact in artifacts])
    else:
        output.note("nothing made yet")


def _entry(store: Store, artifact: Artifact) -> dict[str, Any]:
    return {
        "artifact": artifact.name,
        "stage": artifact.stage,
        "status": artifact.status,
        "done": artifact.items_done,
        "failed": artifact.items_failed,
        "inputs": {role: made.name for role, made in store.inputs(artifact).items()},
        "created_at": artifact.created_at,
        "finished_at": artifact.finished_at,
        "seconds": round(artifact.seconds, 3),
    }


def _row(store: Store, artifact: Artifact) -> list[str | float | None]:
    inputs = " ".join(made.name for made in store.inputs(artifact).values())
    when = (artifact.finished_at or artifact.created_at).replace("T", " ").removesuffix("+00:00")
    counts = [artifact.items_done, artifact.items_failed]
    return [artifact.name, artifact.stage, artifact.status, *counts, inputs, when, duration(artifact.seconds)]


def _line(node: Node) -> str:
    artifact = node.artifact
    label = f"{node.role}: " if node.role else ""
    source = artifact.settings if artifact.stage == "pull" else {}
    origin = f" from {source['repository']}@{source['commit']}" if "commit" in source else ""
    above = ", see above" if node.repeated else ""
    return f"{'  ' * node.depth}{label}{artifact.name} ({artifact.stage}{origin}, {artifact.status}{above})"
