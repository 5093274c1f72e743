"""What the machine refuses is said in words; closed streams and a lost folder are lived with."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run_synood

from synood_cli.cli import init as init_module
from synood_cli.cli.machine import refusal

SYNOOD = shlex.join([sys.executable, "-c", "import sys; from synood_cli.cli.app import main; sys.exit(main())"])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), "not enough"),
        (RuntimeError("can't start new thread"), "not enough memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 5000), "nnn: file name too long"),
        (PermissionError(errno.EACCES, "Permission denied", b"/root/\xff"), "/root/\\xff: permission denied"),
        (OSError("without a number"), "without a number"),
        (RuntimeError("Could not determine home directory."), "home folder"),
    ],
)
def test_the_machine_is_quoted_in_words(error: BaseException, words: str) -> None:
    said = refusal(error)
    assert said is not None
    assert words in said.message
    assert len(said.message) < 400
    assert said.hint


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyError("x"), ImportError("no such module")]
)
def test_a_bug_is_no_refusal(error: BaseException) -> None:
    assert refusal(error) is None


def test_an_interrupt_while_an_error_is_told_is_an_interrupt(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(init_module.Path, "cwd", interrupted)
    assert run_synood("init", workspace).code == 130


def test_a_deleted_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    ended = run_synood("log")
    assert (ended.code, ended.out) == (1, b"")
    assert ended.err == (
        "error: the current folder cannot be found: No such file or directory\nhint: cd to another folder\n"
    )


def test_what_is_closed_is_not_given_to_a_file_of_the_workspace(workspace: Path) -> None:
    (workspace / "synood.db").unlink()
    script = f"{SYNOOD} init {shlex.quote(str(workspace))} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", script], check=False).returncode == 0
    ended = run_synood("verify", "-w", workspace)
    assert (ended.code, ended.text) == (0, "0 complete artifacts are as they were written\n")
    show = f"{SYNOOD} score - -w {shlex.quote(str(workspace))} <&-"
    ended_score = subprocess.run(["sh", "-c", show], capture_output=True, text=True, check=False)
    assert "Traceback" not in ended_score.stderr


def test_a_full_disk_under_stderr_ends_no_command(workspace: Path) -> None:
    command = f"{SYNOOD} init {shlex.quote(str(workspace))} 2>/dev/full"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=os.environ)
    assert ended.returncode == 0
    assert ended.stdout.endswith("is a workspace already\n")
