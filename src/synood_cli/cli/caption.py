"""`synood caption`: what surrounds the main object of each selected image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synood_cli.cli.command import stage_command
from synood_cli.cli.options import from_option
from synood_cli.config import CaptionSettings, Models

if TYPE_CHECKING:
    from synood_cli.stages.run import Run
    from synood_cli.store.store import Artifact


@stage_command(
    "caption",
    takes=("limit", "retry_failed"),
    models=("captioner", "captioner_url", "clip", "pretrained"),
    execution=("device", "batch_size", "workers", "concurrency", "timeout", "retries", "backoff"),
)
def caption(
    run: Run,
    settings: CaptionSettings,
    models: Models,
    from_: Annotated[str | None, from_option("selection")] = None,
    captions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON lines of image and caption, instead of a model.")
    ] = None,
    vocabulary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Elements that the captioner clip-tags knows, one a line.")
    ] = None,
    captioner_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Environment variable with the key for --captioner-url; none = no key is sent."
        ),
    ] = None,
) -> Artifact:
    """Describe what surrounds the main object of each selected image (Eq. 3)."""
    from synood_cli.stages.caption import caption as stage

    return stage(run, settings, models, run.store.resolve(from_, "selection"), captions, vocabulary, captioner_key_env)
