"""Folders that grow: what has arrived in them, round by round, once it is whole."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from synood_cli.data.identity import MISSING, seconds_since_change, stamp_of
from synood_cli.data.inputs import Found, find_images
from synood_cli.data.passed_over import PassedOver

PATIENCE: Final = 60.0
"""Seconds after its last change for which a file that cannot be read is taken for one that is still being written."""


@dataclass
class _Arrival:
    """A file that has no row yet: how it looks, since when, and whether it was tried like that."""

    stamp: str
    since: float
    tried: bool = False


class Watch:
    """Looks into folders every `seconds`, without end. An image is taken once it looks as it did in the round before,
    so that none is read while it is being written; one that is `done` is not taken. A link that leads nowhere is an
    image too: what it leads to may come. A folder that is gone is taken once, as one that cannot be read.

    `passed_over` are the other files in the folders, as they were in the last round.

    A writer may pause for longer than that. So one that could not be read is to be given back (`postpone`): it is taken
    again when it has changed, and a last time when it has not changed for `patience` seconds.
    """

    def __init__(
        self,
        folders: Sequence[str],
        skip: Path | None,
        done: Callable[[str], bool],
        passed_over: PassedOver,
        *,
        seconds: float,
        patience: float = PATIENCE,
    ) -> None:
        self._folders = folders
        self._skip = skip
        self._done = done
        self._seconds = seconds
        self._patience = patience
        self._passed_over = passed_over
        self._arrivals: dict[str, _Arrival] = {}

    def rounds(self) -> Iterator[Iterator[Found]]:
        """What can be taken, round by round."""
        while True:
            yield self._round()
            time.sleep(self._seconds)

    def postpone(self, path: str) -> bool:
        """Whether the image at `path`, which could not be read, will be taken again: its writer may not be done."""
        arrival = self._arrivals.get(path)
        if arrival is None or self._is_old(arrival):
            return False
        arrival.tried = True
        return True

    def _round(self) -> Iterator[Found]:
        before, self._arrivals = self._arrivals, {}
        self._passed_over.clear()
        gone = [folder for folder in self._folders if not Path(folder).is_dir()]
        yield from (Found(folder, folder, "no such folder") for folder in gone if not self._done(folder))
        there = [folder for folder in self._folders if folder not in gone]
        for image in find_images(there, self._skip, passed_over=self._passed_over):
            if self._done(image.path):
                continue
            if image.problem:
                yield image
                continue
            stamp = stamp_of(Path(image.path))
            arrival = before.get(image.path)
            if stamp == MISSING and not os.path.lexists(image.path):  # it has gone again
                continue
            if arrival is None or arrival.stamp != stamp:
                self._arrivals[image.path] = _Arrival(stamp, time.monotonic())
                continue
            self._arrivals[image.path] = arrival
            if not arrival.tried or self._is_old(arrival):
                yield image

    def _is_old(self, arrival: _Arrival) -> bool:
        waited = time.monotonic() - arrival.since
        if arrival.stamp != MISSING:
            waited = max(waited, seconds_since_change(arrival.stamp))
        return waited >= self._patience
