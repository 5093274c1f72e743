"""`synood pull`: a published head becomes one of this workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synood_cli.cli.command import workspace_command
from synood_cli.cli.options import ForceOption, TrustClipOption
from synood_cli.cli.output import Output
from synood_cli.cli.result import finish

if TYPE_CHECKING:
    from synood_cli.store.store import Store


@workspace_command(write=True)
def pull(
    store: Store,
    output: Output,
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="user/repository\\[@revision] of the hub, or a folder: ./folder.")
    ],
    clip: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where the CLIP is, if the head was made with a local one; or its name."),
    ] = None,
    trust_clip: TrustClipOption = False,
    force: ForceOption = False,
) -> None:
    """Fetch a published head, check every part of it, and store it with the commit that it came from."""
    from synood_cli.hub.pull import pull_head

    made = pull_head(store, address, clip=clip, trust_clip=trust_clip, force=force)
    if not made.notes["warnings"]:
        output.note(made.notes["about_clip"])
    finish(output, store, made)
