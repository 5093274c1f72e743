from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from PIL.Image import Image as Picture

from bad_images import photograph
from synood_cli.data.encoding import Encoding, describe_encoding, encode
from synood_cli.data.images import read_image
from synood_cli.errors import ItemError


def saved(path: Path, image: Picture, format: str = "JPEG", **options: object) -> Path:
    image.save(path, format, **options)
    return path


def opened(content: bytes) -> Picture:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize("quality", [1, 5, 10, 24, 25, 49, 50, 51, 75, 85, 90, 95, 96, 99, 100])
def test_the_quality_of_a_jpeg_is_estimated_exactly(tmp_path: Path, quality: int) -> None:
    assert describe_encoding(saved(tmp_path / "a", photograph(), quality=quality)).quality == quality


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [30, 75, 92])
def test_a_jpeg_is_written_with_its_sources_tables_and_subsampling(
    tmp_path: Path, quality: int, subsampling: str
) -> None:
    path = saved(tmp_path / "a", photograph(), quality=quality, subsampling=subsampling)
    encoding = describe_encoding(path)
    assert (encoding.format, encoding.source_format, encoding.extension) == ("JPEG", "JPEG", ".jpg")
    assert encoding.subsampling == subsampling

    again = opened(encode(photograph(64, 64), encoding))
    source = opened(path.read_bytes())
    assert isinstance(again, JpegImagePlugin.JpegImageFile)
    assert isinstance(source, JpegImagePlugin.JpegImageFile)
    assert [again.quantization[channel[3]] for channel in again.layer] == [
        source.quantization[channel[3]] for channel in source.layer
    ]
    assert JpegImagePlugin.get_sampling(again) == JpegImagePlugin.get_sampling(source)


def test_writing_the_same_picture_gives_the_sources_own_bytes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a", photograph(), quality=61, subsampling="4:2:2")
    assert encode(photograph(), describe_encoding(path)) == path.read_bytes()


def test_tables_that_are_no_ijg_quality_are_kept(tmp_path: Path) -> None:
    luminance, chrominance = [16 + i for i in range(64)], [99] * 64
    path = saved(tmp_path / "a", photograph(), qtables=[luminance, chrominance])
    encoding = describe_encoding(path)
    assert encoding.tables == (tuple(luminance), tuple(chrominance), tuple(chrominance))
    assert describe_encoding_of(encode(photograph(), encoding), tmp_path).tables == encoding.tables


def describe_encoding_of(content: bytes, folder: Path) -> Encoding:
    path = folder / "again"
    path.write_bytes(content)
    return describe_encoding(path)


def test_three_different_tables_stay_with_their_channels(tmp_path: Path) -> None:
    tables = [[9] * 64, [9] * 64, [30] * 64]
    path = saved(tmp_path / "a", photograph(), qtables=tables)
    encoding = describe_encoding(path)
    assert encoding.tables == tuple(tuple(table) for table in tables)
    assert encode(photograph(), encoding) == path.read_bytes()


def test_a_grey_jpeg_lends_its_table_to_all_channels(tmp_path: Path) -> None:
    encoding = describe_encoding(saved(tmp_path / "a", photograph().convert("L"), quality=40))
    assert encoding.quality == 40
    assert len(set(encoding.tables)) == 1
    assert encoding.subsampling == "4:2:0"
    again = describe_encoding_of(encode(photograph(), encoding), tmp_path)
    assert again.tables == encoding.tables
    assert opened(encode(photograph(), encoding)).mode == "RGB"


def test_a_cmyk_jpeg_is_written_as_rgb_with_its_tables(tmp_path: Path) -> None:
    path = saved(tmp_path / "a", photograph().convert("CMYK"), quality=80)
    encoding = describe_encoding(path)
    assert encoding.quality == 80
    assert encoding.subsampling == "4:2:0"
    content = encode(read_image(path), encoding)
    assert opened(content).mode == "RGB"
    assert describe_encoding_of(content, tmp_path).tables == encoding.tables


def test_several_jpegs_in_one_file_count_as_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a"
    photograph().save(path, "MPO", save_all=True, append_images=[photograph()], quality=70)
    encoding = describe_encoding(path)
    assert (encoding.format, encoding.source_format, encoding.quality) == ("JPEG", "MPO", 70)


@pytest.mark.parametrize(
    ("source", "written", "extension"),
    [("PNG", "PNG", ".png"), ("BMP", "BMP", ".bmp"), ("GIF", "PNG", ".png"), ("TIFF", "PNG", ".png")],
)
def test_lossless_formats_keep_every_pixel(tmp_path: Path, source: str, written: str, extension: str) -> None:
    encoding = describe_encoding(saved(tmp_path / "a", photograph(), source))
    assert encoding == Encoding(format=written, source_format=source)
    assert encoding.extension == extension
    again = opened(encode(photograph(), encoding))
    assert again.format == written
    assert again.tobytes() == photograph().tobytes()


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("animated", [True, False])
def test_webp_stays_lossless_or_lossy(tmp_path: Path, lossless: bool, animated: bool) -> None:
    frames = {"save_all": True, "append_images": [photograph().rotate(180)]} if animated else {}
    # With a colour profile the file becomes an extended one, whose first chunk says nothing about losses.
    path = saved(tmp_path / "a", photograph(), "WEBP", lossless=lossless, icc_profile=b"profile", **frames)
    encoding = describe_encoding(path)
    assert encoding == Encoding(format="WEBP", source_format="WEBP", lossless=lossless)
    assert encoding.extension == ".webp"
    again = opened(encode(photograph(), encoding))
    assert again.format == "WEBP"
    assert (again.convert("RGB").tobytes() == photograph().tobytes()) == lossless


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_bytes_depend_on_the_pixels_alone(tmp_path: Path, format: str) -> None:
    encoding = describe_encoding(saved(tmp_path / "a", photograph(), format))
    burdened = photograph()
    burdened.info = {"comment": b"hello", "icc_profile": b"profile", "exif": b"Exif\0\0", "dpi": (7, 7), "gamma": 0.4}
    content = encode(burdened, encoding)
    assert content == encode(photograph(), encoding)
    assert burdened.info["comment"] == b"hello"
    assert b"hello" not in content
    assert b"profile" not in content


def test_the_losses_are_those_of_the_source(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    errors = []
    for quality in (20, 60, 95):
        encoding = describe_encoding(saved(tmp_path / "a", photograph(), quality=quality))
        difference = np.asarray(opened(encode(noise, encoding)), np.float64) - np.asarray(noise)
        reference = np.asarray(opened(saved(tmp_path / "b", noise, quality=quality).read_bytes()), np.float64)
        errors.append(np.sqrt((difference**2).mean()))
        assert errors[-1] == pytest.approx(np.sqrt(((reference - np.asarray(noise)) ** 2).mean()), rel=1e-9)
    assert errors[0] > errors[1] > errors[2]


def test_an_encoding_survives_json_and_its_summary_leaves_the_tables_out(tmp_path: Path) -> None:
    encoding = describe_encoding(saved(tmp_path / "a", photograph(), quality=88, subsampling="4:4:4"))
    assert Encoding.model_validate_json(encoding.model_dump_json()) == encoding
    assert encoding.summary() == {
        "format": "JPEG",
        "source_format": "JPEG",
        "quality": 88,
        "subsampling": "4:4:4",
        "lossless": False,
    }


def test_only_rgb_is_written_and_only_pictures_are_described(tmp_path: Path) -> None:
    encoding = Encoding(format="PNG", source_format="PNG")
    with pytest.raises(ValueError, match="takes an RGB picture, not L"):
        encode(photograph().convert("L"), encoding)
    (tmp_path / "a").write_bytes(b"nothing")
    with pytest.raises(ItemError, match="not a picture"):
        describe_encoding(tmp_path / "a")
