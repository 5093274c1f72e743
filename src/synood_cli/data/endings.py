"""What a file in a folder or an archive is taken for, by the ending of its name. The content decides later."""

from __future__ import annotations

import os
from typing import Literal

from PIL import features

EXTENSIONS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo"),
        *(".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
        *((".avif",) if features.check("avif") else ()),
    }
)
"""Endings (in any case) that are taken for images."""

COMMON = ".bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp"
"""Those that messages name."""

UNREADABLE = (
    frozenset(
        {
            *(".avif", ".avifs", ".heic", ".heif", ".heics", ".heifs", ".hif", ".jxl", ".jxr", ".wdp", ".hdp", ".bpg"),
            *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jpm", ".jph", ".ico", ".icns", ".cur", ".psd", ".psb"),
            *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf", ".pef"),
            *(".srw", ".x3f", ".3fr", ".erf", ".kdc", ".dcr", ".mrw", ".iiq", ".tga", ".pcx", ".dib", ".dds", ".qoi"),
            *(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".exr", ".hdr", ".svg", ".svgz", ".eps", ".xcf", ".dcm"),
        }
    )
    - EXTENSIONS
)
"""Endings of pictures in formats that are not read: a failure, so that nobody takes them for looked at."""


def ending_of(name: str) -> str:
    """What `name` ends in from its last dot on, in lower case; '' without."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  (a Path costs 10 µs)


def taken_for(name: str) -> Literal["image", "unreadable", "other"]:
    """What a file of this `name` is taken for."""
    ending = ending_of(name)
    return "image" if ending in EXTENSIONS else "unreadable" if ending in UNREADABLE else "other"


def not_read(name: str) -> str:
    """Why a picture of this `name`, whose ending is UNREADABLE, is a failure."""
    return f"pictures in the format {ending_of(name)} are not read; convert it to JPEG or PNG"
