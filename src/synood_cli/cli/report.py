"""`synood report`: an evaluation, and everything that led to it, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synood_cli.cli.command import workspace_command
from synood_cli.cli.output import Output
from synood_cli.errors import UsageError

if TYPE_CHECKING:
    from synood_cli.store.store import Store


@workspace_command(write=False)
def report(
    store: Store,
    output: Output,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="eval@N, or a head, synthetic, captions or selection; the newest eval if unsaid."
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file, not into the workspace's reports/.", metavar="FILE"),
    ] = None,
) -> None:
    """Write one HTML page about an evaluation and all that led to it. Needs no network to read."""
    from synood_cli.reports.lineage import choose_subject
    from synood_cli.reports.page import write_report
    from synood_cli.store.outputs import descriptor_of

    stream = descriptor_of(to) if to else None
    if output.json and stream == 1:
        raise UsageError("--json makes stdout one document, and the page needs another place", hint="-o FILE")
    subject = choose_subject(store, name)
    page = to.absolute() if to else store.workspace.reports / f"{subject.name}.html"
    parts = write_report(store, subject, page)
    output.document({"page": str(page), "artifact": subject.name, "parts": parts})
    if stream is None:  # a page that went to stdout is the result itself
        output.line(str(page))
