from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from bad_images import OK, PASSES_BY_HEADER, bad_image_folder, photograph, png_chunk, png_claiming
from synood_cli.data.images import MAX_PIXELS, ImageHeader, complexity_bytes, image_header, read_image
from synood_cli.errors import ItemError


def pixels(path: Path) -> list[list[list[int]]]:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image).tolist()


def test_every_kind_of_file_is_read_or_refused_with_its_reason_and_without_its_path(tmp_path: Path) -> None:
    expected = bad_image_folder(tmp_path)
    for name, part in expected.items():
        if part == OK:
            assert read_image(tmp_path / name).mode == "RGB"
            continue
        with pytest.raises(ItemError) as caught:
            read_image(tmp_path / name)
        assert part in caught.value.message
        assert "\n" not in caught.value.message
        assert str(tmp_path) not in caught.value.message


def test_the_header_refuses_the_same_files_but_for_broken_pixels(tmp_path: Path) -> None:
    expected = bad_image_folder(tmp_path)
    refused = set()
    for name in expected:
        try:
            image_header(tmp_path / name)
        except ItemError:
            refused.add(name)
    bad = {name for name, part in expected.items() if part != OK}
    assert bad - refused == {PASSES_BY_HEADER, "fractions.tif"}
    assert refused <= bad


def test_lossless_files_keep_their_pixels_whatever_they_are_called(tmp_path: Path) -> None:
    photo = photograph()
    for number, format in enumerate(("PNG", "BMP", "TIFF")):
        path = tmp_path / f"{number}.jpg"
        photo.save(path, format)
        assert pixels(path) == np.asarray(photo).tolist()
        assert image_header(path).format == format


def test_header_of_a_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(48, 32).convert("L").save(path, exif=exif)
    assert image_header(path) == ImageHeader(48, 32, "JPEG", path.stat().st_size, "L")


def test_sixteen_bit_grey_is_scaled_and_rounded_not_clipped(tmp_path: Path) -> None:
    values = [0, 128, 129, 385, 386, 32_768, 65_406, 65_407, 65_535]
    # 257 steps of 16 bits are one of 8 bits: 128/257 = 0.498, 129/257 = 0.502, 385/257 = 1.498, 386/257 = 1.502, …
    expected = [0, 0, 1, 1, 2, 128, 254, 255, 255]
    for format, order, mode in (("PNG", "<", "I;16"), ("TIFF", "<", "I;16"), ("TIFF", ">", "I;16B")):
        path = tmp_path / f"{mode.replace(';', '')}.{format.lower()}"
        packed = struct.pack(f"{order}{len(values)}H", *values)
        Image.frombytes(mode, (len(values), 1), packed).save(path, format)
        assert pixels(path) == [[[v, v, v] for v in expected]]


def test_transparent_sixteen_bit_grey_becomes_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    header = struct.pack(">IIBBBBB", 2, 1, 16, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" + struct.pack(">2H", 257, 514))
    chunks = [(b"IHDR", header), (b"tRNS", struct.pack(">H", 257)), (b"IDAT", rows), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, content) for name, content in chunks))
    assert pixels(path) == [[[255] * 3, [2] * 3]]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (3, 1))
    rgba.putdata([(255, 0, 0, 255), (0, 0, 0, 51), (9, 9, 9, 0)])
    rgba.save(tmp_path / "rgba.png")
    assert pixels(tmp_path / "rgba.png") == [[[255, 0, 0], [204, 204, 204], [255, 255, 255]]]

    grey = Image.new("LA", (2, 1))
    grey.putdata([(100, 255), (100, 0)])
    grey.save(tmp_path / "la.png")
    assert pixels(tmp_path / "la.png") == [[[100] * 3, [255] * 3]]

    keyed = Image.new("RGB", (2, 1))
    keyed.putdata([(1, 2, 3), (4, 5, 6)])
    keyed.save(tmp_path / "keyed.png", transparency=(1, 2, 3))
    assert pixels(tmp_path / "keyed.png") == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize(("transparency", "first"), [(0, [255, 255, 255]), (bytes([51, 255]), [204, 204, 204])])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes, first: list[int]) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putdata([0, 1])
    image.save(tmp_path / "p.png", transparency=transparency)
    assert pixels(tmp_path / "p.png") == [[first, [10, 20, 30]]]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"a.{format.lower()}"
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if format == "WEBP" else {}
    frames[0].save(path, format, save_all=True, append_images=frames[1:], **options)
    assert pixels(path) == np.full((4, 4, 3), [255, 0, 0]).tolist()


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    image = Image.new("CMYK", (2, 1))
    image.putdata([(0, 0, 0, 0), (255, 0, 0, 0)])
    image.save(path)
    assert pixels(path) == [[[255, 255, 255], [0, 255, 255]]]
    image.resize((16, 16), Image.Resampling.NEAREST).save(tmp_path / "a.jpg", quality=100)
    assert pixels(tmp_path / "a.jpg")[0][0] == pytest.approx([255, 255, 255], abs=3)
    assert pixels(tmp_path / "a.jpg")[0][15] == pytest.approx([0, 255, 255], abs=3)


# Where the stored corner (red, top left) of a 2 × 1 picture red-blue comes to lie, as rows.
R, B = [255, 0, 0], [0, 0, 255]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        *((1, [[R, B]]), (2, [[B, R]]), (3, [[B, R]]), (4, [[R, B]])),
        *((5, [[R], [B]]), (6, [[R], [B]]), (7, [[B], [R]]), (8, [[B], [R]])),
        (9, [[R, B]]),
    ],
)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_exif_orientation(tmp_path: Path, orientation: int, upright: list[list[list[int]]], format: str) -> None:
    path = tmp_path / f"a.{format}"
    stored = Image.new("RGB", (2, 1))
    stored.putdata([tuple(R), tuple(B)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, format, exif=exif)
    assert pixels(path) == upright


def test_exif_rotates_a_jpeg_and_sixteen_bit_grey(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    halves = Image.new("RGB", (32, 16), "red")
    halves.paste("blue", (16, 0, 32, 16))
    halves.save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = read_image(tmp_path / "a.jpg")
    assert upright.size == (16, 32)
    assert upright.getpixel((8, 2)) == pytest.approx((255, 0, 0), abs=4)
    assert upright.getpixel((8, 29)) == pytest.approx((0, 0, 255), abs=4)

    Image.frombytes("I;16", (2, 1), struct.pack("<2H", 257, 514)).save(tmp_path / "a.png", exif=exif)
    assert pixels(tmp_path / "a.png") == [[[1] * 3], [[2] * 3]]


def test_malformed_exif_leaves_the_picture_as_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    photo = photograph()
    photo.save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\x07" * 40)
    photo.save(tmp_path / "plain.jpg")
    assert pixels(path) == pixels(tmp_path / "plain.jpg")


def test_large_pictures_are_refused_before_decoding_and_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    side = int(MAX_PIXELS**0.5)
    assert side**2 <= MAX_PIXELS < (side + 1) ** 2
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path.write_bytes(png_claiming(side, side))  # Pillow warns from half as many pixels on
        assert image_header(path)[:2] == (side, side)
        path.write_bytes(png_claiming(side + 1, side + 1))
        for read in (read_image, image_header):
            with pytest.raises(ItemError, match=r"more than 178,956,970 pixels: too large to decode"):
                read(path)
    assert caught == []


def test_the_limit_does_not_depend_on_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "a.png").write_bytes(png_claiming(60_000, 60_000))
    with pytest.raises(ItemError, match="178,956,970 pixels"):
        read_image(tmp_path / "a.png")


def test_files_cut_anywhere_are_items_that_fail_not_crashes(tmp_path: Path) -> None:
    photo = photograph()
    for format in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
        whole = io.BytesIO()
        photo.save(whole, format)
        content = whole.getvalue()
        path = tmp_path / f"a.{format.lower()}"
        for length in (1, 8, len(content) // 4, len(content) // 2, len(content) * 3 // 4):
            path.write_bytes(content[:length])
            with pytest.raises(ItemError, match=r"not a picture|truncated|cannot be decoded"):
                read_image(path)


def test_folders_missing_files_and_other_formats(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(ItemError, match=r"^is a folder, not a file$"):
        read_image(tmp_path / "folder.jpg")
    with pytest.raises(ItemError, match=r"^no such file or folder$"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(ItemError, match=r"^file name too long$"):
        read_image(tmp_path / ("a" * 300 + ".jpg"))
    photograph().save(tmp_path / "a.ppm")
    formats = r"^not a picture that can be read \(JPEG, PNG, WEBP, BMP, GIF, TIFF(, AVIF)?\)"
    with pytest.raises(ItemError, match=formats):
        read_image(tmp_path / "a.ppm")
    Image.new("I", (2, 2), 70_000).save(tmp_path / "int.tif")
    with pytest.raises(ItemError, match=r"32-bit greyscale \(whole numbers\)"):
        read_image(tmp_path / "int.tif")


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    photograph().save(path)
    path.chmod(0)
    if os.geteuid() == 0:  # permissions do not stop root
        assert read_image(path).size == (48, 32)
    else:
        with pytest.raises(ItemError, match=r"^permission denied$"):
            read_image(path)


def test_complexity_of_a_jpeg_is_its_file_size_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    photograph().save(path, "JPEG", quality=30)
    assert complexity_bytes(path, image_header(path)) == (path.stat().st_size, "file")


def test_complexity_of_other_formats_is_that_of_a_jpeg_of_quality_95(tmp_path: Path) -> None:
    photo = photograph()
    photo.save(tmp_path / "reference.jpg", quality=95)
    for format in ("PNG", "BMP", "TIFF"):
        path = tmp_path / f"a.{format}"
        photo.save(path, format)
        size = (tmp_path / "reference.jpg").stat().st_size
        assert complexity_bytes(path, image_header(path)) == (size, "jpeg95")


def test_complexity_ranks_detail_above_emptiness(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "flat.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    flat, noisy = (complexity_bytes(p, image_header(p))[0] for p in (tmp_path / "flat.png", tmp_path / "noise.png"))
    assert noisy > 4 * flat


def test_complexity_of_a_side_that_jpeg_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (65_501, 1)).save(path)
    with pytest.raises(ItemError, match=r"65501 × 1 pixels: a side is at most 65,500 pixels in JPEG"):
        complexity_bytes(path, image_header(path))
    Image.new("RGB", (65_500, 1)).save(path)
    assert complexity_bytes(path, image_header(path))[1] == "jpeg95"


def test_many_threads_read_quietly_and_alike(tmp_path: Path) -> None:
    photograph().save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(png_claiming(60_000, 60_000))
    (tmp_path / "large.png").write_bytes(png_claiming(12_000, 12_000))
    filters = list(warnings.filters)
    sizes: list[tuple[int, int]] = []

    def work() -> None:
        for _ in range(20):
            with pytest.raises(ItemError):
                read_image(tmp_path / "bad.png")
            sizes.append(image_header(tmp_path / "large.png")[:2])
            sizes.append(read_image(tmp_path / "a.png").size)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sizes) == [(48, 32)] * 160 + [(12_000, 12_000)] * 160
    assert warnings.filters == filters


def test_truncated_files_are_not_silently_filled(tmp_path: Path) -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    whole = io.BytesIO()
    photograph(256, 256).save(whole, "JPEG")
    (tmp_path / "a.jpg").write_bytes(whole.getvalue()[:-200])
    with pytest.raises(ItemError, match=r"^the file is truncated: part of the picture is missing$"):
        read_image(tmp_path / "a.jpg")


def test_importing_the_data_folder_imports_no_torch() -> None:
    modules = ["images", "encoding", "folders", "captions_file", "wordnet", "vocabulary"]
    imports = "; ".join(f"import synood_cli.data.{module}" for module in modules)
    subprocess.run([sys.executable, "-c", f"{imports}; import sys; sys.exit('torch' in sys.modules)"], check=True)
