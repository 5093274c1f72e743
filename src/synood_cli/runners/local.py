"""Run workers in this process, one batch after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from synood_cli.registry import Registry


class LocalRunner:
    """Builds a worker from its registered name and feeds it batches, in order.

    A worker holds models and turns a batch of small job records into results. It is named, not imported, so that the
    driver process needs neither torch nor a model until there is work to do.
    """

    def __init__(self, workers: Registry) -> None:
        self._workers = workers
        self._built: tuple[str, dict[str, Any], Any] | None = None

    def map(
        self, worker: str, options: Mapping[str, Any], batches: Iterable[Any], *, method: str = "__call__"
    ) -> Iterator[Any]:
        """Yield ``Worker(**options).method(batch)`` for each batch.

        Nothing is imported or built before the first batch; the worker of the last call is kept for a next one that
        asks for the same, so a second kind of job does not load the models again.
        """
        for batch in batches:
            if self._built is None or self._built[:2] != (worker, dict(options)):
                self._built = None  # frees the models of the last worker before others are loaded
                self._built = (worker, dict(options), self._workers.load(worker)(**options))
            yield getattr(self._built[2], method)(batch)
