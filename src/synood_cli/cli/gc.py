"""`synood gc`: remove what is not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from synood_cli.cli.command import workspace_command
from synood_cli.cli.options import DryRunOption
from synood_cli.cli.output import Output

if TYPE_CHECKING:
    from synood_cli.store.store import Store


@workspace_command(write=True)
def gc(
    store: Store,
    output: Output,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also what interrupted runs left to go on with.")
    ] = False,
    superseded: Annotated[
        bool,
        typer.Option("--superseded", help="Also complete artifacts that the newest of each kind do not come from."),
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Remove stray files; on demand, unfinished and superseded artifacts."""
    from synood_cli.store.maintenance import gc as collect

    removals = collect(store, unfinished=unfinished, superseded=superseded, dry_run=dry_run)
    size = sum(removal.bytes for removal in removals)
    output.document({"dry_run": dry_run, "bytes": size, "removed": [removal._asdict() for removal in removals]})
    if removals:
        output.table(["what", "why", "bytes"], removals)
    output.note(f"{'would remove' if dry_run else 'removed'} {len(removals)}, {size:,} bytes")
