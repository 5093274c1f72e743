"""The boundary around input that others made: whatever happens inside is the failure of that one item."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from synood_cli.errors import ItemError, SynoodError
from synood_cli.records import printable

log = logging.getLogger(__name__)

_LONGEST = 300
"""Characters of a library's message that are kept."""


def reason(error: Exception) -> str:
    """What a library's exception says, in one line."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # the second is PyTorch's
        return "not enough memory"
    said = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
    return printable(said)[:_LONGEST] or type(error).__name__


@contextlib.contextmanager
def item_boundary(item: object, explain: Callable[[Exception], str]) -> Iterator[None]:
    """Within: work on one foreign `item`. Any exception but the errors that a user can act on becomes an ItemError
    with the reason that `explain` gives; its traceback goes to the log, since it may be a bug.
    """
    try:
        yield
    except SynoodError:
        raise
    except Exception as error:
        log.debug("%s", printable(str(item)), exc_info=True)
        raise ItemError(explain(error)) from error
