"""Text that people save: UTF-8, with or without a byte order mark, and whatever else begins with one."""

from __future__ import annotations

import codecs
from collections.abc import Callable

_MARKS = (
    (codecs.BOM_UTF8, None),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MARK_BYTES = 4
"""So many bytes of a beginning tell its encoding."""

Decode = Callable[[bytes, bool], bytes]
"""(next bytes, are they the last) → UTF-8. Raises UnicodeDecodeError."""


def text_decoder(beginning: bytes) -> tuple[int, Decode]:
    """(length of the byte order mark, what makes UTF-8 of the bytes behind it) of text with this `beginning`.

    Text without a mark stays as it is: its bytes may be file names, which need not be UTF-8. Windows saves UTF-16 with
    a mark.
    """
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return len(mark), _as_it_is if encoding is None else _converter(encoding)
    return 0, _as_it_is


def utf8(content: bytes) -> bytes:
    """`content` as UTF-8 without a byte order mark. Raises UnicodeDecodeError for damaged UTF-16 or UTF-32."""
    start, decode = text_decoder(content[:MARK_BYTES])
    return decode(content[start:], True)


def _as_it_is(content: bytes, _last: bool) -> bytes:
    return content


def _converter(encoding: str) -> Decode:
    decoder = codecs.getincrementaldecoder(encoding)()
    return lambda content, last: decoder.decode(content, last).encode("utf-8")
