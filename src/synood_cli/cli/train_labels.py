"""`synood train-labels`: the features of the negative labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from synood_cli.cli.command import SettingsOf, stage_command
from synood_cli.cli.options import from_option
from synood_cli.config import TrainLabelsSettings

if TYPE_CHECKING:
    from synood_cli.stages.run import Run
    from synood_cli.store.store import Artifact


@stage_command("train-labels", takes=("limit", "seed", "trust_clip"), execution=("device", "batch_size", "workers"))
def train_labels(
    run: Run,
    settings: TrainLabelsSettings,
    settings_of: SettingsOf,
    from_: Annotated[str | None, from_option("head", default="the newest that --strategy can start from")] = None,
    synthetic: Annotated[str | None, from_option("synthetic", "--synthetic")] = None,
) -> Artifact:
    """Fine-tune the features of the negative labels (Eqs. 13-14); makes a new head."""
    from synood_cli.stages.heads import newest_head
    from synood_cli.stages.train_labels import STARTS
    from synood_cli.stages.train_labels import train_labels as stage

    head = run.store.resolve(from_, "head") if from_ else newest_head(run.store, STARTS[settings.strategy])
    return stage(run, settings, head, run.store.resolve(synthetic, "synthetic"), settings_of("train-proj"))
