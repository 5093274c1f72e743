"""WebDataset shards: images in uncompressed tar archives, read in place. Nothing of an archive is written to disk."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from synood_cli.data.access import access_problem, open_regular, too_many_bytes
from synood_cli.data.endings import COMMON, EXTENSIONS
from synood_cli.data.foreign import item_boundary, reason
from synood_cli.data.image_sets import ImageSet, label_name
from synood_cli.data.images import MAX_BYTES
from synood_cli.data.tar_headers import tar_headers
from synood_cli.data.tar_samples import tar_samples
from synood_cli.errors import ItemError, UsageError
from synood_cli.records import PackedImage, printable

LABEL_BYTES = 1 << 20
"""The largest .cls or .json member that is read: a label is a few bytes, a caption a few thousand."""

LABEL_KEYS = ("class_name", "cls", "label")
"""Where a .json member says the class, the first that it has."""


class TarMember(NamedTuple):
    """A member of an archive: `size` bytes from `offset` on."""

    container: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The member's bytes. Raises ItemError when the archive is gone or too short by now."""
        if self.size > MAX_BYTES:
            raise ItemError(too_many_bytes(self.size, MAX_BYTES))
        try:
            file, _ = open_regular(self.container)
            with file:
                file.seek(self.offset)
                content = file.read(self.size)
        except ItemError as error:
            raise ItemError(f"its archive: {error.message}") from error
        except OSError as error:
            raise ItemError(f"its archive: {access_problem(self.container, error)}") from error
        if len(content) < self.size:
            raise ItemError("its archive ends within the picture")
        return content


def is_tar_folder(folder: Path) -> bool:
    """Whether shards, and neither folders nor images, lie in `folder`."""
    with os.scandir(folder) as listing:
        visible = [entry for entry in listing if not entry.name.startswith(".")]
    kinds = {PurePosixPath(entry.name).suffix.lower() for entry in visible}
    return ".tar" in kinds and not kinds & EXTENSIONS and not any(entry.is_dir() for entry in visible)


def scan_tars(place: Path) -> ImageSet:
    """The images of the archive at `place`, or of the archives in that folder, in the order of archives and members.

    Members are put together as in `tar_samples`; the class is that of a `.cls` member, else of a `.json` object's
    LABEL_KEYS. Names are `shard.tar/member`. A damaged archive gives what precedes the damage, and a problem.

    Raises UsageError when there is no image.
    """
    place = place.absolute()
    shards = sorted(path for path in place.glob("*.tar") if path.name[0] != ".") if place.is_dir() else [place]
    images: list[PackedImage] = []
    problems: list[tuple[str, str]] = []
    strays = [path.name for path in sorted(place.iterdir()) if _is_stray(path)] if place.is_dir() else []
    for shard in shards:
        members = _members(shard, problems)
        found = tar_samples(members)
        problems += [(f"{shard.name}/{name}", reason) for name, reason in found.problems]
        strays += [f"{shard.name}/{name}" for name in found.strays]
        for sample in found.samples:
            name = f"{shard.name}/{sample.image}"
            class_name, wrong = _class(members, sample.labels)
            if wrong:
                problems.append((name, wrong))
            images.append(PackedImage(members[sample.image], name, class_name))
    if not images:
        found_instead = "".join(f"; {printable(name)}: {reason}" for name, reason in problems[:3])
        raise UsageError(
            f"there are no images in {printable(str(place))}{found_instead}",
            hint=f"members end in {COMMON}, with .cls or .json beside them",
        )
    return ImageSet(place, "tar", images, problems, strays)


def _is_stray(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix != ".tar"


def _members(shard: Path, problems: list[tuple[str, str]]) -> dict[str, TarMember]:
    """The regular files of the archive by name; what is wrong with it is added to `problems`."""
    members: dict[str, TarMember] = {}
    try:
        file, status = open_regular(shard)
        with file, item_boundary(shard, reason):
            for header in tar_headers(file, status.st_size):
                name = f"{shard.name}/{header.name}"
                if header.is_folder:
                    continue
                if not header.is_file:
                    problems.append((name, "is not a regular file"))
                elif header.size > status.st_size - header.offset:
                    problems.append((name, "the archive ends within it"))
                else:
                    if header.name in members:
                        problems.append((name, "is in the archive twice; the last counts"))
                    members[header.name] = TarMember(shard, header.offset, header.size)
    except ItemError as error:
        problems.append((shard.name, error.message))
    return members


def _class(members: Mapping[str, TarMember], labels: Mapping[str, str]) -> tuple[str, str]:
    """(class name, what is wrong with the label or '')."""
    try:
        with item_boundary(labels, reason):
            if name := labels.get("cls"):
                return label_name(_text(members[name]).strip()), ""
            if name := labels.get("json"):
                said = json.loads(_text(members[name]))
                value = next((said[key] for key in LABEL_KEYS if key in said), "") if isinstance(said, dict) else ""
                return label_name(value), ""
    except ItemError as error:
        return "", f"its label cannot be read: {error.message}"
    return "", ""


def _text(member: TarMember) -> str:
    if member.size > LABEL_BYTES:
        raise ItemError(f"{member.size:,} bytes are no label")
    return member.read().decode("utf-8-sig")
