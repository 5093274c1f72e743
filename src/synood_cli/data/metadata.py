"""Picture files without what says nothing about their pixels: a damaged comment must not lose the picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from synood_cli.errors import ItemError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TRUNCATED = "the file is truncated: part of the picture is missing"

_CRITICAL = (b"IHDR", b"PLTE", b"IDAT")
_ORIENTATION = (b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Keywords of the text chunks in which Pillow looks for an orientation."""

_METADATA_BYTES = 1 << 20
"""The largest eXIf or text chunk, unpacked, in which an orientation is looked for."""

_METADATA_CHUNKS = 8
"""So many of them are kept: Pillow refuses a picture for more text than it likes."""

_TRANSPARENCY = {0: (2, 2), 2: (6, 6), 3: (1, 256)}
"""The least and the most bytes of tRNS by PNG's colour type: grey, RGB, palette. The others have an alpha channel."""


def plain_png(content: bytes) -> bytes:
    """The PNG `content` with its pixels, its transparency (tRNS) and its orientation (eXIf and two text chunks), and
    nothing else. Of these too, what is damaged, oversized or would unpack to too much is left out, as libpng does. An
    animation becomes its default image.

    Raises ItemError where the pixels themselves are cut off or fail their checksum.
    """
    kept: list[bytes | memoryview] = [PNG_SIGNATURE]
    colour_type: int | None = None
    metadata = 0
    for name, body, whole, intact in _png_chunks(memoryview(content)):
        if name[0] & 0x20 == 0:
            if name not in _CRITICAL:
                raise ItemError("the picture cannot be decoded: it holds a critical chunk that PNG does not define")
            if whole is None:
                raise ItemError(TRUNCATED)
            if not intact:
                raise ItemError(f"the picture is damaged: the checksum of its {name.decode()} chunk is wrong")
            if name == b"IHDR" and len(body) == 13 and colour_type is None:
                colour_type = body[9]
            kept.append(whole)
        elif whole is None or not intact:
            continue
        elif name == b"tRNS":
            least, most = _TRANSPARENCY.get(-1 if colour_type is None else colour_type, (1, 0))
            if least <= len(body) <= most:
                kept.append(whole)
        elif metadata < _METADATA_CHUNKS and _may_tell_the_orientation(name, body):
            metadata += 1
            kept.append(whole)
    kept.append(struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND")))
    return b"".join(kept)


def _png_chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview, memoryview | None, bool]]:
    """(name, body, whole chunk or None where the file ends within it, is its checksum right) up to IEND, the end, or
    what is no chunk."""
    place = len(PNG_SIGNATURE)
    while place + 8 <= len(view):
        (length,) = struct.unpack_from(">I", view, place)
        name = bytes(view[place + 4 : place + 8])
        if name == b"IEND" or not (name.isalpha() and name.isascii()):
            return
        end = place + 12 + length
        body = view[place + 8 : place + 8 + length]
        if end > len(view):
            yield name, body, None, False
            return
        (checksum,) = struct.unpack_from(">I", view, end - 4)
        yield name, body, view[place:end], zlib.crc32(view[place + 4 : end - 4]) == checksum
        place = end


def _may_tell_the_orientation(name: bytes, body: memoryview) -> bool:
    if len(body) > _METADATA_BYTES or name not in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
        return False
    if name == b"eXIf":
        return True
    keyword, _, rest = bytes(body).partition(b"\0")
    if keyword not in _ORIENTATION:
        return False
    packed = rest[1:] if name == b"zTXt" else b""
    if name == b"iTXt" and rest[:1] == b"\1":
        packed = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    return not packed or _unpacks(packed)


def _unpacks(packed: bytes) -> bool:
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, _METADATA_BYTES)
    except zlib.error:
        return False
    return unpacker.eof


def bare(content: bytes) -> bytes | None:
    """A JPEG or WebP file without its metadata, to be tried where the whole file cannot be opened; None for others, and
    where its structure cannot be followed."""
    if content[:2] == b"\xff\xd8":
        return _bare_jpeg(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _bare_webp(content)
    return None


def _bare_jpeg(content: bytes) -> bytes | None:
    """Without comments and application segments, but for those that say what the colours are (JFIF, Adobe)."""
    kept = [content[:2]]
    place = 2
    while place + 4 <= len(content):
        if content[place] != 0xFF:
            return None
        marker = content[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker == 0xDA:  # the pixels begin
            kept.append(content[place:])
            return b"".join(kept)
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if end < place + 4 or end > len(content):
            return None
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or marker in (0xE0, 0xEE):
            kept.append(content[place:end])
        place = end
    return None


_WEBP_PICTURE = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
_WEBP_METADATA_FLAGS = 0x20 | 0x08 | 0x04  # ICC profile, EXIF, XMP


def _bare_webp(content: bytes) -> bytes | None:
    kept: list[bytes] = []
    place = 12
    while place + 8 <= len(content):
        name = content[place : place + 4]
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        if name in _WEBP_PICTURE:
            chunk = content[place : place + 8 + size + size % 2]
            if len(chunk) < 8 + size:
                return None
            if name == b"VP8X" and size:
                chunk = chunk[:8] + bytes([chunk[8] & ~_WEBP_METADATA_FLAGS & 0xFF]) + chunk[9:]
            kept.append(chunk + b"\0" * (8 + size + size % 2 - len(chunk)))
        place += 8 + size + size % 2
    body = b"".join(kept)
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body if body else None
