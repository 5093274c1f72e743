"""`synood train-proj`: the projection on CLIP's image side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from synood_cli.cli.command import stage_command
from synood_cli.cli.options import from_option
from synood_cli.config import TrainProjectionSettings

if TYPE_CHECKING:
    from synood_cli.stages.run import Run
    from synood_cli.store.store import Artifact


@stage_command("train-proj", takes=("limit", "seed", "trust_clip"), execution=("device", "batch_size", "workers"))
def train_proj(
    run: Run,
    settings: TrainProjectionSettings,
    from_: Annotated[str | None, from_option("head", default="the newest without a projection")] = None,
    synthetic: Annotated[
        str | None, from_option("synthetic", "--synthetic", default="but for --images ind, the newest")
    ] = None,
) -> Artifact:
    """Train the projection of the image features (Eqs. 11-12); makes a new head."""
    from synood_cli.stages.heads import newest_head
    from synood_cli.stages.train_proj import STARTS, train_projection

    head = run.store.resolve(from_, "head") if from_ else newest_head(run.store, STARTS)
    images = run.store.resolve(synthetic, "synthetic") if synthetic or settings.images == "both" else None
    return train_projection(run, settings, head, images)
