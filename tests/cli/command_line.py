"""Run `synood` in this process, as the installed command does."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synood_cli.cli.app import main


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode("utf-8")

    @property
    def json(self) -> Any:
        """The one JSON document of stdout; fails when there is anything else."""
        return json.loads(self.out)


def run_synood(*arguments: str | Path, encoding: str = "utf-8") -> Ended:
    """Call the command's entry point with stdout and stderr that are no terminals."""
    out, err = io.BytesIO(), io.BytesIO()
    streams = io.TextIOWrapper(out, encoding=encoding), io.TextIOWrapper(err, encoding=encoding)
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]), _same_logging():
        code = main([os.fspath(argument) for argument in arguments])
        for stream in streams:
            stream.flush()
    return Ended(code, out.getvalue(), err.getvalue().decode(encoding))


@contextlib.contextmanager
def _same_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
