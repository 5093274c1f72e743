"""The miniature world: every scene is a function of (seed, split, concept, index)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from synood_cli.errors import UsageError
from synood_cli.playground.backgrounds import BACKGROUNDS
from synood_cli.playground.canvas import SIZE
from synood_cli.playground.concepts import Concept, Group, all_concepts
from synood_cli.playground.scenes import Placement, Scene
from synood_cli.playground.sprites import STYLES, sprite

Places = NDArray[np.float64]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

MAIN_SIDE = (30, 48)
"""Shortest and longest main object: its longer side in pixels, of SIZE."""
ELEMENT_SIDE = (12, 22)
"""The same of context elements."""
ELEMENTS = (2, 4)
"""Fewest and most context elements of a scene."""
PREFERRED = 0.7
"""Probability that an element, and a background, is drawn from the main object's preferred ones."""
OCCLUDED = 0.3
"""Probability that one element stands at the rim of the main object and hides part of it."""

_TRIES = 8
"""Places that are tried for an element; where it overlaps least, it goes."""
_HIDDEN = 0.35
"""An element of which the main object would hide more than this share stands in front of it."""


class Batch(NamedTuple):
    """`pixels` uint8 (N, SIZE, SIZE, 3), RGB, and the scenes they show."""

    pixels: NDArray[np.uint8]
    scenes: list[Scene]


class World:
    """Scenes of one world; another seed gives another world of the same kind.

    A scene is a main object among context elements before a background. In-distribution and near concepts stand
    mostly among the elements and before the backgrounds that they prefer, as pandas stand among bamboo; context and
    far concepts stand anywhere. The splits differ in their seeds alone, so they are disjoint and of one distribution.
    The same world is the same everywhere to the pixel as long as numpy and Pillow are of the same versions.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.concepts = all_concepts()
        self._context = self.names("context")

    def names(self, group: Group) -> list[str]:
        """The names of a group's concepts, in the order of the concept table."""
        return [concept.name for concept in self.concepts.values() if concept.group == group]

    def scene(self, split: Split, concept: str, index: int) -> Scene:
        """Scene number `index` of `concept` in `split`. Raises UsageError for an unknown concept.

        Of a texture concept the scene is the texture, without any object.
        """
        if concept not in self.concepts:
            raise UsageError(f"there is no concept named {concept!r} in the playground")
        # By the name's checksum, not its place: a concept more in the table leaves the others' scenes as they are.
        key = (self.seed, SPLITS.index(split), zlib.crc32(concept.encode()), index)
        if self.concepts[concept].group == "texture":
            return Scene(key, background=concept)
        return self._compose(key, self.concepts[concept])

    def batch(self, split: Split, items: Iterable[tuple[str, int]]) -> Batch:
        """The scenes of (concept, index) pairs, drawn."""
        scenes = [self.scene(split, concept, index) for concept, index in items]
        pixels = np.empty((len(scenes), SIZE, SIZE, 3), dtype=np.uint8)
        for row, scene in zip(pixels, scenes, strict=True):
            row[...] = np.asarray(scene.image)
        return Batch(pixels, scenes)

    def _compose(self, key: tuple[int, ...], concept: Concept) -> Scene:
        random = np.random.default_rng((*key, 0))
        background = self._prefer(random, concept.backgrounds, list(BACKGROUNDS), set())
        side = int(random.integers(*MAIN_SIDE, endpoint=True))
        x, y = random.uniform(0.4 * side, SIZE - 0.4 * side, 2)
        main = self._place(random, concept, side, x, y, hue=0.2)
        behind: list[Placement] = []
        in_front: list[Placement] = []
        taken = {concept.name}
        occluder = random.uniform() < OCCLUDED
        for _ in range(random.integers(*ELEMENTS, endpoint=True)):
            element = self.concepts[self._prefer(random, concept.context, self._context, taken)]
            taken.add(element.name)
            side = int(random.integers(*ELEMENT_SIDE, endpoint=True))
            if occluder:
                occluder = False
                angle, distance = random.uniform(0, 2 * np.pi), 0.4 * main.side
                x, y = main.x + distance * np.cos(angle), main.y + distance * np.sin(angle)
                x, y = np.clip((x, y), 0.4 * side, SIZE - 0.4 * side)
                hidden = 1.0
            else:
                x, y, hidden = _free_place(random, side, main, [*behind, *in_front])
            placement = self._place(random, element, side, x, y, hue=0.3)
            (in_front if hidden > _HIDDEN else behind).append(placement)
        return Scene(key, background, tuple(behind), main, tuple(in_front))

    def _prefer(
        self, random: np.random.Generator, preferred: Sequence[str], others: Sequence[str], taken: set[str]
    ) -> str:
        """A name that is not taken: with probability PREFERRED a preferred one, if there is one left."""
        names = [name for name in preferred if name not in taken]
        if not names or random.uniform() >= PREFERRED:
            names = [name for name in others if name not in taken]
        return names[random.integers(len(names))]

    def _place(
        self, random: np.random.Generator, concept: Concept, side: int, x: float, y: float, *, hue: float
    ) -> Placement:
        return Placement(
            concept.name,
            emoji=concept.emoji[random.integers(len(concept.emoji))],
            style=STYLES[random.integers(len(STYLES))],
            side=side,
            x=float(x),
            y=float(y),
            angle=float(np.clip(random.normal(0, 14), -35, 35)),
            flip=bool(random.integers(2)),
            hue=float(random.normal(0, hue)),
            saturation=float(random.uniform(0.6, 1.2)),
            brightness=float(random.uniform(0.75, 1.15)),
        )


def _free_place(
    random: np.random.Generator, side: int, main: Placement, others: Sequence[Placement]
) -> tuple[float, float, float]:
    """Of a few random places the one where a square of `side` overlaps least, (x, y), and the share of it that the
    main object covers. Overlapping another element weighs more, for that cannot be mended by standing in front."""
    x, y = random.uniform(0.4 * side, SIZE - 0.4 * side, (2, _TRIES))
    hidden = _overlap(side, x, y, main)
    crowded = sum((_overlap(side, x, y, other) for other in others), np.zeros(_TRIES))
    best = (hidden + 3 * crowded).argmin()
    return float(x[best]), float(y[best]), float(hidden[best])


def _overlap(side: int, x: Places, y: Places, other: Placement) -> Places:
    """The shares of squares centred at (x, y) that the other thing's box covers."""
    width, height = sprite(other.style, other.emoji).size
    scale = other.side / max(width, height)
    across = (side + width * scale) / 2 - np.abs(x - other.x)
    down = (side + height * scale) / 2 - np.abs(y - other.y)
    return np.clip(across, 0, side) * np.clip(down, 0, side) / side**2
