"""Small immutable records that travel between the driver process, the store and the workers."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

Precision = Literal["fp32", "bf16", "fp16"]


class Record(BaseModel):
    """Base of all records: frozen, without unknown fields, infinities and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def local(name: str, there: Callable[[Path], bool], folder: Path = Path()) -> Path | None:
    """What `name` means on this machine, seen from `folder`, when it is `there`. None for every other text, also for
    what can be no path: too long, of an unknown user, with zero bytes."""
    try:
        path = folder / Path(name.removeprefix("local-dir:")).expanduser()
        return path if there(path) else None
    except (OSError, ValueError, RuntimeError):
        return None


class ModelSpec(Record):
    """A model that is named, not imported: which adapter loads what.

    `name` is a hub id or a local folder in the library's own format; `pretrained` is open_clip's weight tag;
    `url` is the address of an OpenAI-compatible server. `revision` is a hub commit or branch; for a local folder
    it is the digest of the folder's files.
    """

    adapter: str
    name: str
    pretrained: str | None = None
    revision: str | None = None
    url: str | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder that `name` means, or None when it is a hub id."""
        return local(self.name, Path.is_dir)

    @property
    def file(self) -> Path | None:
        """The local checkpoint file that `pretrained` means, or None when it is a weight tag."""
        return local(self.pretrained, Path.is_file) if self.pretrained else None

    def identity(self) -> dict[str, str | None]:
        """What decides the model's outputs: for a folder its content, wherever it lies; else its names."""
        if self.folder is not None:
            return {"adapter": self.adapter, "revision": self.revision}
        return self.model_dump(exclude={"url"})


class ImageFile(NamedTuple):
    """One image of a folder. `name` is its path relative to `root`, `class_name` its class folder ('' if none)."""

    root: Path
    name: str
    class_name: str

    @property
    def path(self) -> Path:
        return self.root / self.name

    @property
    def place(self) -> Path:
        """Where it is opened: its path."""
        return self.path


class Packed(Protocol):
    """Where an image lies that is no file of its own: in an archive, or in a row of a dataset. Small: it travels to
    workers, which read the image there."""

    @property
    def container(self) -> Path:
        """The file or folder that holds the image."""

    def read(self) -> bytes:
        """The image as it is encoded. Raises ItemError, with a reason that does not repeat the place."""


Place = Path | Packed
"""Where an image can be opened."""


class PackedImage(NamedTuple):
    """One image of an archive or a dataset. `name` is unique in its image set and never a path on this machine."""

    place: Packed
    name: str
    class_name: str


AnyImage = ImageFile | PackedImage
"""One image of an image set: its `place`, its `name`, and its `class_name` ('' if none)."""


class Description(NamedTuple):
    """A captioner's answer: the raw text, the elements where it knows them apart, the seconds it took, and whether it
    was cut off at the longest answer."""

    raw: str
    elements: list[str] | None = None
    seconds: float = 0.0
    cut: bool = False


def composed(name: str) -> str:
    """`name` in Unicode's composed form (NFC), in which names of classes are compared: file systems and archives keep
    "é" as one character or as two."""
    return unicodedata.normalize("NFC", name)


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8: half of a surrogate pair, which JSON may hold, cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """`text` fit for a terminal or an HTML page: control characters, newlines and undecodable bytes escaped.

    A byte that is not UTF-8 (Python carries it as a lone surrogate) becomes ``\\xNN``.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that was no UTF-8, as Python carries it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
