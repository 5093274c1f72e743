"""tools/build_atlas.py, run as its users run it on packages of two emoji."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

TOOL = Path(__file__).parents[2] / "tools" / "build_atlas.py"

TABLE = "name,group,emoji,context,backgrounds\nsun,context,sunny sun_face,,\nday,far,sun_face,,\n"
EMOJI = [{"short_name": "sun_face", "image": "1f31e.png"}, {"short_name": "sunny", "image": "2600-fe0f.png"}]
STYLES = {"noto": (255, 0, 0), "twemoji": (0, 255, 0), "fluent": (0, 0, 255)}


def packages(folder: Path) -> list[Path]:
    """Each picture is a bar of one colour on nothing: upright for sunny, lying for sun_face."""
    roots = [folder / "noto", folder / "twemoji", folder / "fluent"]
    places = [roots[0] / "img/google/64", roots[1] / "img/twitter/64", roots[2] / "assets"]
    for root, place, colour in zip(roots, places, STYLES.values(), strict=True):
        place.mkdir(parents=True)
        (root / "package.json").write_text(json.dumps({"name": f"@some/{root.name}", "version": "9.8.7"}))
        suffix = "webp" if root.name == "fluent" else "png"
        # Fluent's files carry no variation selector.
        for name, size in (("2600" if suffix == "webp" else "2600-fe0f", (12, 48)), ("1f31e", (48, 24))):
            picture = Image.new("RGBA", (64, 64))
            picture.paste((*colour, 255), (3, 5, 3 + size[0], 5 + size[1]))
            picture.save(place / f"{name}.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    (roots[0] / "emoji.json").write_text(json.dumps(EMOJI))
    (folder / "concepts.csv").write_text(TABLE)
    return [*roots, folder / "concepts.csv"]


def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True, check=False)


def test_sprites_are_cropped_scaled_and_laid_out_in_table_order(tmp_path: Path) -> None:
    result = run(*packages(tmp_path), tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/sprites.txt").read_text() == "sunny\nsun_face\n"
    for style, colour in STYLES.items():
        with Image.open(tmp_path / f"out/{style}.webp") as sheet:
            assert (sheet.size, sheet.mode) == ((16 * 48, 48), "RGBA")
            first, second = sheet.crop((0, 0, 48, 48)), sheet.crop((48, 0, 96, 48))
        assert first.getbbox() == (18, 0, 30, 48)
        assert second.getbbox() == (0, 12, 48, 36)
        assert first.getpixel((24, 24)) == second.getpixel((24, 24)) == (*colour, 255)


def test_the_notice_tells_origins_and_licences(tmp_path: Path) -> None:
    result = run(*packages(tmp_path), tmp_path / "out")
    assert result.stdout == (tmp_path / "out/NOTICE").read_text()
    assert "2 in each style" in result.stdout
    for words in ("@some/noto 9.8.7; Apache", "@some/twemoji 9.8.7; CC BY 4.0", "@some/fluent 9.8.7; MIT"):
        assert words in result.stdout


def test_the_same_packages_give_the_same_bytes(tmp_path: Path) -> None:
    arguments = packages(tmp_path)
    for name in ("first", "second"):
        assert run(*arguments, tmp_path / name).returncode == 0
    written = sorted((tmp_path / "first").iterdir())
    assert len(written) == 5
    for file in written:
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


def test_what_is_missing_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    arguments = packages(tmp_path)
    (tmp_path / "fluent/assets/1f31e.webp").unlink()
    result = run(*arguments, tmp_path / "out")
    assert result.returncode == 1
    assert "has no picture of 1f31e" in result.stderr
    (tmp_path / "concepts.csv").write_text(TABLE.replace("sunny", "moony"))
    assert "no emoji has the short name 'moony'" in run(*arguments, tmp_path / "out").stderr
    assert not (tmp_path / "out").exists()
