"""Decoded pixels of any mode become 8-bit RGB on white, without copies of the whole that are not needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImagePalette
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    II,
    MM,
    OPEN_INFO,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    TiffImageFile,
)

from synood_cli.errors import ItemError

_STRIP_PIXELS = 1 << 20
_WHITE_IS_ZERO = 0
_SIGNED = 2
_SEPARATE_PLANES = 2


# Deep grey that Pillow decodes, but not in each order of bytes and for each meaning of 0: GreyLevels tells the meaning.
for _interpretation in (0, 1):
    for _order in (II, MM):
        OPEN_INFO.setdefault((_order, _interpretation, (1,), 1, (12,), ()), ("I;16", "I;12"))
    OPEN_INFO.setdefault((MM, _interpretation, (1,), 1, (16,), ()), ("I;16B", "I;16B"))


class GreyLevels(NamedTuple):
    """What the numbers of deep grey mean: `white`, the largest, and whether it is black instead (TIFF's MinIsWhite)."""

    white: int = 65535
    inverted: bool = False


def grey_levels(image: Image.Image) -> GreyLevels:
    """The levels of a deep grey `image`, from the tags of a TIFF; of any other file, 16 bits. Raises ItemError for a
    TIFF of signed numbers of up to 16 bits, which have no fixed black, and for one whose planes Pillow mixes up."""
    if not isinstance(image, TiffImageFile):
        return GreyLevels()
    bits = image.tag_v2.get(BITSPERSAMPLE, (16,))[0]
    if bits <= 16 and _SIGNED in image.tag_v2.get(SAMPLEFORMAT, ()):
        raise ItemError(f"signed {bits}-bit TIFF has no fixed black; convert the picture to unsigned 8 or 16 bits")
    if has_separate_planes(image) and (image.mode in ("LA", "PA", "LAB") or (bits > 8 and not image.use_load_libtiff)):
        raise ItemError(f"TIFF of {bits} bits ({image.mode}) in separate planes; save the picture as PNG")
    if not image.mode.startswith("I;16"):
        return GreyLevels()
    return GreyLevels(2**bits - 1, image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO)


def has_separate_planes(image: Image.Image) -> bool:
    """Whether `image` is a TIFF with one plane a colour, instead of the colours of each pixel together."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(PLANAR_CONFIGURATION) == _SEPARATE_PLANES


def narrow_palette(image: Image.Image) -> ImagePalette.ImagePalette | None:
    """The colours of a TIFF whose colour map counts to 255 instead of 65,535, as some programs write it; Pillow makes
    them black."""
    if not isinstance(image, TiffImageFile) or image.mode not in ("P", "PA"):
        return None
    colours = image.tag_v2[COLORMAP]
    return ImagePalette.raw("RGB;L", bytes(colours)) if max(colours) < 256 else None


def to_rgb(image: Image.Image, levels: GreyLevels) -> Image.Image:
    """`image` as RGB: itself where it is that already. Transparency is laid on white. Raises ItemError for 32-bit
    greyscale."""
    if image.mode.startswith("I;16"):
        return _deep_grey_to_rgb(image, levels)
    if image.mode in ("I", "F"):
        kind = "whole numbers" if image.mode == "I" else "fractions"
        raise ItemError(f"32-bit greyscale ({kind}) has no fixed white; convert the picture to 8 or 16 bits")
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    made = Image.new("RGB", image.size)
    for box in _strips(image):
        strip = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        made.paste(Image.alpha_composite(white, strip).convert("RGB"), box)
    return made


def _deep_grey_to_rgb(image: Image.Image, levels: GreyLevels) -> Image.Image:
    # 0…white → 0…255, rounded to the nearest; what lies above white, which a file may hold all the same, is white.
    numbers = np.minimum(np.arange(65536, dtype=np.uint64), levels.white)
    if levels.inverted:
        numbers = levels.white - numbers
    table = ((numbers * 255 + levels.white // 2) // levels.white).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int) and 0 <= transparent < 65536:
        table[transparent] = 255
    made = Image.new("RGB", image.size)
    for box in _strips(image):
        grey = np.asarray(image.crop(box)).astype(np.uint16, copy=False)
        made.paste(Image.fromarray(table[grey]), box)
    return made


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of whole rows, of about _STRIP_PIXELS; of a picture that is wider, of parts of its rows."""
    width = min(image.width, _STRIP_PIXELS)
    height = max(1, _STRIP_PIXELS // width)
    for top in range(0, image.height, height):
        for left in range(0, image.width, width):
            yield left, top, min(left + width, image.width), min(top + height, image.height)
