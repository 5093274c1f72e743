"""A folder with every kind of image file that goes wrong, or only looks as if it did."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from PIL import Image

OK = "ok"

PASSES_BY_HEADER = "truncated.jpg"
"""The one bad file whose header is whole: only decoding finds it out."""


def photograph(width: int = 48, height: int = 32) -> Image.Image:
    """A picture with some detail: red grows to the right, green downwards, blue in a checkerboard."""
    image = Image.new("RGB", (width, height))
    image.putdata(
        [
            (255 * x // max(1, width - 1), 255 * y // max(1, height - 1), 255 * ((x // 4 + y // 4) % 2))
            for y in range(height)
            for x in range(width)
        ]
    )
    return image


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of under 100 bytes whose header claims width × height pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0")) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bad_image_folder(root: Path) -> dict[str, str]:
    """Write all kinds into `root` (made if need be). Returns, by name relative to `root`, OK or a part of the reason
    for which the file cannot be used. Scanning reports the links that lead nowhere, reading reports the rest."""
    root.mkdir(parents=True, exist_ok=True)
    photo = photograph()
    photo.save(root / "plain.jpg", quality=90)
    jpeg = (root / "plain.jpg").read_bytes()

    photo.save(root / "png_inside.jpg", "PNG")
    photo.convert("CMYK").save(root / "cmyk.jpg")
    Image.frombytes("I;16", (2, 1), struct.pack("<2H", 0, 40_000)).save(root / "sixteen_bit.png")
    photo.quantize(16).save(root / "palette.png", transparency=0)
    photo.save(root / "animated.gif", save_all=True, append_images=[photo.rotate(180)])
    photo.convert("LA").save(root / "grey_alpha.png")
    Image.new("RGB", (1, 1), "red").save(root / "one_pixel.png")
    Image.new("RGB", (20_000, 20), "green").save(root / "long.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(root / "rotated.jpg", exif=exif)
    (root / "link.jpg").symlink_to("plain.jpg")
    expected = dict.fromkeys((entry.name for entry in root.iterdir()), OK)

    odd_names = [
        "with space.jpg",
        "quote ' and \".jpg",
        "new\nline.jpg",
        "shark 🦈.jpg",
        os.fsdecode(b"\xff.jpg"),
        "-n.jpg",
    ]
    for name in odd_names:
        (root / name).write_bytes(jpeg)
        expected[name] = OK

    (root / PASSES_BY_HEADER).write_bytes(jpeg[: len(jpeg) // 2])
    (root / "truncated.png").write_bytes((root / "png_inside.jpg").read_bytes()[:20])
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.jpg").write_text("this is no picture\n")
    (root / "bomb.png").write_bytes(png_claiming(60_000, 60_000))
    Image.new("F", (4, 4), 0.5).save(root / "fractions.tif")
    os.mkfifo(root / "pipe.jpg")
    (root / "broken_link.jpg").symlink_to("nowhere.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    return expected | {
        PASSES_BY_HEADER: "truncated",
        "truncated.png": "truncated",
        "empty.jpg": "empty (zero bytes)",
        "text.jpg": "not a picture",
        "bomb.png": "more than 178,956,970 pixels",
        "fractions.tif": "32-bit greyscale",
        "pipe.jpg": "is not a regular file",
        "broken_link.jpg": "broken symbolic link",
        "loop.jpg": "symbolic link loop",
    }
