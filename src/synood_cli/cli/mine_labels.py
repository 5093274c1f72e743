"""`synood mine-labels`: negative labels, and the first head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from synood_cli.cli.command import stage_command
from synood_cli.cli.options import from_option
from synood_cli.cli.output import Output
from synood_cli.config import MineSettings, Models

if TYPE_CHECKING:
    from synood_cli.stages.run import Run


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
    output: Output,
    from_: Annotated[str | None, from_option("selection")] = None,
    explain: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Also show why this candidate is kept or dropped; repeat for more."),
    ] = None,
) -> Any:
    """Choose the negative labels (NegMining) and make the first head, NegLabel's."""
    from synood_cli.stages.explain import explain as reasons
    from synood_cli.stages.mine_labels import mine_labels as stage

    selection = run.store.resolve(from_, "selection")
    artifact = stage(run, settings, models, selection)
    explained = reasons(run, settings, models, selection, None, explain or [])
    show = (lambda: show_explained(output, explained)) if explained else None
    return artifact, {"explained": explained}, show


def show_explained(output: Output, explained: list[dict[str, Any]]) -> None:
    """One row a candidate: its similarity and rank against the cut, the classes that it is most like, and the rule."""
    output.table(
        ("label", "kept", "similarity", "cut", "rank", "keeps", "of", "most like", "rule"),
        [
            (
                row["label"],
                "yes" if row["kept"] else "no",
                row["similarity"],
                row["cut"],
                row["rank"],
                row["keeps"],
                row["of"],
                ", ".join(f"{near['label']} {near['similarity']:.3f}" for near in row["nearest"]),
                row["rule"],
            )
            for row in explained
        ],
    )
