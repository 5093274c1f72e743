"""Results on stdout, everything else on stderr; tables for people and for programs; progress."""

from __future__ import annotations

import io
import os

import pytest
from rich.console import Console

from synood_cli.cli.output import Output
from synood_cli.cli.progress import Bar, Lines, describe_pace, duration

CAFE = os.fsdecode(b"caf\xe9")


def output(*, json: bool = False, quiet: bool = False) -> Output:
    return Output(json=json, quiet=quiet, verbose=False, color=True)


def test_a_table_for_programs_has_one_aligned_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    output().table(["name", "count", "share"], [("猫", 7, 0.25), (long, 12345, None)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "name" + " " * 296 + "  count  share",
        "猫" + " " * 298 + "      7   0.25",  # two columns wide
        long + "  12345",
    ]


def test_names_are_made_printable_and_markup_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    told = output()
    told.table(["name"], [(CAFE,), ("[red]x[/red]",), ("two\nlines\x1b[31m",)])
    told.line(CAFE)
    told.note(f"{CAFE} [bold]")
    told.fields({"name": CAFE, "none": None, "share": 0.5})
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "name",
        r"caf\xe9",
        "[red]x[/red]",
        r"two\nlines\x1b[31m",
        r"caf\xe9",
        r"name   caf\xe9",
        "none",
        "share  0.5",
    ]
    assert captured.err == "caf\\xe9 [bold]\n"


def test_a_table_on_a_terminal_shows_markup_as_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    output().table(["name", "count"], [("[red]x[/red]", 3)], title="A title [a]")
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert "─" in out


def test_json_is_the_only_thing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    told = output(json=True)
    told.document({"name": CAFE})
    told.table(["a"], [("b",)])
    told.line("c")
    told.fields({"d": "e"})
    told.raw(b"f")
    assert capsys.readouterr().out == '{\n  "name": "caf\\udce9"\n}\n'


def test_quiet_leaves_results_and_problems(capsys: pytest.CaptureFixture[str]) -> None:
    told = output(quiet=True)
    told.note("a note")
    told.hint("synood next")
    told.problem("a problem")
    told.line("a result")
    told.progress.start("work", 10)
    told.progress.advance(10)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a result\n", "a problem\n")


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_ten_seconds_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    lines.start("synthesize", 400, done=100)
    for _ in range(300):
        clock.now += 0.25
        lines.advance()
    told = capsys.readouterr().err.splitlines()
    # 4 images a second: what an interrupted run had finished, 100, does not make it faster
    assert told[0] == "synthesize: 140/400, 4.0/s, 1m05s left"
    assert told[1] == "synthesize: 180/400, 4.0/s, 55.0s left"
    assert told[-1] == "synthesize: 400/400, 1m15s"
    assert len(told) == 8


def test_a_short_piece_of_work_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    lines.start("select", 3)
    for _ in range(3):
        clock.now += 0.1
        lines.advance()
    assert capsys.readouterr().err == "select: 3/3, 0.3s\n"


def test_a_bar_shows_count_rate_and_what_is_done() -> None:
    written = io.StringIO()
    bar = Bar(Console(file=written, force_terminal=True, width=100, color_system=None))
    bar.start("embed [x]", 40, done=30)
    bar.advance(10)
    bar.start("count", None)
    bar.advance(2)
    bar.close()
    bar.close()
    last = written.getvalue()
    assert "embed [x]" in last
    assert "40/40" in last
    assert "count" in last


@pytest.mark.parametrize(
    ("worked", "seconds", "total", "done", "text"),
    [
        (0, 1.0, 10, 0, ""),
        (5, 10.0, 10, 5, ", 2.0 s each, 10.0s left"),
        (30, 10.0, 60, 50, ", 3.0/s, 3.3s left"),
        (30, 10.0, None, 30, ", 3.0/s"),
        (10, 12.34, 10, 10, ", 12.3s"),
    ],
)
def test_pace(worked: int, seconds: float, total: int | None, done: int, text: str) -> None:
    assert describe_pace(worked, seconds, total, done) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (59.9, "59.9s"), (90.4, "1m30s"), (3599.7, "1h00m"), (7500, "2h05m")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
