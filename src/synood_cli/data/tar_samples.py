"""Which members of a tar shard belong together, and which of them is the picture (WebDataset's convention)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from synood_cli.data.endings import not_read, taken_for

LABELS = ("cls", "json")
"""Endings of the members that say the class."""

COMPANIONS = frozenset(
    {
        *("alpha", "annotation", "bbox", "canny", "depth", "disparity", "edge", "edges", "flow", "instance"),
        *("instances", "label", "labels", "mask", "masks", "matte", "normal", "normals", "panoptic", "pose"),
        *("seg", "segm", "segmentation", "semantic", "sketch", "thumb", "thumbnail", "trimap"),
    }
)
"""What stands before the ending of pictures that belong to another one: `.mask.png`, `.seg.png`."""

_SHOWN = 4


class Sample(NamedTuple):
    """One picture, by the name of its member, and the members that say its class, by ending."""

    image: str
    labels: dict[str, str]


@dataclass
class Samples:
    """What the members of a shard are: `samples` in the order of their pictures, `problems` (name, reason), and
    `strays`, which are neither pictures nor captions nor labels of pictures."""

    samples: list[Sample] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)


def tar_samples(names: Iterable[str]) -> Samples:
    """The samples among members of these `names`; hidden ones (a leading dot) are left out.

    Members whose names are the same up to the first dot are one sample, and a sample has one picture: the member that
    has nothing but a picture's ending behind that dot. Others (`.mask.png`) are its companions, which are strays. Two
    such members are a problem that names them.

    Where there is none, the names themselves hold dots: members that are the same up to their *last* dot are a sample
    then, COMPANIONS apart, with the label of that name, else that of the whole group. Several pictures that would have
    to share one label are a problem too.
    """
    groups: dict[str, dict[str, str]] = {}  # by key, then by what follows it: "jpg", "mask.png"
    for name in names:
        folder, _, base = name.rpartition("/")
        if not base.startswith("."):
            key, _, ending = base.partition(".")
            groups.setdefault(f"{folder}/{key}", {})[ending] = name
    found = Samples()
    for group in groups.values():
        _sort(group, found)
    return found


def _sort(members: dict[str, str], found: Samples) -> None:
    pictures = {ending: name for ending, name in members.items() if _is_picture(ending)}
    labels = {ending.lower(): name for ending, name in members.items() if ending.lower() in LABELS}
    plain = {ending: name for ending, name in pictures.items() if "." not in ending}
    used: set[str] = set()
    if len(plain) > 1:
        found.problems.append(_several(list(plain.values()), "each is a picture of the same sample"))
        used = {*plain.values(), *labels.values()}
    elif plain:
        [image] = plain.values()
        found.samples.append(Sample(image, labels))
        used = {image, *labels.values()}
    else:
        own = {ending: name for ending, name in pictures.items() if not _is_companion(ending)}
        samples = [_dotted(ending, name, members) for ending, name in own.items()]
        if len(samples) > 1 and labels and not all(sample.labels for sample in samples):
            found.problems.append(_several(list(own.values()), "one label stands beside several pictures"))
            used = {*own.values(), *labels.values()}
        else:
            found.samples += [Sample(sample.image, sample.labels or labels) for sample in samples]
            used = {*own.values(), *(name for sample in samples for name in sample.labels.values())}
            used |= set(labels.values()) if samples else set()
    unread = [name for ending, name in members.items() if "." not in ending and taken_for(name) == "unreadable"]
    found.problems += [(name, not_read(name)) for name in unread]
    used |= set(unread)
    captions = {name for ending, name in members.items() if ending.lower().rpartition(".")[2] == "txt"}
    found.strays += [name for name in members.values() if name not in used | captions]


def _dotted(ending: str, name: str, members: dict[str, str]) -> Sample:
    stem = ending.rpartition(".")[0]
    return Sample(name, {label: members[f"{stem}.{label}"] for label in LABELS if f"{stem}.{label}" in members})


def _is_picture(ending: str) -> bool:
    return taken_for(f"x.{ending}") == "image"


def _is_companion(ending: str) -> bool:
    return ending.lower().split(".")[-2] in COMPANIONS


def _several(names: list[str], why: str) -> tuple[str, str]:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    shown = ", ".join(name.rpartition("/")[2] for name in names[:_SHOWN])
    return names[0], f"{why}: {shown}{more}"
