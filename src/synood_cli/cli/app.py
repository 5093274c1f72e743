"""The `synood` command: what there is, in the order of the pipeline, and the one place where errors end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from synood_cli import __version__
from synood_cli.errors import SynoodError
from synood_cli.records import printable

PIPELINE, WORKSPACE, PLAYGROUND = "Pipeline", "Workspace", "Playground"

COMMANDS = {
    # name → (panel of the help page, "module:function", or "module:group" of commands)
    "init": (PIPELINE, "synood_cli.cli.init:init"),
    "select": (PIPELINE, "synood_cli.cli.select:select"),
    "caption": (PIPELINE, "synood_cli.cli.caption:caption"),
    "synthesize": (PIPELINE, "synood_cli.cli.synthesize:synthesize"),
    "mine-labels": (PIPELINE, "synood_cli.cli.mine_labels:mine_labels"),
    "train-proj": (PIPELINE, "synood_cli.cli.train_proj:train_proj"),
    "train-labels": (PIPELINE, "synood_cli.cli.train_labels:train_labels"),
    "eval": (PIPELINE, "synood_cli.cli.eval:evaluate"),
    "score": (PIPELINE, "synood_cli.cli.score:score"),
    "log": (WORKSPACE, "synood_cli.cli.log:log"),
    "show": (WORKSPACE, "synood_cli.cli.show:show"),
    "verify": (WORKSPACE, "synood_cli.cli.verify:verify"),
    "gc": (WORKSPACE, "synood_cli.cli.gc:gc"),
    "doctor": (WORKSPACE, "synood_cli.cli.doctor:doctor"),
    "playground": (PLAYGROUND, "synood_cli.cli.playground:playground"),
}

INTERRUPTED = 130


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"synood {__version__}")
        raise typer.Exit


def _synood(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Detect out-of-distribution images with CLIP and synthesized near-boundary images (SynOOD, ICCV 2025).

    Each command reads what the one before it made and writes a new artifact. Asked again, it answers from the store.
    """


def _application() -> typer.Typer:
    made = typer.Typer(name="synood", no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)
    made.callback()(_synood)
    for name, (panel, target) in COMMANDS.items():
        module, _, attribute = target.partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            made.add_typer(found, name=name, rich_help_panel=panel)
        else:
            made.command(name, rich_help_panel=panel)(found)
    return made


app = _application()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `synood` and return its exit code: 0 done, 1 error, 2 usage, 3 some items failed, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 shows \xNN, and no traceback
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = _run(arguments)
    finally:
        signal.signal(signal.SIGTERM, before)
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its exit
        if code == 0 and not isinstance(error, BrokenPipeError):  # `synood log | head` is no error worth a word
            _say(f"error: cannot write to stdout: {error.strerror}")
        return code or 1
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(arguments, prog_name="synood")
    except SystemExit as stop:  # how typer ends, also a usage error (2) and an interrupted command (130)
        code = stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SynoodError as error:
        logging.getLogger(__name__).info("where it came from", exc_info=error)
        _say(f"error: {error.message}")
        if error.hint:
            _say(f"hint: {error.hint}")
        return error.exit_code
    except Exception:
        traceback.print_exc()
        _say("this is a bug in synood: please report it, with the lines above and the command")
        return 1
    if code == INTERRUPTED:
        _say("interrupted; what is finished is kept, run the same command again to go on")
    return code


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)  # noqa: T201


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
