"""Hugging Face datasets on disk (`Dataset.save_to_disk`), through the optional library `datasets`."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from synood_cli.data.access import kind_problem
from synood_cli.data.foreign import item_boundary, reason
from synood_cli.data.image_sets import ImageSet, label_name
from synood_cli.errors import ItemError, UsageError
from synood_cli.records import PackedImage, printable
from synood_cli.regular_file import read_regular

MARKS = ("state.json", "dataset_info.json", "dataset_dict.json")
"""Files that make a folder a dataset on disk; the last: of several splits."""

LABEL_COLUMNS = ("label", "labels", "class", "class_name", "cls")
"""Columns that are taken for the class where none is a ClassLabel; the first that is there."""


_MARK_BYTES = 1 << 26
"""The largest of these files that is read: names of classes, not pictures."""


class DatasetRow(NamedTuple):
    """The picture in `column` of row number `row`."""

    container: Path
    column: str
    row: int

    def read(self) -> bytes:
        """The picture's bytes, as they were saved. Raises ItemError when there are none."""
        with item_boundary(self, lambda error: f"the dataset's row cannot be read: {reason(error)}"):
            found = _pictures(self.container, self.column)[self.row][self.column]
        if not found or not found.get("bytes"):
            raise ItemError("the dataset's row has no picture")
        return bytes(found["bytes"])  # read_image bounds their number


def is_dataset(folder: Path) -> bool:
    """Whether a dataset was saved to `folder`."""
    return any((folder / name).is_file() for name in MARKS)


def scan_dataset(folder: Path) -> ImageSet:
    """The rows of the dataset saved to `folder`, in order: pictures from its first column of type Image, classes from
    its first ClassLabel column, else from one named like LABEL_COLUMNS. Names are row numbers.

    Raises UsageError when the library is missing, naming the command that installs it; when `folder` holds several
    splits or cannot be loaded; and when there is no column of images.
    """
    folder = folder.absolute()
    dataset, features = _load(folder)
    image = next((name for name, kind in features.items() if isinstance(kind, _datasets().Image)), None)
    if image is None:
        columns = ", ".join(printable(name) for name in features)
        raise UsageError(
            f"the dataset {printable(str(folder))} has no column of images; its columns: {columns}",
            hint='give it one: dataset.cast_column("image", datasets.Image())',
        )
    digits = len(str(max(len(dataset) - 1, 0)))
    images: list[PackedImage] = []
    problems: list[tuple[str, str]] = []
    for row, label in enumerate(_labels(dataset, features)):
        name, class_name = f"row {row:0{digits}}", ""
        try:
            class_name = label_name(label)
        except ItemError as error:
            problems.append((name, f"its label cannot be read: {error.message}"))
        images.append(PackedImage(DatasetRow(folder, image, row), name, class_name))
    return ImageSet(folder, "dataset", images, problems)


def _labels(dataset: Any, features: Any) -> list[object]:
    """The label of each row: the name of its class where the column has names."""
    labels = [name for name, kind in features.items() if isinstance(kind, _datasets().ClassLabel)]
    labels += [name for name in LABEL_COLUMNS if name in features]
    if not labels:
        return [None] * len(dataset)
    values: list[object] = dataset.select_columns(labels[:1])[:][labels[0]]
    kind = features[labels[0]]
    if isinstance(kind, _datasets().ClassLabel) and kind.names:
        named = dict(enumerate(kind.names))
        values = [named.get(value, value) if isinstance(value, int) else None for value in values]
    return values


def _load(folder: Path) -> tuple[Any, Any]:
    splits = sorted(path.name for path in folder.iterdir() if path.is_dir() and (path / MARKS[0]).is_file())
    if splits and not (folder / MARKS[0]).is_file():
        raise UsageError(
            f"the dataset {printable(str(folder))} has the splits {', '.join(map(printable, splits))}",
            hint=f"name one of them: {printable(str(folder / splits[0]))}",
        )
    datasets = _datasets()
    try:
        with item_boundary(folder, reason):  # the library's own errors have no common base
            _check_files(folder)
            dataset = datasets.load_from_disk(str(folder))
            return dataset, dataset.features
    except ItemError as error:
        raise UsageError(
            f"cannot load the dataset {printable(str(folder))}: {error.message}",
            hint="save it again: dataset.save_to_disk(DIR)",
        ) from error


def _check_files(folder: Path) -> None:
    """Raise ItemError for what the library would wait for, or read without end, and for files outside of `folder`."""
    for path in folder.iterdir():
        if not path.is_dir() and (problem := kind_problem(path.stat().st_mode)):
            raise ItemError(f"{printable(path.name)} {problem}")
    for name in MARKS[:2]:
        try:
            content = read_regular(folder / name, _MARK_BYTES)
        except FileNotFoundError:
            continue
        if name == MARKS[0]:
            for data in json.loads(content).get("_data_files", []):
                if Path(str(data["filename"])).name != data["filename"]:
                    raise ItemError(f"its file {printable(str(data['filename']))} is not in its folder")


@lru_cache(maxsize=8)
def _pictures(folder: Path, column: str) -> Any:
    """The dataset's pictures, encoded; memory-mapped, so that it costs next to nothing to keep open."""
    dataset = _datasets().load_from_disk(str(folder)).select_columns([column])
    return dataset.cast_column(column, _datasets().Image(decode=False))


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            "reading a Hugging Face dataset needs the library `datasets`, which is not installed",
            hint="pip install 'synood[datasets]'",
        ) from error
    return datasets
