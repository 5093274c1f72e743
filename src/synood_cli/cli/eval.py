"""`synood eval`: how well heads tell in-distribution from OOD images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synood_cli.cli.command import stage_command
from synood_cli.cli.output import Output
from synood_cli.config import EvalSettings
from synood_cli.errors import UsageError

if TYPE_CHECKING:
    from synood_cli.stages.run import Run
    from synood_cli.store.store import Artifact, Store

Row = dict[str, Any]

POSITIVE = {"ind": "InD is positive (MCM, NegLabel, SynOOD)", "ood": "OOD is positive (OpenOOD v1.5)"}


@stage_command("eval", takes=("limit", "seed"), execution=("device", "batch_size", "workers"))
def evaluate(
    run: Run,
    settings: EvalSettings,
    output: Output,
    ind: Annotated[Path, typer.Option(help="Folder with one folder of test images per InD class.", metavar="DIR")],
    ood: Annotated[list[str], typer.Option(help="An OOD set and its folder; repeat for more.", metavar="NAME=DIR")],
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="Head to evaluate; repeat for more. Unsaid, the newest and every head that it was made from.",
            metavar="NAME",
        ),
    ] = None,
) -> Any:
    """AUROC and FPR95 of heads on OOD sets, with intervals (Sec. 4)."""
    from synood_cli.stages.evaluate import evaluate as stage
    from synood_cli.stages.heads import with_ancestors

    newest = None if head else run.store.newest("head")
    heads = with_ancestors(run.store, newest) if newest else [run.store.resolve(name, "head") for name in head or []]
    artifact = stage(run, settings, heads, ind, ood_sets(ood))
    rows = metrics_rows(run.store, artifact)
    return artifact, {"rows": rows}, lambda: show_metrics(output, rows, settings)


def ood_sets(said: list[str]) -> dict[str, Path]:
    """NAME → folder of each ``NAME=DIR``. Raises UsageError for another form, and for a name said twice."""
    sets: dict[str, Path] = {}
    for pair in said:
        name, equals, folder = pair.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"--ood {pair!r}: not NAME=DIR", hint="for example --ood textures=data/dtd/images")
        if name in sets or name == "average":
            raise UsageError(f"--ood {pair!r}: the name {name!r} is taken", hint="give each OOD set its own name")
        sets[name] = Path(folder)
    return sets


def metrics_rows(store: Store, artifact: Artifact) -> list[Row]:
    """The metrics: MCM, which has no head, then head by head in the order they were made; the average last."""
    rows = [dict(row) for row in store.rows(artifact, "metrics")]
    for row in rows:
        del row["artifact_id"]

    def place(row: Row) -> tuple[int, bool, str]:
        return int(row["head"].partition("@")[2] or 0), row["dataset"] == "average", row["dataset"]

    return sorted(rows, key=place)


def show_metrics(output: Output, rows: list[Row], settings: EvalSettings) -> None:
    """Percentages, as the papers print them, with the interval in brackets; the convention is in the title."""
    fpr = f"FPR{100 * settings.tpr:g}"
    columns = ["method", "head", "dataset", "AUROC", fpr, "AUPR-In", "AUPR-Out", "InD accuracy", "InD", "OOD"]
    positive = rows[0]["fpr95_positive"] if rows else settings.positive
    output.table(
        columns,
        [
            (
                row["method"],
                row["head"],
                row["dataset"],
                percent(row["auroc"], row["auroc_low"], row["auroc_high"]),
                percent(row["fpr95"], row["fpr95_low"], row["fpr95_high"]),
                percent(row["aupr_in"]),
                percent(row["aupr_out"]),
                "" if row["ind_accuracy"] is None else percent(row["ind_accuracy"]),
                row["ind_images"],
                row["ood_images"],
            )
            for row in rows
        ],
        title=f"In percent. FPR at {settings.tpr:.0%} TPR: {POSITIVE[positive]}.",
    )


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """``97.01 [96.80, 97.20]`` from shares; without an interval the value alone."""
    interval = "" if low is None or high is None else f" [{100 * low:.2f}, {100 * high:.2f}]"
    return f"{100 * value:.2f}{interval}"
