"""Pictures inside a page: small copies as data URLs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from synood_cli.data.images import decoded_picture
from synood_cli.errors import ItemError

SIDE = 256
"""Longest side of a small copy, in pixels."""

QUALITY = 88


class Picture(NamedTuple):
    """A small copy as a data URL, or why there is none."""

    url: Markup | None
    problem: str = ""


def thumbnail(path: Path) -> Picture:
    """The picture at `path`, upright, with sides of at most SIDE pixels (never enlarged), as JPEG."""
    encoded = io.BytesIO()
    try:
        with decoded_picture(path) as picture:
            picture.image.thumbnail((SIDE, SIDE))
            picture.image.save(encoded, "JPEG", quality=QUALITY, subsampling=0)
    except ItemError as error:
        return Picture(None, error.message)
    text = base64.b64encode(encoded.getvalue()).decode("ascii")
    return Picture(Markup(f"data:image/jpeg;base64,{text}"))
