"""Image sets: named, ordered images of any source, each of which can be opened on its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from synood_cli.data.folders import folder_fingerprint
from synood_cli.errors import ItemError
from synood_cli.records import AnyImage, ImageFile, PackedImage, composed, is_unicode, printable

Kind = Literal["folder", "list", "tar", "dataset"]

LABEL_LENGTH = 1000
"""The longest name of a class that an archive or a dataset may hold."""


@dataclass(frozen=True)
class ImageSet:
    """What was found at `place`. Names are unique; the order is the source's own and no file system decides it.

    `problems` are (name, reason): what belongs to the set and cannot be used. `strays` are files that lie there and do
    not belong to it.
    """

    place: Path
    kind: Kind
    images: Sequence[AnyImage]
    problems: Sequence[tuple[str, str]] = ()
    strays: Sequence[str] = field(default=())

    @property
    def classes(self) -> list[str]:
        """Names of the classes that have images, sorted."""
        return sorted({image.class_name for image in self.images} - {""})

    @property
    def files(self) -> list[ImageFile]:
        """The images that are files of their own: all of a folder or a list, none of an archive or a dataset."""
        return [image for image in self.images if isinstance(image, ImageFile)]

    def renamed(self, classes: dict[str, str]) -> ImageSet:
        """The same images with other names of their classes; those that `classes` lacks keep theirs."""
        images = [image._replace(class_name=classes.get(image.class_name, image.class_name)) for image in self.images]
        return replace(self, images=images)


def set_fingerprint(found: ImageSet, images: str) -> str:
    """SHA-256 (hex) by which an answer about images of the set `found` is known again: their fingerprint `images`, and
    what else the answer tells, the problems of the set with their reasons; and which list it is."""
    digest = hashlib.sha256(images.encode())
    if found.kind == "list":
        digest.update(b"list\0%b\0" % os.fsencode(found.place.resolve()))
    for name, reason in sorted(found.problems):
        digest.update(b"%b\0%b\0" % (os.fsencode(name), os.fsencode(printable(reason))))
    return digest.hexdigest()


def images_fingerprint(images: Iterable[AnyImage]) -> str:
    """SHA-256 (hex) by which images are known again: whether they look unchanged.

    Files count as in folder_fingerprint. Packed images count by their names and the places of their containers, with
    the size, modification time and change time of each file in them. No content is read; neither order nor classes
    matter.
    """
    images = list(images)
    packed = [image for image in images if isinstance(image, PackedImage)]
    if not packed:
        return folder_fingerprint(image for image in images if isinstance(image, ImageFile))
    digest = hashlib.sha256()
    for container in sorted({image.place.container for image in packed}):
        for path in sorted(container.iterdir()) if container.is_dir() else [container]:
            status = path.stat()
            looks = (os.fsencode(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            digest.update(b"%b\0%d\0%d\0%d\0" % looks)
    for name in sorted(os.fsencode(image.name) for image in packed):
        digest.update(name + b"\0")
    return digest.hexdigest()


def label_name(label: object) -> str:
    """The class name that a label in a list, an archive or a dataset means: numbers of in-distribution classes as
    text, '' for -1 (out of distribution) and for none. Texts are composed (NFC), as the names of class folders are.

    Raises ItemError for what is neither a text nor a whole number, and for a text of more than LABEL_LENGTH characters
    or with half of a surrogate pair.
    """
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if label in (None, "", -1, "-1"):
        return ""
    if isinstance(label, bool) or not isinstance(label, int | str) or (isinstance(label, int) and label < 0):
        raise ItemError(f"{type(label).__name__} {printable(str(label)):.40} is neither a text nor a number from -1")
    name = composed(str(label))
    if len(name) > LABEL_LENGTH:
        raise ItemError(f"{len(name):,} characters are no label")
    if not is_unicode(name):
        raise ItemError("it holds half of a surrogate pair")
    return name
