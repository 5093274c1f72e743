"""Finding images in folders: what is there, under which class, in an order that no file system decides."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from synood_cli.data.access import access_problem
from synood_cli.data.endings import COMMON, not_read, taken_for
from synood_cli.data.passed_over import PassedOver
from synood_cli.errors import UsageError
from synood_cli.records import ImageFile, composed, printable

_LAYOUT = "put the images of each class in a folder of its own: FOLDER/class name/image.jpg"
_WORDNET_ID = re.compile(r"^n\d{8}[ -]+(?=\S)")


@dataclass
class Scan:
    """What a folder holds.

    `images` are sorted by class, then name. `problems` are (name, reason), sorted: what looks like an image or a
    folder and cannot be used, such as pictures in formats that are not read. `strays` are the other files, hidden ones
    (a leading dot) not among them.
    """

    images: list[ImageFile] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    @property
    def ignored(self) -> int:
        """The number of other files."""
        return len(self.strays)

    @property
    def classes(self) -> list[str]:
        """Names of the classes that have images, sorted."""
        return sorted({image.class_name for image in self.images})


def scan_classes(root: Path) -> Scan:
    """The images of a labelled folder, laid out as root/class_name/**/image.ext; names are relative to `root`.

    Folders below a class belong to that class. Names of classes are composed (NFC): two folders whose names differ in
    that alone are one class. Symbolic links are followed; within a class no folder is entered
    twice, so links that lead back end there. An image outside every class folder and a class without images are
    problems. File names of any bytes work (undecodable ones as Python's surrogate escapes).

    Raises UsageError when `root` is no folder, has no class folders, or holds no image at all.
    """
    root = root.absolute()
    scan = Scan()
    classes: list[str] = []
    for name, is_folder in _entries(root, "", scan):
        if is_folder:
            classes.append(name)
        elif taken_for(name) == "other":
            scan.strays.append(name)
        else:
            scan.problems.append((name, "lies outside every class folder"))
    if not classes:
        raise UsageError(f"{_shown(root)} has no class folders", hint=_LAYOUT)
    for class_name in classes:
        before = len(scan.images) + len(scan.problems)
        _walk(root, class_name, composed(class_name), scan)
        if len(scan.images) + len(scan.problems) == before:
            scan.problems.append((class_name, "a class folder without images"))
    return _finished(scan, root)


def scan_images(root: Path) -> Scan:
    """The images at any depth below `root`, without labels: class_name is ''. `root` may also be one image file,
    whatever its name ends in.

    Links, names and problems are as in scan_classes. Raises UsageError when `root` does not exist or holds no image.
    """
    root = root.absolute()
    scan = Scan()
    if root.is_file():
        return Scan([ImageFile(root.parent, root.name, "")])
    _walk(root, "", "", scan)
    return _finished(scan, root)


def folder_fingerprint(images: Iterable[ImageFile]) -> str:
    """SHA-256 (hex) over the place and the sorted (name, size in bytes, modification time, change time in ns) of
    `images`: whether a folder looks unchanged.

    No content is read. The change time (ctime) is set by the kernel alone, whenever a file is written to, renamed or
    given another time: an image that was replaced by one of equal size and modification time does not look unchanged.
    The place counts too. The order does not matter. A file that is gone counts as such.
    """
    digest = hashlib.sha256()
    images = list(images)
    for root in sorted({os.fsencode(image.root.resolve()) for image in images}):
        digest.update(root + b"\0")
    for entry in sorted(_looks(image) for image in images):
        digest.update(b"%b\0%d\0%d\0%d\0" % entry)
    return digest.hexdigest()


def class_text(class_name: str) -> str:
    """The label text of a class folder: "n01484850_great_white_shark" → "great white shark".

    A leading WordNet id goes when words follow it; underscores become spaces; white space is collapsed; Unicode is
    composed (NFC; some file systems decompose names); undecodable bytes and control characters are escaped. Nothing
    else is touched: hyphens, commas, capitals and numbers may be part of the name ("T-shirt", "747").
    """
    words = composed(class_name).replace("_", " ").split()
    return _WORDNET_ID.sub("", printable(" ".join(words))) or class_name


def _walk(root: Path, start: str, class_name: str, scan: Scan) -> None:
    """Add to `scan` what is at and below root/start. Folders are entered in sorted order, so that of several ways
    to one folder the same is taken everywhere."""
    entered: set[tuple[int, int]] = set()
    pending = [start]
    while pending:
        folder = pending.pop()
        status = _stat(root, folder, scan)
        if status is None:
            continue
        if (status.st_dev, status.st_ino) in entered:
            scan.problems.append((folder, "a link to a folder that is scanned already (a loop?)"))
            continue
        entered.add((status.st_dev, status.st_ino))
        folders: list[str] = []
        for name, is_folder in _entries(root, folder, scan):
            if is_folder:
                folders.append(name)
            elif (kind := taken_for(name)) == "image":
                scan.images.append(ImageFile(root, name, class_name))
            elif kind == "unreadable":
                scan.problems.append((name, not_read(name)))
            else:
                scan.strays.append(name)
        pending.extend(reversed(folders))


def _entries(root: Path, folder: str, scan: Scan) -> Iterator[tuple[str, bool]]:
    """(name relative to root, is it a folder) of what is visible in root/folder, sorted; links are resolved.

    What cannot be read becomes a problem; when it is `root` itself (folder ''), a UsageError.
    """
    try:
        with os.scandir(root / folder) as listing:
            found = sorted((entry for entry in listing if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        if not folder:
            raise _unreadable(root, error) from error
        scan.problems.append((folder, access_problem(root / folder, error)))
        return
    for entry in found:
        name = f"{folder}/{entry.name}" if folder else entry.name
        if not entry.is_symlink():
            yield name, entry.is_dir()
        elif (status := _stat(root, name, scan)) is not None:
            yield name, stat.S_ISDIR(status.st_mode)


def _stat(root: Path, name: str, scan: Scan) -> os.stat_result | None:
    path = root / name
    try:
        return path.stat()
    except OSError as error:
        if not name:
            raise _unreadable(root, error) from error
        scan.problems.append((name, access_problem(path, error)))
        return None


def _unreadable(root: Path, error: OSError) -> UsageError:
    hint = _LAYOUT if isinstance(error, NotADirectoryError) else "check the path"
    return UsageError(f"cannot read the folder {_shown(root)}: {access_problem(root, error)}", hint=hint)


def _finished(scan: Scan, root: Path) -> Scan:
    if not scan.images:
        found = [str(PassedOver(scan.strays))] if scan.strays else []
        found += [f"{printable(name)}: {reason}" for name, reason in sorted(scan.problems)[:3]]
        raise UsageError(
            f"there are no images in {_shown(root)}" + (f" ({'; '.join(found)})" if found else ""),
            hint=f"images end in {COMMON}",
        )
    scan.images.sort(key=lambda image: (image.class_name, image.name))
    scan.problems.sort()
    return scan


def _looks(image: ImageFile) -> tuple[bytes, int, int, int]:
    try:
        status = os.stat(os.path.join(image.root, image.name))  # noqa: PTH116, PTH118  (a Path costs more than the call)
    except (OSError, ValueError):
        return os.fsencode(image.name), -1, -1, -1
    return os.fsencode(image.name), status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _shown(path: Path) -> str:
    return printable(str(path))
