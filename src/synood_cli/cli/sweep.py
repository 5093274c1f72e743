"""`synood sweep`: many variants of the pipeline, compared."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from synood_cli.cli.command import stage_command
from synood_cli.cli.eval import ood_sets
from synood_cli.cli.eval_tables import markdown_text
from synood_cli.cli.options import from_option
from synood_cli.cli.output import Output
from synood_cli.csv_text import csv_header, csv_text, harmless
from synood_cli.metrics.conventions import POSITIVE, fpr_name
from synood_cli.settings_file import Config

if TYPE_CHECKING:
    from synood_cli.stages.run import Run
    from synood_cli.stages.sweep import PlannedStep, SummaryRow
    from synood_cli.stages.sweep_file import Cell
    from synood_cli.store.store import Artifact, Store


def list_sweeps(wanted: bool) -> None:
    """Say which sweep files come with the package, and end."""
    if wanted:
        from synood_cli.stages.sweep_file import read_sweep, shipped_sweeps

        shipped = {name: read_sweep(path).title for name, path in shipped_sweeps().items()}
        with_output = Output(json=False, quiet=False, verbose=False, color=False)
        with_output.table(["sweep", "what it compares"], list(shipped.items()))
        raise typer.Exit


@stage_command("sweep", execution=("device", "batch_size", "gradient_chunk", "workers"))
def sweep(
    run: Run,
    config: Config,
    output: Output,
    file: Annotated[str, typer.Argument(help="A sweep file, or the name of one of --list.", metavar="FILE")],
    ind: Annotated[Path, typer.Option(help="Folder with one folder of test images per InD class.", metavar="DIR")],
    ood: Annotated[list[str], typer.Option(help="An OOD set and its folder; repeat for more.", metavar="NAME=DIR")],
    from_: Annotated[str | None, from_option("captions")] = None,
    candidates: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Candidates, as of mine-labels; default: the sweep's.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="In place of the file's seeds; repeat for more.")
    ] = None,
    m: Annotated[
        list[str] | None,
        typer.Option("--m", metavar="N|N%", help="In place of the file's numbers of images; repeat for more."),
    ] = None,
    format_: Annotated[
        Literal["table", "csv", "markdown"], typer.Option("--format", help="How to write it.")
    ] = "table",
    list_: Annotated[  # noqa: ARG001  (its callback answers)
        bool, typer.Option("--list", is_eager=True, callback=list_sweeps, help="The sweeps that come with synood.")
    ] = False,
) -> Any:
    """Make, evaluate and compare many variants over seeds; what is there is reused, what they share is made once."""
    from synood_cli.stages import sweep as stage
    from synood_cli.stages.sweep_file import cells, read_sweep, said_instead, sweep_path

    path = sweep_path(file)
    described = said_instead(read_sweep(path), seed, m)
    sources = stage.Sources(run.store.resolve(from_, "captions"), ind, ood_sets(ood), candidates)
    compared = cells(described, path, config, sources.captions.items_done)
    if run.dry_run:
        return show_plan(output, stage.plan(run, compared, sources))
    artifact = stage.sweep(run, described, compared, sources)
    rows = sweep_rows(run.store, artifact)
    found = stage.summary(rows)
    fields = {"rows": rows, "summary": [as_fields(row) for row in found]}
    rates = {(run.store.get(row["eval"]).settings["tpr"], row["fpr95_positive"]) for row in rows}
    return artifact, fields, lambda: show_summary(output, found, rates, format_)


def sweep_rows(store: Store, artifact: Artifact) -> list[dict[str, Any]]:
    """The rows of the sweep: one a cell and OOD set."""
    rows = [dict(row) for row in store.rows(artifact, "sweep_rows")]
    return [{key: value for key, value in row.items() if key not in ("artifact_id", "position")} for row in rows]


def show_plan(output: Output, planned: Sequence[tuple[Cell, Sequence[PlannedStep]]]) -> None:
    """What each cell would make, resume, reuse or share with an earlier one; in all, on stderr."""
    from synood_cli.stages.sweep_file import STAGES

    counts = Counter((step.stage, step.action) for _, steps in planned for step in steps)
    document = [
        {"variant": cell.variant, "m": cell.m, "seed": cell.seed, "steps": [step._asdict() for step in steps]}
        for cell, steps in planned
    ]
    output.document({"stage": "sweep", "cells": document})
    stages = [stage for stage in STAGES if any(stage == of for of, _ in counts)]
    rows = []
    for cell, steps in planned:
        said = {step.stage: f"{step.action} {step.artifact}".rstrip() for step in steps}
        rows.append([cell.label, *(said.get(stage, "") for stage in stages)])
    output.table(["cell", *stages], rows)
    for stage in stages:
        actions = ", ".join(f"{action} {counts[stage, action]}" for action in ("make", "resume", "reuse", "fail"))
        output.note(f"{stage}: {actions}")


def show_summary(output: Output, rows: Sequence[SummaryRow], rates: set[tuple[float, str]], format_: str) -> None:
    """Mean ± standard deviation (n - 1) over seeds, in percent; or every number as CSV. rates: the true-positive rate
    and the positive class of the FPRs, of which variants may have their own."""
    fpr, means = "FPR", "each variant at its own true-positive rate and positive class ([eval] of the sweep)"
    if len(rates) == 1:
        [(tpr, positive)] = rates
        fpr, means = fpr_name(tpr), POSITIVE[positive]
    title = f"In percent, mean ± standard deviation over seeds (n - 1). {fpr}: {means}."
    if format_ == "csv":
        output.raw(as_csv(rows))
        return
    columns, cells = as_table(rows, fpr)
    if format_ == "markdown":
        lines = [columns, ["---"] * len(columns), *cells]
        text = [[markdown_text(str(cell)) for cell in line] for line in lines]
        output.raw("".join(f"| {' | '.join(line)} |\n" for line in text).encode())
        output.note(title)
    else:
        output.table(columns, cells, title=title)


def as_table(rows: Sequence[SummaryRow], fpr: str) -> tuple[list[str], list[list[Any]]]:
    """A line a variant and number of images, with AUROC and the FPR, called `fpr`, of each OOD set and on average."""
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    lines: dict[tuple[str, int | None], dict[str, SummaryRow]] = {}
    for row in rows:
        lines.setdefault((row.variant, row.m), {})[row.dataset] = row
    several = any(m is not None for _, m in lines)
    columns = ["variant", *(["m"] if several else []), "seeds"]
    columns += [f"{dataset} {metric}" for dataset in datasets for metric in ("AUROC", fpr)]
    cells = []
    for (variant, m), found in lines.items():
        numbers = [
            _spread(spread.mean, spread.deviation)
            for dataset in datasets
            for spread in (found[dataset].auroc, found[dataset].fpr95)
        ]
        seeds = next(iter(found.values())).seeds
        cells.append([variant, *([m] if several else []), seeds, *numbers])
    return columns, cells


def _spread(mean: float, deviation: float | None) -> str:
    return f"{100 * mean:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def as_fields(row: SummaryRow) -> dict[str, Any]:
    """One object: shares from 0 to 1, with both standard deviations."""
    fields: dict[str, Any] = {"variant": row.variant, "m": row.m, "dataset": row.dataset, "seeds": row.seeds}
    for metric, spread in (("auroc", row.auroc), ("fpr95", row.fpr95)):
        fields |= {metric: spread.mean, f"{metric}_sd": spread.deviation, f"{metric}_sd_n": spread.population_deviation}
    return fields


def as_csv(rows: Sequence[SummaryRow]) -> bytes:
    """A line a variant, number of images and OOD set."""
    lines = [as_fields(row) for row in rows]
    columns = list(lines[0])
    safe = [line | {name: harmless(line[name]) for name in ("variant", "dataset")} for line in lines]
    return os.fsencode(csv_header(columns) + csv_text(columns, safe))
