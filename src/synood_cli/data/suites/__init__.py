"""Benchmark suites: the image sets of a table, where they lie below a data root, and how many images each must have.

A suite is a TOML file; `imagenet-ood` and `openood-imagenet` come with the package, beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError

from synood_cli.data.access import access_problem
from synood_cli.data.image_lists import missing_images
from synood_cli.data.image_sets import ImageSet
from synood_cli.data.sources import find_images, find_ind
from synood_cli.errors import UsageError
from synood_cli.records import Record, printable
from synood_cli.regular_file import read_regular
from synood_cli.toml_file import LIMIT, parse_toml

NAMES_SHOWN = 3
"""Stray files and unusable images that are named; the others are counted."""


class SuiteSet(Record):
    """One image set of a suite.

    `place`: below the data root, the first of these that is there. `list_root`: where the paths of a list file start,
    below the data root. `images`: how many usable images there must be; unsaid, any number. `group`: OOD sets of one
    group are averaged apart too.
    """

    place: Annotated[list[str], BeforeValidator(lambda said: [said] if isinstance(said, str) else said)] = Field(
        min_length=1
    )
    list_root: str = ""
    images: int | None = Field(None, ge=1)
    group: str = ""


class Suite(Record):
    """The file of a suite: its in-distribution set, and its OOD sets by name."""

    description: str = ""
    ind: SuiteSet
    ood: dict[str, SuiteSet] = Field(min_length=1)

    @property
    def groups(self) -> dict[str, list[str]]:
        """The OOD sets of each group, in the order of the file."""
        found: dict[str, list[str]] = {}
        for name, each in self.ood.items():
            if each.group:
                found.setdefault(each.group, []).append(name)
        return found


class Difference(NamedTuple):
    """In what the set `name` is not as the suite says."""

    name: str
    what: str


@dataclass(frozen=True)
class FoundSuite:
    """What of a suite lies below a data root: the image sets by name (`ind` and the OOD sets), and what differs."""

    sets: Mapping[str, ImageSet]
    differences: list[Difference]


def suite_names() -> list[str]:
    """The suites that come with the package, sorted."""
    return sorted(file.name.removesuffix(".toml") for file in files(__package__).iterdir() if file.name[-5:] == ".toml")


def read_suite(name: str) -> Suite:
    """The suite called `name`, or the one in that TOML file.

    Raises UsageError when there is none, and naming what is wrong in the file.
    """
    if name in suite_names():
        return _parsed((files(__package__) / f"{name}.toml").read_bytes(), name)
    path = Path(name)
    if path.suffix != ".toml":
        raise UsageError(
            f"there is no suite {name!r}", hint=f"known: {', '.join(suite_names())}; or a file of your own, NAME.toml"
        )
    try:
        return _parsed(read_regular(path, LIMIT), name)
    except OSError as error:
        raise UsageError(f"cannot read the suite {printable(name)}: {access_problem(path, error)}") from error


def find_suite(suite: Suite, data_root: Path) -> FoundSuite:
    """Look for every set of `suite` below `data_root`: nothing is decoded, and nothing that differs stops the search.

    Missing sets, other numbers of images, images that cannot be used, and stray files are differences.
    """
    sets: dict[str, ImageSet] = {}
    differences: list[Difference] = []
    for name, wanted in {"ind": suite.ind, **suite.ood}.items():
        places = [data_root / place for place in wanted.place]
        place = next((place for place in places if place.exists()), None)
        if place is None:
            missing = " or ".join(map(printable, wanted.place))
            differences.append(Difference(name, f"is missing: there is no {missing}"))
            continue
        try:
            find = find_ind if name == "ind" else find_images
            found = find(place, data_root=data_root / wanted.list_root)
            if found.kind == "list":
                found = missing_images(found)
        except UsageError as error:
            differences.append(Difference(name, error.message + (f" ({error.hint})" if error.hint else "")))
            continue
        sets[name] = found
        differences += [Difference(name, what) for what in _differences(found, wanted)]
    return FoundSuite(sets, differences)


def _differences(found: ImageSet, wanted: SuiteSet) -> list[str]:
    what = []
    if wanted.images is not None and len(found.images) != wanted.images:
        what.append(f"has {len(found.images):,} images that can be used, not {wanted.images:,} ({found.place})")
    if found.problems:
        shown = [f"{printable(name)}: {reason}" for name, reason in found.problems[:NAMES_SHOWN]]
        what.append(f"has what cannot be used: {_listed(shown, len(found.problems))}")
    if found.strays:
        shown = [printable(name) for name in found.strays[:NAMES_SHOWN]]
        what.append(f"has stray files: {_listed(shown, len(found.strays))} ({found.place})")
    return what


def _listed(shown: list[str], count: int) -> str:
    return ", ".join(shown) + (f" and {count - len(shown):,} more" if count > len(shown) else "")


def _parsed(content: bytes, where: str) -> Suite:
    where = printable(where)
    try:
        return Suite.model_validate(parse_toml(content, f"the suite {where}"))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise UsageError(
            f"the suite {where}: {printable(wrong)}",
            hint='it needs [ind] and at least one [ood.NAME], each with place = "FOLDER" and perhaps images = NUMBER',
        ) from error
