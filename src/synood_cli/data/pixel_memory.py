"""The memory that pictures take while they are decoded, shared out among the threads that decode them."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator

GIB = 1 << 30


class Budget:
    """So many bytes for all threads of this process together. Whoever came first is served first, so that a large
    picture is not overtaken for ever; one that is larger than the whole has it alone."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def take(self, wanted: int) -> Iterator[None]:
        """Within: `wanted` bytes are the caller's."""
        size = min(max(wanted, 0), self.total)
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and size <= self._free)
                self._free -= size
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


ENCODED = Budget(GIB)
"""For files that are being read. Always taken before DECODED, so that nobody waits in a circle."""

DECODED = Budget(2 * GIB)
"""For pixels: those of the file, the RGB picture made of them, and what a model's preprocessing makes of that."""
