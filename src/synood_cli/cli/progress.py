"""How far a stage is, on stderr: a bar on a terminal, now and then a line elsewhere, nothing with --quiet.

Each class fulfils `stages.run.Progress`. What an interrupted run had finished counts as done, but not into the rate.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from synood_cli.records import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, Task, TaskID

SECONDS_BETWEEN_LINES = 10.0


class Silent:
    """Says nothing."""

    def start(self, what: str, total: int | None, done: int = 0) -> None:
        """A new piece of work begins."""

    def advance(self, items: int = 1) -> None:
        """`items` more are finished."""

    def close(self) -> None:
        """The work is over or has failed."""


class Lines:
    """A line such as ``synthesize: 120/400, 3.1/s, 1m30s left`` every ten seconds, and one at the end of the work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total: int | None = None

    def start(self, what: str, total: int | None, done: int = 0) -> None:
        self._what, self._total, self._before, self._done = what, total, done, done
        self._started = self._told = self._clock()

    def advance(self, items: int = 1) -> None:
        self._done += items
        now = self._clock()
        if self._done == self._total or now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            of = "" if self._total is None else f"/{self._total}"
            pace = describe_pace(self._done - self._before, now - self._started, self._total, self._done)
            with contextlib.suppress(OSError):  # a full disk under stderr ends no run
                print(f"{printable(self._what)}: {self._done}{of}{pace}", file=sys.stderr, flush=True)  # noqa: T201

    def close(self) -> None:
        """Every line is finished as it is."""


class Bar:
    """A bar with count, rate and time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def start(self, what: str, total: int | None, done: int = 0) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
        from rich.text import Text

        class Pace(ProgressColumn):
            max_refresh = 0.5

            def render(self, task: Task) -> Text:
                before = int(task.fields["before"])
                total = None if task.total is None else int(task.total)
                worked = describe_pace(int(task.completed) - before, task.elapsed or 0.0, total, int(task.completed))
                return Text(f"{int(task.completed)}{'' if total is None else f'/{total}'}{worked}")

        if self._progress is None:
            columns = TextColumn("{task.description}", markup=False), BarColumn(), Pace()
            # Results are printed when the bar is closed: stdout must not be redirected to stderr.
            self._progress = Progress(*columns, console=self._console, redirect_stdout=False)
            self._progress.start()
        self._task = self._progress.add_task(printable(what), total=total, completed=done, before=done)

    def advance(self, items: int = 1) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, items)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def describe_pace(worked: int, seconds: float, total: int | None, done: int) -> str:
    """``, 3.1/s, 1m30s left`` from what was worked on in `seconds`; once all is done, the time it took instead."""
    if done == total:
        return f", {duration(seconds)}"
    if not worked or seconds <= 0:
        return ""
    rate = worked / seconds
    left = "" if total is None else f", {duration((total - done) / rate)} left"
    return f", {rate:.1f}/s{left}" if rate >= 1 else f", {1 / rate:.1f} s each{left}"


def duration(seconds: float) -> str:
    """Seconds as 4.2s, 1m30s or 2h05m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"
