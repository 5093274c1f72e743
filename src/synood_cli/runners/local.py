"""Run workers in this process, one batch after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

from synood_cli.registry import Registry

Job_contra = TypeVar("Job_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Worker(Protocol[Job_contra, Result_co]):
    """Holds models; turns a batch of job records into results. Built where the models are to live."""

    def __call__(self, batch: Job_contra) -> Result_co: ...


class LocalRunner:
    """Builds a worker from its registered name and feeds it batches, in order.

    A worker is named, not imported, so that the driver process needs neither torch nor a model until there is work.
    """

    def __init__(self, workers: Registry) -> None:
        self._workers = workers

    def map(self, worker: str, options: dict[str, Any], batches: Iterable[Any]) -> Iterator[Any]:
        """Yield ``Worker(**options)(batch)`` for each batch. Nothing is imported or built before the first batch."""
        built: Worker[Any, Any] | None = None
        for batch in batches:
            if built is None:
                built = self._workers.load(worker)(**options)
            yield built(batch)
