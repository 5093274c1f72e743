"""Textures without any object, painted by chance: the farthest kind of OOD images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from synood_cli.playground.canvas import ACROSS, DOWN, Field, Painting, any_colour, blend, noise


class Plane(NamedTuple):
    """Coordinates (u, v) of every pixel, of which patterns repeat about every unit, and a source of chance."""

    random: np.random.Generator
    u: Field
    v: Field


def paint_texture(random: np.random.Generator, name: str) -> Painting:
    """The texture `name` in two colours by chance, turned, scaled and slightly bent."""
    angle, frequency = random.uniform(0, np.pi), random.uniform(4, 9)
    x, y = ACROSS - 0.5 + 0.03 * noise(random, 4), DOWN - 0.5 + 0.03 * noise(random, 4)
    u = frequency * (np.cos(angle) * x + np.sin(angle) * y) + random.uniform(0, 1)
    v = frequency * (np.cos(angle) * y - np.sin(angle) * x) + random.uniform(0, 1)
    amount = np.clip(TEXTURES[name](Plane(random, u, v)), 0, 1)
    first, second = any_colour(random), any_colour(random)
    while np.abs(first - second).sum() < 120:
        second = any_colour(random)
    return blend(first, second, amount) + 12 * noise(random, 6)[..., None]


def _wave(t: Field) -> Field:
    """A soft square wave of period 1, in [0, 1]."""
    wave: Field = np.clip(0.5 + 1.5 * np.sin(2 * np.pi * t), 0, 1)
    return wave


def _triangle(t: Field) -> Field:
    triangle: Field = 2 * np.abs(t % 1 - 0.5)
    return triangle


def _to_nearest(on: Plane) -> tuple[Field, Field, Field]:
    """Distances to the nearest and the second nearest of scattered points, and the nearest point's random shade."""
    points = on.random.uniform((on.u.min(), on.v.min()), (on.u.max(), on.v.max()), (28, 2)).astype(np.float32)
    distances = np.hypot(on.u[..., None] - points[:, 0], on.v[..., None] - points[:, 1])
    order = np.partition(distances, 1, axis=-1)
    shades = on.random.uniform(0, 1, len(points)).astype(np.float32)[distances.argmin(axis=-1)]
    return order[..., 0], order[..., 1], shades


def _mosaic(on: Plane) -> Field:
    return _to_nearest(on)[2]


def _cracks(on: Plane) -> Field:
    nearest, second, _ = _to_nearest(on)
    return 4 * (second - nearest)


def _honeycomb(on: Plane) -> Field:
    height = np.float32(np.sqrt(3))  # of two rows of hexagons one unit wide
    x, y = on.u - np.round(on.u), on.v - height * np.round(on.v / height)
    other_x, other_y = on.u - np.floor(on.u) - 0.5, on.v - height * (np.floor(on.v / height) + 0.5)
    nearer = np.hypot(x, y) < np.hypot(other_x, other_y)
    x, y = np.abs(np.where(nearer, x, other_x)), np.abs(np.where(nearer, y, other_y))
    walls: Field = 8 * (0.48 - np.maximum(x, 0.5 * x + 0.5 * height * y))
    return walls


def _scales(on: Plane) -> Field:
    across = (on.u + 0.5 * (np.floor(2 * on.v) % 2)) % 1 - 0.5
    scales: Field = 5 * (1.05 - np.hypot(2 * across, 2 * on.v % 1))
    return scales


def _checkerboard(on: Plane) -> Field:
    board: Field = ((np.floor(on.u) + np.floor(on.v)) % 2).astype(np.float32)
    return board


def _weave(on: Plane) -> Field:
    over = (np.floor(on.u) + np.floor(on.v)) % 2 == 0
    threads: Field = np.where(over, np.sin(np.pi * (on.u % 1)), 0.8 * np.sin(np.pi * (on.v % 1)))
    return threads


def _spiral(on: Plane) -> Field:
    u, v = on.u - on.u.mean(), on.v - on.v.mean()
    return _wave(np.hypot(u, v) + np.arctan2(v, u) / (2 * np.pi))


TEXTURES: dict[str, Callable[[Plane], Field]] = {
    "stripes": lambda on: _wave(on.u),
    "zigzag": lambda on: _wave(on.v + 0.6 * _triangle(on.u)),
    "ripples": lambda on: _wave(on.v + 0.25 * np.sin(2 * np.pi * on.u)),
    "checkerboard": _checkerboard,
    "plaid": lambda on: 0.5 * _wave(on.u) + 0.35 * _wave(on.v) + 0.15 * _wave(3 * on.u),
    "polka dots": lambda on: np.clip(8 * (0.34 - np.hypot(on.u % 1 - 0.5, on.v % 1 - 0.5)), 0, 1),
    "lattice": lambda on: np.clip(6 * (0.2 - np.minimum(on.u % 1, on.v % 1)), 0, 1),
    "honeycomb": _honeycomb,
    "scales": _scales,
    "weave": _weave,
    "rings": lambda on: _wave(np.hypot(on.u - on.u.mean(), on.v - on.v.mean())),
    "spiral": _spiral,
    "marble": lambda on: 0.5 + 0.5 * np.sin(4 * on.u + 5 * noise(on.random, 4) + 2 * noise(on.random, 9)),
    "wood grain": lambda on: _triangle(0.35 * on.u + 0.7 * noise(on.random, 3)),
    "mosaic": _mosaic,
    "cracks": _cracks,
}
"""Name → pattern: the share of the second colour at coordinates (u, v), clipped to [0, 1]."""
