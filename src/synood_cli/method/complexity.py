"""Which images of a class are worth describing: the most complex ones (Sec. 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

from synood_cli.errors import ItemError


def complexity(bytes: int, width: int, height: int) -> float:
    """c(x) = bytes / (width · height) (Sec. 3.4): bytes of the image's JPEG file per pixel.

    Positive; compares only files of one codec and quality. Raises ItemError for an image without pixels.
    """
    if width <= 0 or height <= 0:
        raise ItemError(f"an image of {width} x {height} pixels has no complexity")
    return bytes / (width * height)


def top_complex(items: Sequence[tuple[str, float]], per_class: int) -> list[tuple[str, float]]:
    """The `per_class` items (key, c) of one class with the largest c, descending (Sec. 3.4); all if there are fewer.

    Equal complexities are ordered by key, so that the order in which a folder is read changes nothing.

    *Deviation:* the public release sorts the ratios as strings, where "9e-2" beats "1.2"; these are sorted as numbers.
    """
    return sorted(items, key=lambda item: (-item[1], item[0]))[: max(per_class, 0)]
