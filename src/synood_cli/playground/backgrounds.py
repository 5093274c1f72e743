"""Backgrounds, painted by chance: each kind has a name that captions can say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synood_cli.playground.canvas import ACROSS, DOWN, RGB, SIZE, Field, Painting, blend, near_colour, noise

Random = np.random.Generator


def _gradient(random: Random, top: RGB, bottom: RGB) -> Painting:
    return blend(near_colour(random, top), near_colour(random, bottom), DOWN)


def _rough(random: Random, colour: RGB, strength: float, columns: int, rows: int | None = None) -> Painting:
    """A ground of one colour, darker and lighter in blobs and grains."""
    grain = random.uniform(-0.5, 0.5, (SIZE, SIZE)).astype(np.float32)
    shade = noise(random, columns, rows) + 0.8 * grain + 0.7 * noise(random, 4)
    painted: Painting = near_colour(random, colour) + strength * shade[..., None]
    return painted


def _horizon(random: Random, above: Painting, below: Painting, lowest: float = 0.7) -> Painting:
    line = random.uniform(0.35, lowest) + 0.05 * noise(random, 3, 1)
    painted: Painting = np.where((line > DOWN)[..., None], above, below)
    return painted


def _sky(random: Random) -> Painting:
    clear = _gradient(random, (70, 140, 220), (180, 215, 240))
    clouds = np.clip(noise(random, 4, 6) + random.uniform(-0.6, 0.2), 0, 1)
    return blend(clear, np.full(3, 250.0), clouds)


def _night_sky(random: Random) -> Painting:
    painted = _gradient(random, (10, 12, 40), (50, 40, 90))
    stars = random.integers(0, SIZE, (random.integers(10, 40), 2))
    painted[stars[:, 0], stars[:, 1]] = random.uniform(150, 255, (len(stars), 1))
    return painted


def _sunset(random: Random) -> Painting:
    glow = _gradient(random, (120, 60, 130), (255, 150, 60))
    return _horizon(random, glow, _rough(random, (60, 35, 50), 12, 6), lowest=0.85)


def _meadow(random: Random) -> Painting:
    return _horizon(random, _sky(random), _rough(random, (110, 170, 60), 20, 8))


def _lawn(random: Random) -> Painting:
    return _rough(random, (80, 150, 55), 22, 32, 10)


def _forest(random: Random) -> Painting:
    trunks = np.clip(3 * noise(random, random.integers(8, 16), 1) - 0.6, 0, 1)
    leaves = _rough(random, (40, 85, 40), 24, 10)
    return blend(leaves, near_colour(random, (75, 50, 30)), np.where(random.uniform(0, 0.3) < DOWN, trunks, 0))


def _desert(random: Random) -> Painting:
    dunes = np.sin(2 * np.pi * (random.uniform(2, 4) * DOWN + 0.6 * noise(random, 3, 2)))
    sand = _rough(random, (225, 180, 110), 8, 12) + 14 * dunes[..., None]
    return _horizon(random, _gradient(random, (130, 180, 225), (235, 220, 190)), sand.astype(np.float32), lowest=0.5)


def _beach(random: Random) -> Painting:
    return _horizon(random, _sea(random), _rough(random, (235, 210, 160), 14, 16), lowest=0.5)


def _snow(random: Random) -> Painting:
    ground = _rough(random, (230, 235, 245), 10, 6)
    return _horizon(random, _gradient(random, (150, 170, 200), (210, 220, 230)), ground)


def _waves(random: Random, frequency: float) -> Field:
    lines: Field = np.sin(2 * np.pi * (frequency * DOWN + 0.5 * noise(random, 5, 8)))
    return lines


def _sea(random: Random) -> Painting:
    water = _gradient(random, (70, 150, 205), (20, 80, 150))
    painted: Painting = water + 18 * _waves(random, random.uniform(5, 9))[..., None]
    return painted


def _underwater(random: Random) -> Painting:
    water = _gradient(random, (40, 160, 180), (5, 40, 90))
    slant = random.uniform(-0.5, 0.5)
    rays = np.clip(np.sin(random.uniform(12, 25) * (ACROSS + slant * DOWN) + 2 * noise(random, 3, 1)), 0, 1)
    painted: Painting = water + 35 * (rays * (1 - DOWN))[..., None]
    return painted


def _mountains(random: Random) -> Painting:
    painted = _gradient(random, (120, 170, 220), (225, 230, 235))
    for base, colour in ((0.35, (140, 150, 175)), (0.55, (95, 110, 120)), (0.8, (70, 105, 65))):
        ridge = base + 0.18 * noise(random, random.integers(4, 8), 1)
        painted = np.where((ridge < DOWN)[..., None], _rough(random, colour, 8, 8), painted)
    return painted


def _cave(random: Random) -> Painting:
    walls = _rough(random, (85, 75, 75), 28, 7)
    deep = np.hypot(ACROSS - random.uniform(0.3, 0.7), DOWN - random.uniform(0.3, 0.7))
    return blend(np.zeros(3), walls, np.clip(0.25 + 1.5 * deep, 0, 1))


def _brick_wall(random: Random) -> Painting:
    rows = random.integers(6, 11)
    row = np.floor(DOWN * rows)
    column = ACROSS * rows / 2 + 0.5 * (row % 2) + random.uniform()
    mortar = ((DOWN * rows % 1 < 0.14) | (column % 1 < 0.07)).astype(np.float32)
    shades = random.uniform(-22, 22, (12, 12)).astype(np.float32)[row.astype(int) % 12, column.astype(int) % 12]
    bricks = _rough(random, (165, 80, 60), 8, 16) + shades[..., None]
    return blend(bricks, near_colour(random, (190, 180, 170)), mortar)


def _wooden_floor(random: Random) -> Painting:
    planks = random.integers(4, 8)
    row = np.floor(DOWN * planks)
    grain = noise(random, 3, 40)
    shades = random.uniform(-18, 18, 8).astype(np.float32)[row.astype(int)]
    gap = (DOWN * planks % 1 < 0.08).astype(np.float32)
    wood: Painting = near_colour(random, (170, 115, 65)) + (14 * grain + shades)[..., None]
    return blend(wood, near_colour(random, (70, 45, 25)), gap)


def _tiled_wall(random: Random) -> Painting:
    tiles = random.integers(4, 9)
    gap = ((DOWN * tiles % 1 < 0.1) | (ACROSS * tiles % 1 < 0.1)).astype(np.float32)
    glaze = _rough(random, (175, 215, 220), 6, 5)
    return blend(glaze, near_colour(random, (240, 240, 235)), gap)


def _curtain(random: Random) -> Painting:
    folds = np.sin(2 * np.pi * (random.uniform(4, 8) * ACROSS + 0.25 * noise(random, 3, 2)))
    cloth: Painting = near_colour(random, (170, 60, 80), 60) + 28 * folds[..., None]
    return cloth


def _carpet(random: Random) -> Painting:
    pattern = np.sign(np.sin(40 * ACROSS) * np.sin(40 * DOWN))
    painted: Painting = _rough(random, (150, 90, 110), 14, 32) + 10 * pattern[..., None]
    return painted


BACKGROUNDS: dict[str, Callable[[Random], Painting]] = {
    "sky": _sky,
    "night sky": _night_sky,
    "sunset": _sunset,
    "meadow": _meadow,
    "lawn": _lawn,
    "forest": _forest,
    "desert": _desert,
    "beach": _beach,
    "snow": _snow,
    "sea": _sea,
    "underwater": _underwater,
    "mountains": _mountains,
    "cave": _cave,
    "brick wall": _brick_wall,
    "wooden floor": _wooden_floor,
    "tiled wall": _tiled_wall,
    "curtain": _curtain,
    "carpet": _carpet,
}
"""Name → painter."""
