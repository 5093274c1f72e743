"""`synood playground`: the bundled miniature world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synood_cli.cli.command import plain_command
from synood_cli.cli.output import Output
from synood_cli.store.outputs import new_folder

playground = typer.Typer(no_args_is_help=True, help="The miniature world that comes with synood.")


@playground.command()
@plain_command()
def export(
    output: Output,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder to write to.")],
    train: Annotated[int, typer.Option(min=1, help="Training images of each in-distribution class.")] = 50,
    test: Annotated[
        int, typer.Option(min=1, help="Validation, and test, images of each class; OOD sets are as large in all.")
    ] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another world of the same kind.")] = 0,
    diagnostics: Annotated[
        bool, typer.Option("--diagnostics", help="Also each training image without its main object: DIR/boundary.")
    ] = False,
) -> None:
    """Write the miniature world as ordinary folders of images: 40 classes, and four OOD sets for val and test."""
    from synood_cli.playground.export import export as write
    from synood_cli.playground.export import image_sets
    from synood_cli.playground.world import World

    world = World(seed)
    sets = image_sets(world, train=train, test=test, diagnostics=diagnostics)
    counts = {name: len(images) for name, images in sets.items()}
    output.progress.start("playground export", sum(counts.values()))
    with new_folder(folder) as unfinished:
        write(world, sets, unfinished, output.progress.advance)
    output.document({"folder": str(folder), "seed": seed, "images": counts})
    output.table(["folder", "images"], counts.items())
    output.hint(f"synood select {folder / 'train' / 'ind'}")
