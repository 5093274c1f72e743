"""The entry point: help, usage errors, the one error boundary."""

from __future__ import annotations

import fcntl
import inspect
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from command_line import run_synood

from synood_cli import __version__
from synood_cli.cli import init as init_module
from synood_cli.cli.app import COMMANDS, application

SYNOOD = [sys.executable, "-c", "import sys; from synood_cli.cli.app import main; sys.exit(main())"]


def test_without_arguments_it_shows_what_there_is_in_pipeline_order() -> None:
    ended = run_synood()
    text = ended.text + ended.err
    places = [re.search(rf"^\W+{name}  ", text, re.MULTILINE) for name in COMMANDS]
    assert all(places)
    assert sorted(place.start() for place in places if place) == [place.start() for place in places if place]
    assert text.index("Pipeline") < text.index("select") < text.index("Workspace") < text.index("verify")


def test_version() -> None:
    ended = run_synood("--version")
    assert (ended.code, ended.text, ended.err) == (0, f"synood {__version__}\n", "")


def test_the_summaries_are_the_commands_own() -> None:
    """They stand in a table so that `synood --help` imports no command."""
    listed, imported = (typer.main.get_command(application(wanted)) for wanted in ((), None))
    for name, entry in COMMANDS.items():
        assert listed.commands[name].help == entry.summary  # type: ignore[attr-defined]
        whole = inspect.cleandoc(imported.commands[name].help)  # type: ignore[attr-defined]
        assert whole.split("\n\n")[0].replace("\n", " ") == entry.summary


def test_the_list_of_commands_imports_none_of_them() -> None:
    script = "import sys; from synood_cli.cli.app import main; main(['--help']); print('pydantic' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.endswith("False\n")


def test_help_imports_no_heavy_library() -> None:
    heavy = ["torch", "pandas", "numpy", "PIL", "sqlite_utils", "huggingface_hub", "transformers", "click"]
    script = f"""
import sys
from synood_cli.cli.app import COMMANDS, main
codes = [main([*command, "--help"]) for command in ([], *([name] for name in COMMANDS))]
print([name for name in {heavy!r} if name in sys.modules], set(codes), len(codes), file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stderr == f"[] {{0}} {1 + len(COMMANDS)}\n"
    assert ended.stdout.count("Usage: synood") == 1 + len(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["selekt"], "Did you mean 'select'?"),
        (["select"], "Missing argument"),
        (["log", "--nope"], "No such option"),
        (["synthesize", "--iterations", "three"], "--iterations"),
        (["synthesize", "--keep", "all"], "--keep"),
    ],
)
def test_usage_errors_exit_with_2_and_say_nothing_on_stdout(arguments: list[str], words: str) -> None:
    ended = run_synood(*arguments)
    assert (ended.code, ended.out) == (2, b"")
    assert words in ended.err


def test_an_error_of_the_user_is_a_message_and_a_hint(tmp_path: Path) -> None:
    ended = run_synood("log", "-w", tmp_path / "nowhere")
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err == (
        f"error: {tmp_path}/nowhere is no synood workspace (no synood.toml)\nhint: synood init {tmp_path}/nowhere\n"
    )


def test_an_error_of_the_store_exits_with_1(workspace: Path) -> None:
    (workspace / "synood.db").write_bytes(b"no database" * 1000)
    ended = run_synood("log", "-w", workspace)
    assert ended.code == 1
    assert "error: " in ended.err
    assert "file is not a database" in ended.err
    assert "Traceback" not in ended.err


def test_verbose_tells_where_an_error_came_from(workspace: Path) -> None:
    (workspace / "synood.db").write_bytes(b"no database" * 1000)
    ended = run_synood("log", "-w", workspace, "--verbose")
    assert ended.code == 1
    assert "sqlite3.DatabaseError" in ended.err


def test_a_bug_keeps_its_plain_traceback(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(init_module.Path, "cwd", broken)  # the file system has a surprise for us
    ended = run_synood("init", workspace)
    assert ended.code == 1
    assert "Traceback (most recent call last)" in ended.err
    assert "ZeroDivisionError: a bug" in ended.err
    assert "│" not in ended.err
    assert ended.err.splitlines()[-1].startswith("this is a bug in synood: please report it")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_how_to_go_on(
    workspace: Path, photos: Path, tmp_path: Path, number: signal.Signals
) -> None:
    assert run_synood("select", "-w", workspace, photos).code == 0
    pipe = tmp_path / "page.html"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)  # the page is longer: whoever writes it waits for us
    command = [*SYNOOD, "report", "selection@1", "-w", str(workspace), "-o", str(pipe)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert select.select([reader], [], [], 120)[0]
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    os.close(reader)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted; what is finished is kept, run the same command again to go on\n"
    assert run_synood("verify", "-w", workspace).code == 0


def test_a_closed_pipe_is_no_error(workspace: Path) -> None:
    command = [*SYNOOD, "show", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_full_disk_under_stdout_is_an_error(workspace: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*SYNOOD, "init", str(workspace)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1
    assert "error: cannot write to stdout: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr
