"""Places of images whose content is known: what is read there is what was asked for, or it is not read at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from synood_cli.data.access import open_regular, too_many_bytes
from synood_cli.data.images import MAX_BYTES
from synood_cli.errors import ItemError
from synood_cli.records import Place

CHANGED = "has changed since it was selected; `synood select` again, or put the photograph back"
"""Why a photograph with other content than the selected one is not worked on."""

TOUCHED = "has changed since this command began; run it again"
"""Why an image of a set that was touched meanwhile is not worked on."""


class KnownFile(NamedTuple):
    """The file at `path`, as long as its content has the SHA-256 (hex) `sha256`; `changed` says what is wrong with
    another."""

    path: Path
    sha256: str
    changed: str = CHANGED

    @property
    def container(self) -> Path:
        return self.path

    def read(self) -> bytes:
        """Its content. Raises ItemError as read_image does, and where it is other content."""
        content, _ = _read(self.path)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ItemError(self.changed)
        return content


class UntouchedImage(NamedTuple):
    """The image at `place`, as long as the file that holds it, `container`, has this size, modification time and change
    time: those by which its set is known."""

    place: Place
    container: Path
    size: int
    modified_ns: int
    changed_ns: int

    def read(self) -> bytes:
        """The image as it is encoded. Raises ItemError as read_image does, and where the file was touched."""
        if isinstance(self.place, Path):
            content, status = _read(self.place)
            self._check(status)
        else:
            self._check(self.container.stat())
            content = self.place.read()
            self._check(self.container.stat())
        return content

    def _check(self, status: os.stat_result) -> None:
        if (status.st_size, status.st_mtime_ns, status.st_ctime_ns) != self[2:]:
            raise ItemError(TOUCHED)


def untouched(place: Place) -> Place:
    """`place`, to be read as long as nobody touches the file. A place that cannot be looked at, or in a folder of
    files, stays what it is."""
    file = place if isinstance(place, Path) else place.container
    try:
        status = file.stat()
    except (OSError, ValueError):
        return place
    times = status.st_mtime_ns, status.st_ctime_ns
    return UntouchedImage(place, file, status.st_size, *times) if file.is_file() else place


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    file, status = open_regular(path)
    with file:
        content = (file.read(MAX_BYTES + 1) or b"") if status.st_size <= MAX_BYTES else b""
        after = os.fstat(file.fileno())
    if max(status.st_size, len(content)) > MAX_BYTES:
        raise ItemError(too_many_bytes(max(status.st_size, len(content)), MAX_BYTES))
    return content, after
