"""JSON from elsewhere, read strictly: what two readers could understand differently is refused."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Final

MAX_NESTING: Final = 32
"""Lists and objects within each other; head.json has nine levels."""
LARGEST_INTEGER: Final = 2**63


def foreign_json(content: bytes) -> Any:
    """The document in `content`, UTF-8.

    Raises ValueError, saying what is wrong, for what is not JSON, NaN and infinities (written out or as 1e999),
    integers beyond 64 bits, a name twice in one object, and documents nested deeper than MAX_NESTING.
    """
    try:
        found = json.loads(
            content.decode("utf-8"),
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    level = [found]
    for _ in range(MAX_NESTING):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return found
    raise ValueError(f"nested more than {MAX_NESTING} deep")


def _inside(value: Any) -> list[Any]:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [one for one in inner if isinstance(one, dict | list)]


def _constant(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:30]} is too large a number")
    return number


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= LARGEST_INTEGER:
        raise ValueError(f"{text[:30]} is too large an integer")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {twice[:60]!r} stands twice in one object")
    return found
