"""Fields and colours that backgrounds and textures are painted with. A field is (SIZE, SIZE); a painting is
(SIZE, SIZE, 3) with values around 0 to 255, not yet clipped; a colour is (3,). All are of floating point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 64
"""Side of every image of the world, in pixels."""

Field = NDArray[np.floating[Any]]
Painting = NDArray[np.floating[Any]]
Colour = NDArray[np.floating[Any]]
RGB = tuple[int, int, int]

_steps = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
ACROSS: Field = np.tile(_steps, (SIZE, 1))
"""0 at the left edge, 1 at the right."""
DOWN: Field = np.ascontiguousarray(ACROSS.T)
"""0 at the top edge, 1 at the bottom."""


def noise(random: np.random.Generator, columns: int | np.integer[Any], rows: int | None = None) -> Field:
    """Smooth noise about 0, most of it in [-1, 1], of `columns` × `rows` blobs (as many rows as columns if unsaid)."""
    coarse = random.uniform(-1.2, 1.2, (rows or columns, columns)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def near_colour(random: np.random.Generator, colour: RGB, spread: float = 16.0) -> Colour:
    """A colour like `colour`: each channel moves by up to `spread`."""
    return np.asarray(colour, dtype=np.float32) + random.uniform(-spread, spread, 3).astype(np.float32)


def any_colour(random: np.random.Generator) -> Colour:
    return random.uniform(15, 240, 3).astype(np.float32)


def blend(low: Colour | Painting, high: Colour | Painting, amount: Field) -> Painting:
    """low + (high - low) · amount, pixel by pixel; `low` and `high` are colours or paintings."""
    painted: Painting = low + (high - low) * amount[..., None]
    return painted
