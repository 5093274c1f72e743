"""`synood mine-labels`: negative labels, and the first head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synood_cli.cli.command import stage_command
from synood_cli.cli.options import from_option
from synood_cli.config import MineSettings, Models

if TYPE_CHECKING:
    from synood_cli.stages.run import Run
    from synood_cli.store.store import Artifact


@stage_command(
    "mine-labels",
    takes=("limit", "seed"),
    models=("clip", "pretrained"),
    execution=("device", "batch_size", "workers"),
)
def mine_labels(
    run: Run,
    settings: MineSettings,
    models: Models,
    from_: Annotated[str | None, from_option("selection")] = None,
    candidates: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Candidates, a `noun,word` or `adj,word` a line; WordNet if unsaid."),
    ] = None,
) -> Artifact:
    """Choose the negative labels (NegMining) and make the first head, NegLabel's."""
    from synood_cli.stages.mine_labels import mine_labels as stage

    return stage(run, settings, models, run.store.resolve(from_, "selection"), candidates)
