"""The pictures of things: sprites by three artists' teams, in sheets that come with the package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from PIL import Image

CELL = 48
"""Side of a sheet's cells, in pixels: the longer side of every sprite."""

STYLES = ("noto", "twemoji", "fluent")

_COLUMNS = 16


@cache
def sprite(style: str, emoji: str) -> Image.Image:
    """The picture of `emoji` (a short name) in `style`, without empty margins, its longer side CELL pixels.

    Mode RGBa (colours multiplied by alpha), which needs no conversion to be turned and scaled. Not to be changed.
    """
    column, row = _cells()[emoji]
    left, top = column * CELL, row * CELL
    cell = _sheet(style).crop((left, top, left + CELL, top + CELL))
    return cell.crop(cell.getbbox())


@cache
def small_sprite(style: str, emoji: str) -> Image.Image:
    """The same picture at half the size: quicker to draw small things from, and smoother."""
    return sprite(style, emoji).reduce(2)


def _folder() -> Traversable:
    return files("synood_cli.playground") / "sprites"


@cache
def _cells() -> dict[str, tuple[int, int]]:
    names = (_folder() / "sprites.txt").read_text(encoding="utf-8").split()
    return {name: (index % _COLUMNS, index // _COLUMNS) for index, name in enumerate(names)}


@cache
def _sheet(style: str) -> Image.Image:
    with (_folder() / f"{style}.webp").open("rb") as file, Image.open(file) as sheet:
        return sheet.convert("RGBA").convert("RGBa")
