"""The files beside images that nobody looked at, by the endings of their names: how many, and which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from synood_cli.data.endings import ending_of

NAMES_KEPT = 5
ENDINGS_SHOWN = 8


class PassedOver:
    """Counts such files; keeps the names of the first NAMES_KEPT."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.clear()
        self.add(names)

    def clear(self) -> None:
        """Forget all."""
        self.files = 0
        self.endings: Counter[str] = Counter()
        self.names: list[str] = []

    def add(self, names: Iterable[str]) -> None:
        """These files were passed over."""
        for name in names:
            self.files += 1
            self.endings[ending_of(name)] += 1
            if len(self.names) < NAMES_KEPT:
                self.names.append(name)

    def document(self) -> dict[str, Any]:
        """For --json: how many files, how many of each ending ('' without one), the first names."""
        return {"files": self.files, "endings": dict(sorted(self.endings.items())), "names": self.names}

    def __str__(self) -> str:
        """In words, for a note; '' when there is nothing to say."""
        if not self.files:
            return ""
        shown = sorted(self.endings.items(), key=lambda item: (-item[1], item[0]))
        kinds = [f"{ending or 'without ending'} {count}" for ending, count in shown[:ENDINGS_SHOWN]]
        kinds += [f"{len(shown) - ENDINGS_SHOWN} more endings"] if len(shown) > ENDINGS_SHOWN else []
        more = f" and {self.files - len(self.names)} more" if self.files > len(self.names) else ""
        files = "1 other file was" if self.files == 1 else f"{self.files} other files were"
        return f"{files} not looked at ({', '.join(kinds)}): {', '.join(self.names)}{more}"
