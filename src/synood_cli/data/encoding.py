"""How an image file is encoded, so that another picture can be written in the same way.

A detector trained on JPEG photographs against losslessly written synthetic images learns compression artefacts; so
each synthetic image takes the format and the quality class of the photograph that it was made from.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, JpegImagePlugin

from synood_cli.data.images import opened_image
from synood_cli.records import Place, Record

Format = Literal["JPEG", "PNG", "WEBP", "BMP"]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]

_EXTENSIONS: dict[Format, str] = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}
_SUBSAMPLINGS: dict[int, Subsampling] = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
_WEBP_LOSSLESS_CHUNK = b"VP8L"

# fmt: off
_LUMINANCE = np.array([
    16, 11, 10, 16,  24,  40,  51,  61,
    12, 12, 14, 19,  26,  58,  60,  55,
    14, 13, 16, 24,  40,  57,  69,  56,
    14, 17, 22, 29,  51,  87,  80,  62,
    18, 22, 37, 56,  68, 109, 103,  77,
    24, 35, 55, 64,  81, 104, 113,  92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103,  99,
])
# fmt: on
"""The luminance table of the JPEG standard (ITU-T T.81, Table K.1), row by row; the IJG's quality 50."""


class Encoding(Record):
    """A file format with what decides its losses.

    `format` is what is written; `source_format` is what was found: the two differ for formats that are written as
    PNG (GIF, TIFF). `quality` is the IJG quality (1-100) nearest to the luminance table, None where there is none.
    `tables` are the quantisation tables of Y, Cb and Cr (64 numbers each, row by row). `lossless` is WebP's.
    """

    format: Format
    source_format: str
    quality: int | None = None
    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: Subsampling | None = None
    lossless: bool = False

    @property
    def extension(self) -> str:
        """The file name's ending, with its dot."""
        return _EXTENSIONS[self.format]

    def summary(self) -> dict[str, str | int | None]:
        """What a database row keeps: everything but the tables."""
        return self.model_dump(exclude={"tables"})


def describe_encoding(place: Place) -> Encoding:
    """How the picture at `place` is encoded, from its header: no pixel is decoded.

    JPEG keeps its own quantisation tables and chroma subsampling. A greyscale source has one table, which then serves
    all three channels; of CMYK the tables of the first three channels are taken. Where the subsampling is none of
    the three that can be written (or there is none: greyscale, CMYK), it is 4:2:0. A lossy WebP does not tell its
    quality: it is written at the encoder's own default. What cannot be written as it was becomes PNG.

    Raises ItemError as read_image does.
    """
    with opened_image(place) as (image, _):
        found = image.format or ""
        if isinstance(image, JpegImagePlugin.JpegImageFile):  # MPO, several JPEGs in one file, is one of these too
            tables = _channel_tables(image)
            return Encoding(
                format="JPEG",
                source_format=found,
                quality=ijg_quality(tables[0]) if tables else None,
                tables=tables,
                subsampling=_SUBSAMPLINGS.get(JpegImagePlugin.get_sampling(image), "4:2:0"),
            )
    if found == "WEBP":
        return Encoding(format="WEBP", source_format=found, lossless=_webp_is_lossless(place))
    if found == "BMP":
        return Encoding(format="BMP", source_format=found)
    return Encoding(format="PNG", source_format=found)


def encode(image: Image.Image, encoding: Encoding) -> bytes:
    """The bytes of an image file with the pixels of `image` (mode RGB), written as `encoding` says.

    No metadata is written, so the bytes depend on the pixels, the encoding and the codec's version alone.
    Raises ValueError for another mode.
    """
    if image.mode != "RGB":
        raise ValueError(f"encode takes an RGB picture, not {image.mode}")
    options: dict[str, Any] = {}
    if encoding.format == "JPEG":
        options["subsampling"] = encoding.subsampling
        if encoding.tables:
            luma, blue, red = encoding.tables
            # the last table given serves the channels that are left
            options["qtables"] = [list(table) for table in ((luma, blue) if blue == red else (luma, blue, red))]
    elif encoding.format == "WEBP":
        options["lossless"] = encoding.lossless
    plain = image.copy()
    plain.info = {}  # writers copy comments and colour profiles from here
    written = io.BytesIO()
    plain.save(written, encoding.format, **options)
    return written.getvalue()


def ijg_quality(table: tuple[int, ...]) -> int:
    """The q in 1…100 whose IJG luminance table ⌊(K·s + 50)/100⌋, clipped to 1…255, is nearest (L1) to `table`.

    s = 5000/q below 50 and 200 - 2q from there on; K is Table K.1 of the JPEG standard.
    """
    qualities = np.arange(1, 101)
    scales = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    tables = np.clip((_LUMINANCE * scales[:, None] + 50) // 100, 1, 255)
    return int(qualities[np.abs(tables - np.array(table)).sum(axis=1).argmin()])


def _channel_tables(image: JpegImagePlugin.JpegImageFile) -> tuple[tuple[int, ...], ...]:
    used = [image.quantization.get(channel[3]) for channel in image.layer[:3]]
    tables = [tuple(table) for table in used if table]
    if len(tables) < len(used) or not tables:
        return ()
    return tuple(tables) if len(tables) == 3 else (tables[0],) * 3


def _webp_is_lossless(place: Place) -> bool:
    """Whether the first bitstream chunk of the RIFF container at `place` is a lossless one."""
    with place.open("rb") if isinstance(place, Path) else io.BytesIO(place.read()) as file:
        file.seek(12)  # "RIFF", size, "WEBP"
        while len(header := file.read(8)) == 8:
            name, size = header[:4], int.from_bytes(header[4:], "little")
            if name in (b"VP8 ", _WEBP_LOSSLESS_CHUNK):
                return name == _WEBP_LOSSLESS_CHUNK
            if name == b"ANMF":
                file.seek(16, io.SEEK_CUR)  # the frame's chunks follow its position, size and duration
            else:
                file.seek(size + size % 2, io.SEEK_CUR)
    return False
