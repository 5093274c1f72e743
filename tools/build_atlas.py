"""Build the sprite sheets of the playground from three unpacked npm packages of emoji pictures.

    python tools/build_atlas.py NOTO TWEMOJI FLUENT src/synood_cli/playground/{concepts.csv,sprites}

NOTO, TWEMOJI and FLUENT are the folders `package` of emoji-datasource-google, emoji-datasource-twitter and
@lobehub/fluent-emoji-3d, as `npm pack` and `tar` leave them. Written are

    sprites.txt                               one emoji's short name a line, in the order of the cells
    noto.webp, twemoji.webp, fluent.webp      that many cells, 16 a row, one sprite each, lossless
    NOTICE                                    origins, versions, licences and counts

Which emoji, the concept table says. A sprite is cropped to what is visible and scaled so that its longer side fills its
cell. The same packages give the same bytes (with the same Pillow). The licence texts beside the sheets (LICENSE-NOTO,
LICENSE-TWEMOJI, LICENSE-FLUENT) are kept by hand.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from PIL import Image

CELL = 48
COLUMNS = 16
VISIBLE_ALPHA = 16

NOTICE = """\
The pictures in this folder are emoji by three teams of artists, {count} in each style, changed by tools/build_atlas.py:
cropped, scaled to {cell} pixels and packed into sheets.

noto.webp     Noto Emoji, copyright Google LLC, https://github.com/googlefonts/noto-emoji
              from {noto}; Apache License 2.0, see LICENSE-NOTO
twemoji.webp  Twemoji graphics, copyright Twitter, Inc and other contributors, https://github.com/jdecked/twemoji
              from {twemoji}; CC BY 4.0, https://creativecommons.org/licenses/by/4.0/,
              see LICENSE-TWEMOJI
fluent.webp   Fluent Emoji, copyright Microsoft Corporation, https://github.com/microsoft/fluentui-emoji
              from {fluent}; MIT licence, see LICENSE-FLUENT
"""


def emoji_of(table: Path) -> list[str]:
    """The short names of the emoji that the concept table uses, each once, in its order."""
    with table.open(encoding="utf-8", newline="") as file:
        return list(dict.fromkeys(emoji for row in csv.DictReader(file) for emoji in row["emoji"].split()))


def code_points(package: Path) -> dict[str, str]:
    """Short name → hyphenated code points of every emoji in an emoji-datasource package."""
    table = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    return {row["short_name"]: row["image"].removesuffix(".png") for row in table}


def find_picture(folder: Path, code: str, suffix: str) -> Path:
    """The picture of an emoji: some packages write the variation selector fe0f into the file's name, some do not."""
    for name in (code, code.replace("-fe0f", ""), f"{code}-fe0f"):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise SystemExit(f"{folder} has no picture of {code}")


def sprite(picture: Path) -> Image.Image:
    """What is visible of a picture, on a transparent cell, its longer side as long as the cell's."""
    with Image.open(picture) as opened:
        image = opened.convert("RGBA")
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha >= VISIBLE_ALPHA)).getbbox()
    if box is None:
        raise SystemExit(f"{picture} shows nothing")
    cropped = image.crop(box)
    scale = CELL / max(cropped.size)
    width, height = (max(1, round(side * scale)) for side in cropped.size)
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(cropped.resize((width, height), Image.Resampling.LANCZOS), ((CELL - width) // 2, (CELL - height) // 2))
    return cell


def sheet(pictures: list[Path]) -> Image.Image:
    """The sprites of `pictures`, row by row."""
    packed = Image.new("RGBA", (COLUMNS * CELL, -(-len(pictures) // COLUMNS) * CELL))
    for index, picture in enumerate(pictures):
        packed.paste(sprite(picture), (index % COLUMNS * CELL, index // COLUMNS * CELL))
    return packed


def version(package: Path) -> str:
    described = json.loads((package / "package.json").read_text(encoding="utf-8"))
    return f"{described['name']} {described['version']}"


def build(noto: Path, twemoji: Path, fluent: Path, table: Path, folder: Path) -> str:
    """Write the sheets, sprites.txt and NOTICE into `folder`; returns the text of NOTICE."""
    names = emoji_of(table)
    codes = code_points(noto)
    unknown = [name for name in names if name not in codes]
    if unknown:
        raise SystemExit(f"{table.name}: no emoji has the short name {unknown[0]!r}")
    sources = {
        "noto": (noto / "img" / "google" / "64", ".png"),
        "twemoji": (twemoji / "img" / "twitter" / "64", ".png"),
        "fluent": (fluent / "assets", ".webp"),
    }
    sheets = {
        style: sheet([find_picture(pictures, codes[name], suffix) for name in names])
        for style, (pictures, suffix) in sources.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    for style, packed in sheets.items():
        packed.save(folder / f"{style}.webp", lossless=True, quality=100, method=6)
    (folder / "sprites.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    notice = NOTICE.format(
        cell=CELL, count=len(names), noto=version(noto), twemoji=version(twemoji), fluent=version(fluent)
    )
    (folder / "NOTICE").write_text(notice, encoding="utf-8")
    return notice


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("noto", type=Path, help="unpacked emoji-datasource-google")
    parser.add_argument("twemoji", type=Path, help="unpacked emoji-datasource-twitter")
    parser.add_argument("fluent", type=Path, help="unpacked @lobehub/fluent-emoji-3d")
    parser.add_argument("table", type=Path, help="concepts.csv")
    parser.add_argument("folder", type=Path, help="folder to write to")
    arguments = parser.parse_args()
    print(build(arguments.noto, arguments.twemoji, arguments.fluent, arguments.table, arguments.folder), end="")


if __name__ == "__main__":
    main()
