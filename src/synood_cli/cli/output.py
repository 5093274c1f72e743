"""The one door for what a command says: results go to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from synood_cli.cli.progress import Bar, Lines, Silent
from synood_cli.errors import SynoodError
from synood_cli.records import printable

if TYPE_CHECKING:
    from rich.console import Console

Cell = str | float | None


class Output:
    """What the options --json, --quiet, --verbose and --no-color make of a command's words.

    With --json, stdout carries the one `document` and nothing else; without, it carries tables, fields and lines. So a
    command gives both and asks nothing. `progress` is told how far a stage is; the first result ends it.
    """

    def __init__(self, *, json: bool, quiet: bool, verbose: bool, color: bool) -> None:
        self.json = json
        self.quiet = quiet
        self.color = color
        if verbose or quiet:
            level = logging.INFO if verbose else logging.ERROR
            logging.basicConfig(level=level, stream=sys.stderr, format="%(name)s: %(message)s", force=True)
        bars = sys.stderr.isatty()
        self.progress: Bar | Lines | Silent = Silent() if quiet else Bar(self.console(stderr=True)) if bars else Lines()

    def console(self, *, stderr: bool = False) -> Console:
        """Rich's console; it honours NO_COLOR and FORCE_COLOR by itself."""
        from rich.console import Console

        return Console(stderr=stderr, no_color=True if not self.color else None, highlight=False)

    # Results

    def document(self, content: object) -> None:
        """The result for --json. A name that is not UTF-8 is escaped as Python escapes it (\\udcNN); a number that is
        not finite, for which JSON has no word, is null."""
        if self.json:
            self._result(json.dumps(_finite(content), indent=2, ensure_ascii=True, allow_nan=False))

    def line(self, text: str) -> None:
        if not self.json:
            self._result(printable(text))

    def fields(self, pairs: Mapping[str, Cell]) -> None:
        """One `name  value` a line, aligned."""
        width = max((len(name) for name in pairs), default=0)
        for name, value in pairs.items():
            self.line(f"{name:<{width}}  {_text(value)}".rstrip())

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str | None = None) -> None:
        """A rich table on a terminal, else aligned text with one line a row, for grep and cut."""
        if self.json:
            return
        cells = [list(row) for row in rows]
        if self.console().is_terminal:
            self._rich_table(columns, cells, title)
        else:
            self._plain_table(columns, cells, title)

    def raw(self, content: bytes) -> None:
        """Bytes as they are, such as names that are not UTF-8."""
        if not self.json:
            self.close()
            with _stdout_errors():
                sys.stdout.flush()
                sys.stdout.buffer.write(content)
                sys.stdout.buffer.flush()

    # Everything else

    def note(self, text: str) -> None:
        """Something worth knowing, on stderr; not with --quiet."""
        if not self.quiet:
            self.problem(text)

    def hint(self, command: str) -> None:
        """The next command to run, on stderr; not with --quiet."""
        self.note(f"next: {command}")

    def problem(self, text: str) -> None:
        """What went wrong, on stderr; also with --quiet."""
        self.close()
        with contextlib.suppress(OSError):  # a full disk under stderr ends no run
            print(printable(text), file=sys.stderr)  # noqa: T201

    def close(self) -> None:
        """End the progress display."""
        self.progress.close()

    def _result(self, text: str) -> None:
        self.close()
        with _stdout_errors():
            print(text)  # noqa: T201

    def _rich_table(self, columns: Sequence[str], rows: list[list[Cell]], title: str | None) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        self.close()
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
        for column, right in zip(columns, _right_aligned(columns, rows), strict=True):
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(_text(cell))) for cell in row))
        self.console().print(table)

    def _plain_table(self, columns: Sequence[str], rows: list[list[Cell]], title: str | None) -> None:
        from rich.cells import cell_len

        texts = [list(columns), *([printable(_text(cell)) for cell in row] for row in rows)]
        widths = [max(cell_len(row[place]) for row in texts) for place in range(len(columns))]
        right = _right_aligned(columns, rows)
        if title:
            self.line(title)
        for row in texts:
            padding = [" " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)]
            aligned = [gap + text if r else text + gap for text, gap, r in zip(row, padding, right, strict=True)]
            self._result("  ".join(aligned).rstrip())


@contextlib.contextmanager
def _stdout_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader, such as `head`, has enough
        raise
    except OSError as error:
        raise SynoodError(f"cannot write to stdout: {error.strerror}") from error


def _finite(content: object) -> object:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content


def _text(value: Cell) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _right_aligned(columns: Sequence[str], rows: list[list[Cell]]) -> list[bool]:
    """Which columns hold numbers alone."""
    return [
        bool(rows) and all(isinstance(row[place], int | float | None) for row in rows) for place in range(len(columns))
    ]
