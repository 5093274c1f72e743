"""Where image sets come from: whatever lies at a path is recognised by what it is."""

from __future__ import annotations

from pathlib import Path

from synood_cli.data.disk_datasets import is_dataset, scan_dataset
from synood_cli.data.folders import scan_classes, scan_images
from synood_cli.data.image_lists import scan_list
from synood_cli.data.image_sets import ImageSet
from synood_cli.data.tar_shards import is_tar_folder, scan_tars
from synood_cli.errors import UsageError
from synood_cli.paths import without_parents
from synood_cli.records import printable

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")


def find_images(place: Path, *, data_root: Path | None = None, labelled: bool = False) -> ImageSet:
    """The image set at `place`: a folder of images, one image, a list file (`.txt`; its paths start from `data_root`,
    else from the list's own folder), a tar archive or a folder of them, or a Hugging Face dataset on disk.

    `labelled`: the folders of a folder must be classes; the other sources have the classes that they have. Raises
    UsageError when nothing is there that can be read.
    """
    place, data_root = without_parents(place), data_root and without_parents(data_root)
    if place.is_file():
        if place.suffix.lower() == ".txt":
            return scan_list(place, data_root or place.parent)
        if place.suffix.lower() == ".tar":
            return scan_tars(place)
        if place.name.lower().endswith(COMPRESSED):
            raise UsageError(
                f"{printable(str(place))} is compressed: its images cannot be read in place",
                hint="unpack it to a folder, or make a plain .tar of it",
            )
    elif place.is_dir():
        if is_dataset(place):
            return scan_dataset(place)
        if is_tar_folder(place):
            return scan_tars(place)
    elif place.exists():
        raise UsageError(
            f"{printable(str(place))} is a pipe or a device, not images",
            hint="give a folder, a list file (.txt), a .tar shard or a dataset",
        )
    scan = scan_classes(place) if labelled else scan_images(place)
    return ImageSet(place, "folder", scan.images, scan.problems, scan.strays)


def find_ind(place: Path, *, data_root: Path | None = None) -> ImageSet:
    """The in-distribution images at `place`, with their classes; without, where images lie outside of every folder."""
    try:
        return find_images(place, data_root=data_root, labelled=True)
    except UsageError:
        return find_images(place, data_root=data_root)
