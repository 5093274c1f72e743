"""What one scene holds, and how it is drawn: background, things, light and the faults of a camera."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from synood_cli.playground.backgrounds import BACKGROUNDS
from synood_cli.playground.canvas import SIZE, Painting, any_colour
from synood_cli.playground.concepts import PATTERN, all_concepts
from synood_cli.playground.sprites import CELL, STYLES, small_sprite, sprite
from synood_cli.playground.textures import TEXTURES, paint_texture

BLURRED, COMPRESSED, GREY = 0.3, 0.4, 0.05
"""Shares of the scenes that are out of focus, compressed by JPEG, and without colour."""

Matrix = NDArray[np.floating[Any]]

_TO_YIQ: Matrix = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ: Matrix = np.linalg.inv(_TO_YIQ)


class Placement(NamedTuple):
    """One thing in a scene. `side` is the longer side of its upright bounding box as drawn, (`x`, `y`) the box's
    centre, in pixels; `angle` degrees counter-clockwise; `hue` radians; `saturation` and `brightness` factors."""

    concept: str
    emoji: str
    style: str
    side: int
    x: float
    y: float
    angle: float
    flip: bool
    hue: float
    saturation: float
    brightness: float


@dataclass(frozen=True)
class Scene:
    """What is to be seen, from back to front: background, things behind, main object, things in front.

    `key` seeds what happens by chance: with 0 appended the composition, with 1 the background's painting, with 2 the
    camera. So a scene without its main object keeps the rest. Of a texture, `background` is its name and there are no
    things.
    """

    key: tuple[int, ...]
    background: str
    behind: tuple[Placement, ...] = ()
    main_object: Placement | None = None
    in_front: tuple[Placement, ...] = ()

    @property
    def main(self) -> str | None:
        """The name of the main object, if there is one."""
        return self.main_object.concept if self.main_object else None

    @property
    def elements(self) -> list[str]:
        """The names of the context elements, each once, from back to front."""
        return [placement.concept for placement in (*self.behind, *self.in_front)]

    @property
    def image(self) -> Image.Image:
        """The scene, drawn anew: SIZE × SIZE, RGB. The same scene gives the same pixels."""
        return draw(self)

    def caption(self) -> str:
        """A sentence that names the main object, every context element and the background."""
        things = ([f"{_article(self.main)} {self.main}"] if self.main else []) + self.elements
        if not things:
            return f"a photo of {self.background}"
        *first, last = things
        return f"a photo of {', '.join(first)}{' and ' if first else ''}{last}, {self.background} behind"

    def without_main(self) -> Scene:
        """The same scene, its main object gone."""
        return replace(self, main_object=None)


def draw(scene: Scene) -> Image.Image:
    """The scene as an RGB image of SIZE × SIZE pixels."""
    canvas = _to_image(_paint_background(scene))
    for placement in (*scene.behind, scene.main_object, *scene.in_front):
        if placement is not None:
            picture, mask = cut_out(placement)
            corner = round(placement.x - picture.width / 2), round(placement.y - picture.height / 2)
            canvas.paste(picture, corner, mask)
    return _photograph(canvas, np.random.default_rng((*scene.key, 2)))


def cut_out(placement: Placement) -> tuple[Image.Image, Image.Image]:
    """The thing as it is drawn (RGB), and how opaque it is (L). Both have the size of its bounding box."""
    source = small_sprite if placement.side <= CELL // 2 else sprite
    picture = source(placement.style, placement.emoji)
    if placement.flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned = picture.rotate(placement.angle, Image.Resampling.BILINEAR, expand=True)
    turned = turned.crop(turned.getbbox())
    scale = placement.side / max(turned.size)
    width, height = (max(1, round(side * scale)) for side in turned.size)
    small = turned.resize((width, height), Image.Resampling.BILINEAR).convert("RGBA")
    colours = placement.brightness * _recolour(placement.hue, placement.saturation)
    return small.convert("RGB").convert("RGB", _pillow_matrix(colours, np.zeros(3))), small.getchannel("A")


def _paint_background(scene: Scene) -> Painting:
    random = np.random.default_rng((*scene.key, 1))
    if scene.background in BACKGROUNDS:
        return BACKGROUNDS[scene.background](random)
    if scene.background in TEXTURES:
        return paint_texture(random, scene.background)
    return _tile(random, scene.background.removesuffix(PATTERN))


def _tile(random: np.random.Generator, thing: str) -> Painting:
    """Rows of the same picture on one colour, every other row shifted by half a step."""
    emoji, style = random.choice(all_concepts()[thing].emoji), random.choice(STYLES)
    step, side = int(random.integers(13, 23)), random.uniform(0.7, 1.0)
    colours = (random.uniform(-np.pi, np.pi), random.uniform(0.5, 1.2), random.uniform(0.7, 1.1))
    tile = Placement(thing, emoji, style, round(side * step), 0, 0, random.uniform(-180, 180), False, *colours)
    picture, mask = cut_out(tile)
    canvas = _to_image(np.broadcast_to(any_colour(random), (SIZE, SIZE, 3)))
    start = random.integers(-step, 0, 2)
    for row, top in enumerate(range(start[1], SIZE, step)):
        for left in range(start[0] - row % 2 * (step // 2), SIZE, step):
            canvas.paste(picture, (left, top), mask)
    return np.asarray(canvas, dtype=np.float32)


def _recolour(hue: float, saturation: float) -> Matrix:
    """The 3 × 3 matrix on RGB that turns the hue by an angle (radians) and scales the saturation, in YIQ."""
    turn = saturation * np.exp(1j * hue)
    chroma = np.array([[1, 0, 0], [0, turn.real, -turn.imag], [0, turn.imag, turn.real]])
    matrix: Matrix = _FROM_YIQ @ chroma @ _TO_YIQ
    return matrix


def _pillow_matrix(matrix: Matrix, offset: Matrix) -> tuple[float, ...]:
    return tuple(np.column_stack([matrix, offset]).ravel().tolist())


def _photograph(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Light, focus, grain and compression by chance."""
    grey = random.uniform() < GREY
    contrast, tint = random.uniform(0.65, 1.15), random.normal(random.uniform(0.75, 1.15), 0.06, 3)
    light = contrast * tint[:, None] * _recolour(0.0, 0.0 if grey else random.uniform(0.5, 1.2))
    image = image.convert("RGB", _pillow_matrix(light, 120 * (1 - contrast) * tint))
    if random.uniform() < BLURRED:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 0.9)))
    grain = random.standard_normal((SIZE, SIZE, 3), dtype=np.float32) * np.float32(random.uniform(0, 10))
    image = _to_image(np.asarray(image, dtype=np.float32) + grain)
    if random.uniform() < COMPRESSED:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(random.integers(35, 90)))
        image = Image.open(file).convert("RGB")
    return image


def _to_image(painting: Painting) -> Image.Image:
    return Image.fromarray(np.clip(painting, 0, 255).astype(np.uint8))


def _article(name: str | None) -> str:
    return "an" if name and name[0] in "aeiou" else "a"
