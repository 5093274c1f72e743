"""`synood verify`: is everything in the workspace as it was written?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from synood_cli.cli.command import workspace_command
from synood_cli.cli.output import Output

if TYPE_CHECKING:
    from synood_cli.store.store import Store


@workspace_command(write=False)
def verify(store: Store, output: Output) -> None:
    """Hash every file and row again and compare with what was recorded. Exit code 1 when something differs."""
    from synood_cli.store.maintenance import STRAY
    from synood_cli.store.maintenance import verify as check

    problems = list(check(store))
    complete = store.db.execute("select count(*) from artifacts where status = 'complete'").fetchone()[0]
    output.document({"artifacts": complete, "problems": [problem._asdict() for problem in problems]})
    if problems:
        output.table(["where", "problem"], problems)
        output.note(f"{len(problems)} problem{'s' * (len(problems) > 1)}")
        stray = [problem.what == STRAY for problem in problems]
        if any(stray):
            output.note("`synood gc` removes what belongs to no artifact")
        if not all(stray):
            output.note("what is damaged can be made again: run its command with --force")
        raise typer.Exit(1)
    output.line(f"{complete} complete artifacts are as they were written")
