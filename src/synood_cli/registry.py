"""Names that stand for classes, imported only when asked for: `name → "module:Class"`."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from synood_cli.errors import UsageError


class Registry:
    """A table of lazily imported objects of one kind (adapters, workers, …)."""

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        return sorted(self._entries)

    def register(self, name: str, target: str) -> None:
        """Add `name`, meaning "module:Class". Registering a name twice is a programming error."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered already, as {self._entries[name]}")
        self._entries[name] = target

    def load(self, name: str) -> Any:
        """Import and return what `name` stands for. Raises UsageError, with near names, for an unknown one."""
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(self.names())}"
            raise UsageError(f"there is no {self.kind} named {name!r}", hint=hint)
        module, _, attribute = self._entries[name].partition(":")
        return getattr(import_module(module), attribute)
