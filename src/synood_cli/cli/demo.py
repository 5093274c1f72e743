"""`synood demo`: the whole method on the playground, by the commands that anyone would type."""

from __future__ import annotations

import contextlib
import shlex
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from synood_cli.cli.command import plain_command
from synood_cli.cli.output import Output
from synood_cli.cli.result import SOME_FAILED
from synood_cli.config import PLAYGROUND
from synood_cli.errors import UsageError
from synood_cli.store.files import write_atomic
from synood_cli.store.workspace import Workspace


@plain_command()
def demo(
    output: Output,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Workspace to make, or to go on in.")] = Path(
        "synood-demo"
    ),
    train: Annotated[int, typer.Option(min=1, help="Images of each of the 40 classes to select from.")] = 12,
    test: Annotated[int, typer.Option(min=1, help="Images of each class to test on; OOD sets are as large.")] = 25,
    limit: Annotated[int | None, typer.Option(min=1, help="Synthesize so many images only.")] = None,
) -> None:
    """Run the whole method on the playground, offline: a few minutes on two cores."""
    workspace, data = Workspace(folder.absolute()), folder / "data"
    commands = Commands(output, workspace)
    if not workspace.settings_file.exists():
        # Before `init`, which keeps the settings that exist: at no moment are there others than the demo's.
        settings = files("synood_cli.playground").joinpath("synood.toml").read_bytes()
        write_atomic(workspace.settings_file, settings)
    elif workspace.config().models({}).clip != PLAYGROUND:
        raise UsageError(f"{folder} is a workspace already, and not the demo's", hint="synood demo DIR, with a new DIR")
    commands.run("init", str(folder))
    if not data.is_dir():
        commands.run("playground", "export", str(data), "--train", str(train), "--test", str(test))
    _pipeline(commands, data, limit, ("-w", str(folder)))


def _pipeline(commands: Commands, data: Path, limit: int | None, there: tuple[str, str]) -> None:
    """The stages, the four heads of the ablation, their evaluation, and its page."""
    commands.run("select", str(data / "train" / "ind"), *there)
    commands.run("caption", "--vocabulary", str(data / "vocabulary.txt"), *there)
    commands.run("synthesize", *(["--limit", str(limit)] if limit else []), *there)
    neglabel = commands.head("mine-labels", "--candidates", str(data / "candidates.txt"), *there)
    projection = commands.head("train-proj", "--from", neglabel, *there)
    labels = commands.head("train-labels", "--from", neglabel, *there)
    synood = commands.head("train-labels", "--from", projection, *there)
    heads = [word for head in (neglabel, projection, labels, synood) for word in ("--head", head)]
    commands.run("eval", "--suite", str(data / "test.toml"), *heads, *there, shown=True)
    commands.run("report", *there)


class Commands:
    """Runs commands one after the other, and says on stderr what could be typed instead."""

    def __init__(self, output: Output, workspace: Workspace) -> None:
        self.output = output
        self.workspace = workspace

    def head(self, *words: str) -> str:
        """Run a command and return the name of the head that it made or found."""
        from synood_cli.store.store import Store

        self.run(*words)
        with Store.open(self.workspace, write=False) as store:
            return store.newest("head").name

    def run(self, *words: str, shown: bool = False) -> None:
        """Run a command; its results go to stderr, unless they are to be `shown` as the results of all this.

        Raises typer.Exit with its exit code if it failed, and whatever it raises.
        """
        from synood_cli.cli.app import application

        self.output.note("")
        self.output.note(f"$ synood {shlex.join(words)}")
        said = {"--quiet": self.output.quiet, "--no-color": not self.output.color, "--json": shown and self.output.json}
        options = [name for name, given in said.items() if given]
        with contextlib.nullcontext() if shown else contextlib.redirect_stdout(sys.stderr):
            try:
                code = application({words[0]})([*words, *options], prog_name="synood", standalone_mode=False)
            except typer.Abort as stop:
                raise KeyboardInterrupt from stop
        if code and code != SOME_FAILED:
            raise typer.Exit(code)
