"""What a stage asks of image sets: where they lie, what their classes are called, how OOD sets are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from synood_cli.data.image_sets import ImageSet
from synood_cli.data.sources import find_images, find_ind
from synood_cli.data.suites import SuiteSet, find_suite, read_suite, suite_names
from synood_cli.errors import UsageError
from synood_cli.metrics.conventions import AVERAGE
from synood_cli.records import AnyImage, composed, printable
from synood_cli.stages.class_names import IMAGENET_ID, listed_classes
from synood_cli.store.files import sha256_bytes
from synood_cli.store.heads import HeadInfo
from synood_cli.store.store import canonical_json


class SuiteUse(NamedTuple):
    """The suite that an evaluation is made on: the groups of its OOD sets, and in what the sets differ from it."""

    name: str
    groups: dict[str, list[str]]
    differences: list[str]


class Benchmark(NamedTuple):
    """What heads are evaluated on: in-distribution images, and OOD sets by name."""

    ind: ImageSet
    ood: dict[str, ImageSet]
    suite: SuiteUse | None = None


def find_benchmark(
    ind: Path | None,
    ood: Mapping[str, Path],
    *,
    suite: str | None = None,
    data_root: Path | None = None,
    allow_mismatch: bool = False,
) -> Benchmark:
    """The image sets at `ind` and `ood`; with a `suite` (a name or a TOML file), its sets below `data_root` (else, of a
    file, its own folder), with `ind` in the place of its in-distribution images and `ood` besides.

    Everything in which the suite's sets are not as they must be is one UsageError; with `allow_mismatch` what is there
    is taken, and the differences are told with it.
    """
    if suite is None:
        if ind is None:
            raise UsageError("there are no in-distribution images", hint="--ind IMAGES, or --suite NAME")
        given = {name: find_images(place, data_root=data_root) for name, place in ood.items()}
        return Benchmark(find_ind(ind, data_root=data_root), given)
    wanted = read_suite(suite)
    if data_root is None and suite in suite_names():
        raise UsageError(f"where are the images of the suite {suite}?", hint="--data-root DIR")
    root = (data_root or Path(suite).parent).absolute()
    if ind is not None:
        wanted = wanted.model_copy(
            update={"ind": SuiteSet(place=[str(ind.absolute())], list_root=wanted.ind.list_root)}
        )
    found = find_suite(wanted, root)
    differences = [f"{each.name} {each.what}" for each in found.differences]
    sets = dict(found.sets)
    if differences and not (allow_mismatch and "ind" in sets):
        raise UsageError(
            f"below {printable(str(root))} the suite {suite} is not as it must be: {'; '.join(differences)}",
            hint="put that right; or --allow-mismatch, which goes on with what is there"
            + ("" if "ind" in sets else " (the in-distribution images it needs: --ind IMAGES)"),
        )
    ind_set = sets.pop("ind")
    groups = {group: [name for name in names if name in sets] for group, names in wanted.groups.items()}
    use = SuiteUse(suite, {group: names for group, names in groups.items() if names}, differences)
    return Benchmark(ind_set, sets | {name: find_images(place) for name, place in ood.items()}, use)


def average_name(group: str) -> str:
    """The name of a group's average; '' is the group of all sets."""
    return f"{AVERAGE} {group}" if group else AVERAGE


def labels_digest(images: Sequence[AnyImage], groups: Mapping[str, Sequence[str]]) -> str:
    """What a fingerprint does not know and an evaluation depends on: the classes of its InD images, and the groups."""
    classes = sorted([image.name, image.class_name] for image in images)
    return sha256_bytes(canonical_json([classes, groups]).encode())


NUMBER_DIGITS = 9
"""Decimal labels longer than this are no places of classes; a number may have millions of digits."""


def number_names(images: ImageSet, head: str, info: HeadInfo) -> dict[str, str]:
    """Class numbers of `images` (as list files, .cls members and datasets have them) → the class names that they mean
    for the head called `head`; empty where the numbers are names. A number is a place in ImageNet-1k where the head's
    classes are WordNet ids, else in the head's own classes, sorted.

    The numbers of a set are all places or all class names of the head, which then stay: names for a head whose classes
    are all called by numbers, and in a set that has words too; places for a head without such a class; for one with
    both kinds of classes, whichever all of them can be. Raises UsageError for numbers that can be neither, or both.
    """
    own = [composed(label.class_name) for label in info.ind_labels]
    numbers = [name for name in images.classes if name.isdecimal()]
    words = [name for name in images.classes if not name.isdecimal()]
    is_imagenet = all(IMAGENET_ID.fullmatch(name) for name in own)
    names = [each.class_name for each in listed_classes("imagenet-1k")] if is_imagenet else sorted(own)
    unknown = [number for number in numbers if number not in own]
    beyond = [number for number in numbers if len(number) > NUMBER_DIGITS or int(number) >= len(names)]
    only_names = bool(words) or all(name.isdecimal() for name in own)
    are_names, are_places = not unknown, not (beyond or only_names)
    if are_names and (not are_places or images.kind == "folder" or not numbers):
        return {}
    if are_places and not are_names:
        return {number: names[int(number)] for number in numbers}
    place, hint = printable(str(images.place)), "label all images of the set by class names"
    if are_names:
        problem = f"the numbers {_shown(numbers)} are class names of {head}, and places in its classes as well"
    elif only_names:
        beside = f" beside the words {_shown(words)}" if words else ""
        problem = f"the label {_shown(unknown[:1])}{beside} is no class of {head}"
    else:
        problem = f"the label {_shown(beyond[:1])} is none of {len(names)} classes, which count from 0"
        if len(unknown) < len(numbers):
            problem += f", and {_shown(unknown[:1])} is no class name of {head}"
        hint = "evaluate a head of the classes that the labels number"
    raise UsageError(f"{place}: {problem}", hint=hint)


def _shown(names: Sequence[str]) -> str:
    parts = [printable(name if len(name) <= 2 * NUMBER_DIGITS else f"{name[:NUMBER_DIGITS]}…") for name in names[:3]]
    return ", ".join(parts) + (", …" if len(names) > 3 else "")
