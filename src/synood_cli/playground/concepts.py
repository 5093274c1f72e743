"""What there is in the miniature world, by name: main objects, context elements, textures."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple, cast

from synood_cli.playground.backgrounds import BACKGROUNDS
from synood_cli.playground.textures import TEXTURES

Group = Literal["ind", "near", "context", "far", "texture"]

PATTERN = " pattern"
TILED = ("tulip", "star", "leaf", "seashell")
"""Context things that also tile textures, named "tulip pattern" and so on."""


class Concept(NamedTuple):
    """A kind of thing. `emoji` are the short names of its pictures; `context` the elements and `backgrounds` the
    surroundings that it prefers, empty when any will do. A texture has no pictures: it fills the image."""

    name: str
    group: Group
    emoji: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()


@cache
def all_concepts() -> dict[str, Concept]:
    """Every concept by name: in-distribution animals, other animals (near), context things, far things, textures."""
    lines = (files("synood_cli.playground") / "concepts.csv").read_text(encoding="utf-8").splitlines()
    drawn = [
        Concept(
            row["name"],
            cast(Group, row["group"]),
            tuple(row["emoji"].split()),
            tuple(row["context"].split(";")) if row["context"] else (),
            tuple(row["backgrounds"].split(";")) if row["backgrounds"] else (),
        )
        for row in csv.DictReader(lines)
    ]
    textures = [Concept(name, "texture") for name in (*TEXTURES, *(f"{thing}{PATTERN}" for thing in TILED))]
    return {concept.name: concept for concept in (*drawn, *textures)}


def vocabulary() -> list[str]:
    """The names of what can surround a main object: context things, then backgrounds."""
    return [concept.name for concept in all_concepts().values() if concept.group == "context"] + list(BACKGROUNDS)


def ordinary_nouns() -> list[str]:
    """Nouns that name nothing in this world, as most words of a real candidate list name nothing in an image."""
    return (files("synood_cli.playground") / "nouns.txt").read_text(encoding="utf-8").split()
