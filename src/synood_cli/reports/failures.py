"""What failed on the way, and why."""

from __future__ import annotations

from typing import Any, NamedTuple

from synood_cli.reports.lineage import Lineage
from synood_cli.store.store import Store, loaded_name

SHOWN = 50


class StageFailures(NamedTuple):
    """How many items of an artifact failed."""

    artifact: str
    stage: str
    done: int
    failed: int


class Failure(NamedTuple):
    """One item that failed."""

    artifact: str
    stage: str
    item: str
    reason: str


class Failures(NamedTuple):
    """Counts by artifact, the first SHOWN failures in the pipeline's order, and what the stages warned of."""

    counts: list[StageFailures]
    total: int
    first: list[Failure]
    warnings: list[tuple[str, str]]


def failures(store: Store, lineage: Lineage) -> Failures:
    """The failures and warnings of all artifacts of the lineage."""
    counts = [
        StageFailures(artifact.name, artifact.stage, artifact.items_done, artifact.items_failed)
        for artifact in lineage.artifacts
    ]
    marks = ", ".join("?" * len(lineage.artifacts))
    query = f"""
        select a.name, a.stage, f.item, f.reason from failures f join artifacts a on a.id = f.artifact_id
        where a.id in ({marks}) order by a.id, f.id limit ?"""
    rows = store.db.execute(query, [*(artifact.id for artifact in lineage.artifacts), SHOWN]).fetchall()
    first = [Failure(name, stage, loaded_name(item), reason) for name, stage, item, reason in rows]
    warnings = [(artifact.name, warning) for artifact in lineage.artifacts for warning in _warnings(artifact.notes)]
    return Failures(counts, sum(count.failed for count in counts), first, warnings)


def _warnings(notes: dict[str, Any]) -> list[str]:
    return [str(warning) for warning in notes.get("warnings", [])]
