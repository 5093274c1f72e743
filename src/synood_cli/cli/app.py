"""The `synood` command: what there is, in the order of the pipeline, and the one place where errors end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Collection, Sequence
from importlib import import_module
from typing import Annotated, NamedTuple, NoReturn

import typer

from synood_cli import __version__
from synood_cli.cli.machine import check_current_folder, occupy_standard_streams, refusal
from synood_cli.errors import SynoodError

PIPELINE, SHARING, WORKSPACE, PLAYGROUND = "Pipeline", "Sharing heads", "Workspace", "Playground"


class Entry(NamedTuple):
    """A command: the panel of the help page that lists it, its summary there, and where it is ("module:function", or
    "module:group" of commands). The summary stands here too so that the help page need not import what it lists."""

    panel: str
    summary: str
    target: str


COMMANDS = {
    "init": Entry(
        PIPELINE,
        "Make a workspace; one that is there already is left as it is.",
        "synood_cli.cli.init:init",
    ),
    "select": Entry(
        PIPELINE,
        "Keep the most complex in-distribution images of each class (Sec. 3.4).",
        "synood_cli.cli.select:select",
    ),
    "caption": Entry(
        PIPELINE,
        "Describe what surrounds the main object of each selected image (Eq. 3).",
        "synood_cli.cli.caption:caption",
    ),
    "synthesize": Entry(
        PIPELINE,
        "Redraw each captioned image towards the boundary of the classifier (Eqs. 4-10).",
        "synood_cli.cli.synthesize:synthesize",
    ),
    "mine-labels": Entry(
        PIPELINE,
        "Choose the negative labels (NegMining) and make the first head, NegLabel's.",
        "synood_cli.cli.mine_labels:mine_labels",
    ),
    "train-proj": Entry(
        PIPELINE,
        "Train the projection of the image features (Eqs. 11-12); makes a new head.",
        "synood_cli.cli.train_proj:train_proj",
    ),
    "train-labels": Entry(
        PIPELINE,
        "Fine-tune the features of the negative labels (Eqs. 13-14); makes a new head.",
        "synood_cli.cli.train_labels:train_labels",
    ),
    "eval": Entry(
        PIPELINE,
        "AUROC and FPR95 of heads and baselines on OOD sets, with intervals (Sec. 4).",
        "synood_cli.cli.eval:evaluate",
    ),
    "sweep": Entry(
        PIPELINE,
        "Make, evaluate and compare many variants over seeds; what is there is reused, what they share is made once.",
        "synood_cli.cli.sweep:sweep",
    ),
    "score": Entry(
        PIPELINE,
        "Score images with a head (Eq. 2): the higher, the more in-distribution.",
        "synood_cli.cli.score:score",
    ),
    "calibrate": Entry(
        PIPELINE,
        "Set a head's threshold on images that it has not seen; makes a new head.",
        "synood_cli.cli.calibrate:calibrate",
    ),
    "export": Entry(
        PIPELINE,
        "Write a head with its image tower for other programs to run.",
        "synood_cli.cli.export:export",
    ),
    "suites": Entry(
        PIPELINE,
        "The benchmarks that eval knows by name, and whether a data root holds them.",
        "synood_cli.cli.suites:suites",
    ),
    "push": Entry(
        SHARING,
        "Publish a head with its model card: in a repository of the hub, or in a folder of the same format.",
        "synood_cli.cli.push:push",
    ),
    "pull": Entry(
        SHARING,
        "Fetch a published head, check every part of it, and store it with the commit that it came from.",
        "synood_cli.cli.pull:pull",
    ),
    "log": Entry(
        WORKSPACE,
        "List the artifacts, the newest last; or the lineage of one.",
        "synood_cli.cli.log:log",
    ),
    "show": Entry(
        WORKSPACE,
        "Show an artifact's settings, inputs, models, files and some of its rows; or its failures.",
        "synood_cli.cli.show:show",
    ),
    "report": Entry(
        WORKSPACE,
        "Write one HTML page about an evaluation and all that led to it. Needs no network to read.",
        "synood_cli.cli.report:report",
    ),
    "verify": Entry(
        WORKSPACE,
        "Hash every file and row again and compare with what was recorded. Exit code 1 when something differs.",
        "synood_cli.cli.verify:verify",
    ),
    "gc": Entry(
        WORKSPACE,
        "Remove stray files; on demand, unfinished and superseded artifacts.",
        "synood_cli.cli.gc:gc",
    ),
    "doctor": Entry(
        WORKSPACE,
        "Show versions, devices, caches, the workspace, and which models are on this machine.",
        "synood_cli.cli.doctor:doctor",
    ),
    "demo": Entry(
        PLAYGROUND,
        "Run the whole method on the playground, offline: a few minutes on two cores.",
        "synood_cli.cli.demo:demo",
    ),
    "playground": Entry(
        PLAYGROUND,
        "The miniature world that comes with synood.",
        "synood_cli.cli.playground:playground",
    ),
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


def application(wanted: Collection[str] | None = None) -> typer.Typer:
    """`synood` with all its commands; only the `wanted` ones are imported, of the others there is just the summary."""
    made = typer.Typer(name="synood", no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)
    made.callback()(_synood)
    for name, (panel, summary, target) in COMMANDS.items():
        module, _, attribute = target.partition(":")
        found = getattr(import_module(module), attribute) if wanted is None or name in wanted else _unimported
        if isinstance(found, typer.Typer):
            made.add_typer(found, name=name, rich_help_panel=panel)
        else:
            made.command(name, help=summary if found is _unimported else None, rich_help_panel=panel)(found)
    return made


def _unimported() -> None:
    """Stands for a command that is listed, not called."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `synood` and return its exit code: 0 done, 1 error, 2 usage, 3 some items failed, 4 out-of-distribution
    images found (score --fail-on-ood), 130 interrupted."""
    occupy_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 shows \xNN, and no traceback
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _flushed(_run(arguments))
    except KeyboardInterrupt:  # a second one, while the first was answered
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def _flushed(code: int) -> int:
    """The exit code `code`, or 1 where what was printed cannot be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its exit
        if code == 0 and not isinstance(error, BrokenPipeError):  # `synood log | head` is no error worth a word
            _say(f"error: cannot write to stdout: {error.strerror}")
        return code or 1
    return code


def _run(arguments: Sequence[str] | None) -> int:
    said = sys.argv[1:] if arguments is None else arguments
    # Whoever completes a command line asks for options of any command.
    wanted = None if "_SYNOOD_COMPLETE" in os.environ else set(said)
    try:
        check_current_folder()
        application(wanted)(said, prog_name="synood")
    except SystemExit as stop:  # how typer ends, also a usage error (2) and an interrupted command (130)
        code = stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SynoodError as error:
        return _failed(error, error)
    except Exception as error:
        words = refusal(error)
        if words is not None:
            return _failed(words, error)
        traceback.print_exc()
        _say("this is a bug in synood: please report it, with the lines above and the command")
        return 1
    if code == INTERRUPTED:
        _say("interrupted; what is finished is kept, run the same command again to go on")
    return code


def _failed(words: SynoodError, cause: BaseException) -> int:
    logging.getLogger(__name__).info("where it came from", exc_info=cause)
    _say(f"error: {words.message}")
    if words.hint:
        _say(f"hint: {words.hint}")
    return words.exit_code


def _say(text: str) -> None:
    try:
        from synood_cli.records import printable  # pydantic comes with it, which takes longer than the help page

        text = printable(text)
    except (ImportError, MemoryError):  # what is left of the memory does not suffice for it
        text = ascii(text)
    with contextlib.suppress(OSError):  # where stderr is full, the exit code says it
        print(text, file=sys.stderr)  # noqa: T201


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
