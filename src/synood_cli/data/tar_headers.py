"""The headers of a tar archive that somebody else made: ustar, GNU and pax, in linear time and bounded memory.

Python's tarfile reads a name or a pax header of whatever size the archive says into memory, builds maps of sparse files
without end, and never leaves a member of negative size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from synood_cli.errors import ItemError

BLOCK = 512
NAME_BYTES = 1 << 16
"""The longest GNU name that is read: paths have 4,096 bytes at most."""
PAX_BYTES = 1 << 20
"""The largest pax header that is read."""
EXTENSIONS = 16
"""Headers that may stand before one member to describe it."""
PADDING_BYTES = 1 << 20
"""So far behind its end another archive is looked for: tar fills archives up to a multiple of 10 kB by default."""
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd", b"PK\3\4": "zip"}


CUT_OFF = "the archive is damaged or cut off: what follows is not found"
JOINED = "another archive follows behind its end and is not read: join archives with `tar --concatenate`, not `cat`"


class DamagedTarError(ItemError):
    """The archive cannot be followed from here on."""


class Header(NamedTuple):
    """A member: its content is the `size` bytes from `offset` on, where it `is_file`, whole and plain."""

    name: str
    offset: int
    size: int
    is_file: bool
    is_folder: bool


class _Pending(NamedTuple):
    """What the headers before a member say of it."""

    name: bytes | None = None
    size: int | None = None
    sparse: bool = False


def tar_headers(file: BinaryIO, length: int) -> Iterator[Header]:
    """The members of the archive in `file`, of `length` bytes, in order.

    Raises DamagedTarError where it ends without the zeros that end an archive, cannot be followed, or has another
    one behind it.
    """
    place = 0
    pending, default, extensions = _Pending(), _Pending(), 0
    while True:
        block = _read(file, place, BLOCK)
        if block == bytes(BLOCK):
            return _nothing_follows(_read(file, place, PADDING_BYTES))
        if len(block) < BLOCK or not _checksum_is_right(block):
            raise DamagedTarError(_no_header(block, first=place == 0))
        kind = block[156:157]
        size = _number(block[124:136])
        place += BLOCK
        if kind in (b"L", b"K", b"x", b"X", b"g"):
            extensions += 1
            if extensions > EXTENSIONS:
                raise DamagedTarError(f"the archive is damaged: more than {EXTENSIONS} headers describe one member")
            if kind != b"K":
                said = _read(file, place, _bounded(size, NAME_BYTES if kind == b"L" else PAX_BYTES, length - place))
                if kind == b"L":
                    pending = pending._replace(name=said.partition(b"\0")[0])
                elif kind == b"g":
                    default = _with_pax(default, said)
                else:
                    pending = _with_pax(pending, said)
            place += _padded(size)
            continue
        sparse = pending.sparse or default.sparse or kind == b"S"
        if kind == b"S":
            place = _behind_sparse_map(file, block, place)
        wanted = pending.size if pending.size is not None else default.size
        size = size if wanted is None else wanted
        name = pending.name or default.name or _name(block)
        is_folder = kind == b"5" or name.endswith(b"/")
        is_file = kind in (b"0", b"\0", b"7") and not is_folder and not sparse
        if kind in (b"1", b"2", b"3", b"4", b"5", b"6"):  # these have no content, whatever their size says
            size = 0
        yield Header(os.fsdecode(name), place, size, is_file, is_folder)
        if size > length - place:
            raise DamagedTarError(CUT_OFF)
        place += _padded(size)
        pending, extensions = _Pending(), 0


def _nothing_follows(behind: bytes) -> None:
    """Raise DamagedTarError where a header follows the zeros that end an archive."""
    blocks = (behind[place : place + BLOCK] for place in range(0, len(behind), BLOCK))
    first = next((block for block in blocks if block.strip(b"\0")), b"")
    if len(first) == BLOCK and _checksum_is_right(first):
        raise DamagedTarError(JOINED)


def _read(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _bounded(size: int, most: int, left: int) -> int:
    if size > left:
        raise DamagedTarError(CUT_OFF)
    if size > most:
        raise DamagedTarError(f"the archive is damaged: {size:,} bytes describe a member; at most {most:,} are read")
    return size


def _number(digits: bytes) -> int:
    """A size: octal digits, or a binary number with the first bit set. Raises DamagedTarError for a negative one."""
    if digits[0] & 0x80:
        value = int.from_bytes(digits, "big", signed=True) if digits[0] == 0xFF else int.from_bytes(
            bytes([digits[0] & 0x7F]) + digits[1:], "big"
        )  # fmt: skip
    else:
        said = digits.partition(b"\0")[0].strip()
        if said and not (said.isdigit() and max(said) < ord("8")):
            raise DamagedTarError("the archive is damaged: the size of a member is no number")
        value = int(said or b"0", 8)
    if value < 0:
        raise DamagedTarError(f"the archive is damaged: a member has the size {value}")
    return value


def _checksum_is_right(block: bytes) -> bool:
    said = block[148:156].replace(b"\0", b" ").strip()
    if not said.isdigit() or max(said) >= ord("8"):
        return False
    around = block[:148] + b" " * 8 + block[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in around)  # as some old programs added it up
    return int(said, 8) in (sum(around), signed)


def _no_header(block: bytes, *, first: bool) -> str:
    if not first:
        return CUT_OFF
    packed = next((name for magic, name in _COMPRESSED.items() if block.startswith(magic)), None)
    what = f"it is compressed with {packed}" if packed else "it begins with no header"
    return f"not an uncompressed tar archive, or damaged: {what}"


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0]
    return prefix + b"/" + name if block[257:263] == b"ustar\0" and prefix else name


def _with_pax(known: _Pending, content: bytes) -> _Pending:
    """`known` with what the records ``LENGTH KEY=VALUE\\n`` of a pax header say."""
    place = 0
    while place < len(content) and content[place] != 0:
        digits, blank, _ = content[place : place + 12].partition(b" ")
        if not blank or not digits.isdigit():
            raise DamagedTarError("the archive is damaged: a pax header is damaged")
        end = place + int(digits)
        key, equals, value = content[place + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or end > len(content) or content[end - 1 : end] != b"\n":
            raise DamagedTarError("the archive is damaged: a pax header is damaged")
        if key == b"path":
            known = known._replace(name=value.partition(b"\0")[0])
        elif key == b"size":
            if not value.isdigit() or len(value) > 20:
                raise DamagedTarError("the archive is damaged: the size of a member is no number")
            known = known._replace(size=int(value))
        elif key.startswith(b"GNU.sparse"):
            known = known._replace(sparse=True)
        place = end
    return known


def _behind_sparse_map(file: BinaryIO, block: bytes, place: int) -> int:
    """Where the content of an old GNU sparse file begins: the map of its holes may go on in further blocks."""
    more = block[482]
    while more:
        block = _read(file, place, BLOCK)
        if len(block) < BLOCK:
            raise DamagedTarError(CUT_OFF)
        more = block[504]
        place += BLOCK
    return place
