"""`synood eval`: how well heads, and the methods they are compared with, tell in-distribution from OOD images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from synood_cli.cli.command import stage_command
from synood_cli.cli.eval_tables import FORMATS, read_result, show_result
from synood_cli.cli.options import OUTPUT, from_option
from synood_cli.cli.output import Output
from synood_cli.config import EvalSettings, Models
from synood_cli.errors import UsageError

if TYPE_CHECKING:
    from synood_cli.stages.image_sets import Benchmark
    from synood_cli.stages.run import Run
    from synood_cli.store.store import Artifact


@stage_command(
    "eval", takes=("limit", "seed", "trust_clip"), models=("classifier",), execution=("device", "batch_size", "workers")
)
def evaluate(
    run: Run,
    settings: EvalSettings,
    models: Models,
    output: Output,
    ind: Annotated[
        Path | None,
        typer.Option(help="InD test images, such as a folder with one folder per class.", metavar="IMAGES"),
    ] = None,
    ood: Annotated[
        list[str] | None, typer.Option(help="An OOD set and its images; repeat for more.", metavar="NAME=IMAGES")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="All sets of a benchmark: a name (see `synood suites`) or a TOML file.", metavar="NAME"),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Where the suite lies, or where the paths of list files start.", metavar="DIR"),
    ] = None,
    allow_mismatch: Annotated[
        bool,
        typer.Option("--allow-mismatch", help="Take what is there of a suite whose sets are not as they must be."),
    ] = False,
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="Head to evaluate: head@N, user/repository\\[@revision] of the hub, or ./folder; repeat for more. "
            "Unsaid, the newest and every head that it was made from.",
            metavar="NAME",
        ),
    ] = None,
    selection: Annotated[str | None, from_option("selection to fit baselines on", "--selection")] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME",
            help="An evaluation, eval@N, to compute the tables of anew from its scores: no images, no models.",
        ),
    ] = None,
    compare: Annotated[
        Literal["published"] | None, typer.Option(help="Print the paper's results beside, marked.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="All numbers as CSV, in shares.", rich_help_panel=OUTPUT)] = False,
    latex: Annotated[bool, typer.Option("--latex", help="As LaTeX tables.", rich_help_panel=OUTPUT)] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown.", rich_help_panel=OUTPUT)] = False,
) -> Any:
    """AUROC and FPR95 of heads and baselines on OOD sets, with intervals (Sec. 4).

    IMAGES is a folder, a list file (.txt), a .tar shard or a folder of them, or a Hugging Face dataset on disk.
    """
    from synood_cli.reports.published import published_rows
    from synood_cli.stages.image_sets import find_benchmark
    from synood_cli.stages.tabulate import recompute

    chosen = [name for name, said in (("csv", csv), ("latex", latex), ("markdown", markdown)) if said]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]}: one form of output at a time")
    if from_:
        _refuse_images({"--ind": ind, "--ood": ood, "--suite": suite, "--head": head})
        artifact = recompute(run, settings, run.store.resolve(from_, "eval"))
    else:
        sets = find_benchmark(ind, ood_sets(ood or []), suite=suite, data_root=data_root, allow_mismatch=allow_mismatch)
        artifact = _evaluate(run, settings, models, sets, head, selection)
    result = read_result(run.store, artifact, published_rows() if compare else [])
    show = (lambda: output.raw(FORMATS[chosen[0]](result))) if chosen else (lambda: show_result(output, result))
    return artifact, result.document(), show


def _evaluate(
    run: Run,
    settings: EvalSettings,
    models: Models,
    sets: Benchmark,
    head: list[str] | None,
    selection: str | None,
) -> Artifact:
    """Evaluate on the images that were named."""
    from synood_cli.head_address import resolve_head
    from synood_cli.stages.evaluate import evaluate as stage
    from synood_cli.stages.heads import with_ancestors

    newest = None if head else run.store.newest("head")
    named = [resolve_head(run.store, name, dry_run=run.dry_run) for name in head or ()]
    heads = with_ancestors(run.store, newest) if newest else named
    return stage(
        run,
        settings,
        heads,
        *sets,
        classifier=models.classifier_spec(),
        selection=run.store.resolve(selection, "selection") if selection else None,
    )


def _refuse_images(images: Mapping[str, object]) -> None:
    for name, said in images.items():
        if said:
            raise UsageError(
                f"{name} and --from: an evaluation's images and heads are what they were", hint="leave it out"
            )


def ood_sets(said: list[str]) -> dict[str, Path]:
    """NAME → place of each ``NAME=IMAGES``. Raises UsageError for another form, and for a name said twice."""
    sets: dict[str, Path] = {}
    for pair in said:
        name, equals, place = pair.partition("=")
        if not (name and equals and place):
            raise UsageError(f"--ood {pair!r}: not NAME=IMAGES", hint="for example --ood textures=data/dtd/images")
        if name in sets or name.startswith("average"):
            raise UsageError(f"--ood {pair!r}: the name {name!r} is taken", hint="give each OOD set its own name")
        sets[name] = Path(place)
    return sets
