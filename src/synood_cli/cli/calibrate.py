"""`synood calibrate`: the threshold of a head, from images that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synood_cli.cli.command import stage_command
from synood_cli.cli.options import IMAGES, DataRootOption
from synood_cli.cli.output import Output
from synood_cli.config import CalibrateSettings

if TYPE_CHECKING:
    from synood_cli.stages.run import Run


@stage_command("calibrate", takes=("limit", "trust_clip"), execution=("device", "batch_size", "workers"))
def calibrate(
    run: Run,
    settings: CalibrateSettings,
    output: Output,
    head: Annotated[str, typer.Argument(help="The head, as head@N.", metavar="HEAD")],
    images: Annotated[Path, typer.Argument(help=f"In-distribution, new to the head. {IMAGES}", metavar="IMAGES")],
    data_root: DataRootOption = None,
) -> Any:
    """Set a head's threshold on images that it has not seen; makes a new head."""
    from synood_cli.stages.calibrate import calibrate as stage
    from synood_cli.store.heads import HeadInfo

    artifact = stage(run, settings, run.store.resolve(head, "head"), images, data_root)
    info = HeadInfo.read(artifact.folder)
    found = {"threshold": info.threshold, **info.calibration.model_dump(exclude={"scores", "trained_on"})}
    # written so that --threshold, given it, decides as the head does
    return artifact, found, lambda: output.fields(found | {"threshold": repr(info.threshold)})
