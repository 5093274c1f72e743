"""What is odd about a picture's file and not about its pixels, and the boundary around what others made."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from bad_images import photograph, png_chunk
from synood_cli.data.access import open_regular
from synood_cli.data.images import (
    MAX_PREPARED_BYTES,
    NOT_PREPARED,
    TOO_THIN,
    as_upright_rgb,
    decoded_picture,
    image_header,
    prepared,
    read_image,
    read_picture,
)
from synood_cli.data.pixel_memory import Budget
from synood_cli.errors import ItemError, ModelError
from synood_cli.regular_file import read_regular

PNG = b"\x89PNG\r\n\x1a\n"


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    made = io.BytesIO()
    image.save(made, format, **options)
    return made.getvalue()


def damaged(chunk: bytes) -> bytes:
    """The chunk with a wrong checksum."""
    return chunk[:-4] + bytes(byte ^ 0xFF for byte in chunk[-4:])


BOMB = zlib.compress(bytes(80_000_000))
TEXT = png_chunk(b"tEXt", b"Comment\0" + b"x" * 1_000_000)
HARMLESS = {
    "profile with a bad checksum": damaged(png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"profile"))),
    "profile that is a bomb": png_chunk(b"iCCP", b"icc\0\0" + BOMB),
    "profile that is none": png_chunk(b"iCCP", b""),
    "text with a bad checksum": damaged(png_chunk(b"tEXt", b"Comment\0text")),
    "text that is a bomb": png_chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB),
    "international text that is a bomb": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "international text that is cut": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1"),
    "text that is not compressed as it says": png_chunk(b"zTXt", b"Comment\0\7nothing"),
    "more text than Pillow takes": TEXT * 70,
    "EXIF with a bad checksum": damaged(png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0")),
    "EXIF that is none": png_chunk(b"eXIf", b"\xff" * 40),
    "sizes that are cut": png_chunk(b"pHYs", b"\0"),
    "gamma that is cut": png_chunk(b"gAMA", b"\0"),
    "chromaticities that are cut": png_chunk(b"cHRM", b"\0" * 31),
    "a rendering intent that is missing": png_chunk(b"sRGB", b""),
    "transparency of another colour type": png_chunk(b"tRNS", b"\0"),
    "animation that is cut": png_chunk(b"acTL", b"\0"),
    "a chunk that nobody knows": png_chunk(b"abCd", b"\xff" * 9),
}


@pytest.mark.parametrize("what", HARMLESS)
@pytest.mark.parametrize("behind", [False, True])
def test_metadata_of_a_png_never_matter(tmp_path: Path, what: str, behind: bool) -> None:
    whole = encoded(photograph(), "PNG")
    place = len(whole) - 12 if behind else len(PNG) + 25  # before IEND, or behind IHDR
    (tmp_path / "a.png").write_bytes(whole[:place] + HARMLESS[what] + whole[place:])
    assert read_image(tmp_path / "a.png").tobytes() == photograph().tobytes()
    assert image_header(tmp_path / "a.png")[:3] == (48, 32, "PNG")


def test_pixels_of_a_png_with_a_bad_checksum_are_refused(tmp_path: Path) -> None:
    whole = bytearray(encoded(photograph(), "PNG"))
    end = bytes(whole).index(b"IEND") - 8  # the checksum of the last IDAT
    whole[end] ^= 1
    (tmp_path / "a.png").write_bytes(whole)
    with pytest.raises(ItemError, match="the checksum of its IDAT chunk is wrong"):
        read_image(tmp_path / "a.png")


def test_transparency_of_a_png_with_a_bad_checksum_is_left_out(tmp_path: Path) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0\1\2")) + png_chunk(b"IEND", b"")
    key = png_chunk(b"tRNS", b"\0\1")
    for chunk, first in ((key, 255), (damaged(key), 1)):
        (tmp_path / "a.png").write_bytes(PNG + header + chunk + pixels)
        assert np.asarray(read_image(tmp_path / "a.png"))[0, :, 0].tolist() == [first, 2]


def test_metadata_of_a_jpeg_never_matter(tmp_path: Path) -> None:
    whole = encoded(photograph(), "JPEG")
    expected = read_image(written(tmp_path / "plain.jpg", whole)).tobytes()
    broken = [
        b"MPF\0II*\0\x08\0\0\0\x01\0\x01\xb0\x04\0\xff\xff\xff\xff\0\0\0\0",
        b"MPF\0MM\0*\0\0\0\x08" + b"\xff" * 40,
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"ICC_PROFILE\0\x02\x01" + b"x" * 20,
        b"ICC_PROFILE\0",
        b"Photoshop 3.0\x008BIM\x03\xed\xff\xff",
        b"JFIF\0",
        b"Adobe",
    ]
    for number, body in enumerate(broken):
        for marker in (0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE):
            if body in (b"JFIF\0", b"Adobe") and marker in (0xE0, 0xEE):
                continue  # these say what the colours are
            segment = bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
            path = written(tmp_path / f"{number}.jpg", whole[:2] + segment + whole[2:])
            assert read_image(path).tobytes() == expected


def test_metadata_of_a_webp_never_matter(tmp_path: Path) -> None:
    whole = encoded(photograph(), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", icc_profile=b"icc")
    assert read_image(written(tmp_path / "a.webp", whole)).tobytes() == photograph().tobytes()
    place = whole.index(b"EXIF")
    for broken in (whole[: place + 4] + b"\xff\xff\xff\x7f" + whole[place + 8 :], whole[: place + 10]):
        assert read_image(written(tmp_path / "a.webp", broken)).tobytes() == photograph().tobytes()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def deep_tiff(order: str, bits: int, interpretation: int, values: list[int]) -> bytes:
    """An uncompressed grey TIFF of one row, its numbers packed into `bits` each."""
    if bits == 16:
        pixels = struct.pack(f"{order}{len(values)}H", *values)
    else:
        line = "".join(f"{value:0{bits}b}" for value in values)
        line += "0" * (-len(line) % 8)
        pixels = int(line, 2).to_bytes(len(line) // 8, "big")
    tags = [
        *((256, 3, len(values)), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, interpretation)),
        *((273, 4, 8), (277, 3, 1), (278, 3, 1), (279, 4, len(pixels))),
    ]
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 1) + struct.pack(f"{order}{'HH' if kind == 3 else 'I'}", *(
            (value, 0) if kind == 3 else (value,)
        ))
        for tag, kind, value in tags
    )  # fmt: skip
    start = 8 + len(pixels) + len(pixels) % 2
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    body = pixels + b"\0" * (len(pixels) % 2)
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)


@pytest.mark.parametrize(
    ("order", "bits", "interpretation", "values", "expected"),
    [
        ("<", 16, 1, [0, 257, 65535], [0, 1, 255]),
        (">", 16, 1, [0, 257, 65535], [0, 1, 255]),
        ("<", 16, 0, [0, 257, 65535], [255, 254, 0]),
        (">", 16, 0, [0, 257, 65535], [255, 254, 0]),
        ("<", 12, 1, [0, 16, 2048, 4095], [0, 1, 128, 255]),
        (">", 12, 1, [0, 16, 2048, 4095], [0, 1, 128, 255]),
        ("<", 12, 0, [0, 16, 2048, 4095], [255, 254, 127, 0]),
    ],
)
def test_deep_grey_means_what_its_tiff_says(
    tmp_path: Path, order: str, bits: int, interpretation: int, values: list[int], expected: list[int]
) -> None:
    path = written(tmp_path / "a.tif", deep_tiff(order, bits, interpretation, values))
    assert np.asarray(read_image(path))[0].tolist() == [[value] * 3 for value in expected]
    with Image.open(path) as opened:  # as a library hands it over
        assert np.asarray(as_upright_rgb(opened))[0, :, 0].tolist() == expected


def test_a_tiff_with_damaged_tags_is_read_without_a_word(tmp_path: Path) -> None:
    whole = deep_tiff("<", 16, 1, [0, 257, 65535])
    for tag, kind in ((34665, 4), (700, 2), (284, 3)):  # EXIF, XMP, layout
        entries = struct.pack("<HHII", tag, kind, 2**20, 2**28)
        count = struct.pack("<H", 9)
        place = whole.rindex(count + struct.pack("<H", 256))
        damaged_tiff = whole[:place] + struct.pack("<H", 10) + whole[place + 2 : -4] + entries + whole[-4:]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read = read_image(written(tmp_path / "a.tif", damaged_tiff))
        assert np.asarray(read)[0, :, 0].tolist() == [0, 1, 255]
        assert caught == []


def test_deep_grey_that_is_compressed_and_turned(tmp_path: Path) -> None:
    image = Image.frombytes("I;16", (2, 1), struct.pack("<2H", 0, 65535))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 0
    tags[274] = 6
    image.save(tmp_path / "a.tif", compression="tiff_adobe_deflate", tiffinfo=tags)
    with Image.open(tmp_path / "a.tif") as opened:
        white_is_zero = opened.tag_v2[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] == 0
    assert np.asarray(read_image(tmp_path / "a.tif"))[:, 0, 0].tolist() == ([255, 0] if white_is_zero else [0, 255])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16"])
def test_pixels_are_converted_in_strips_as_they_are_at_once(tmp_path: Path, mode: str) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (3, 700_000, 4), dtype=np.uint8)
    if mode == "I;16":
        deep = levels[..., 0].astype(np.uint16) * 257
        image = Image.fromarray(deep)
        expected = levels[..., :1].repeat(3, axis=2)
    else:
        image = Image.fromarray(levels)
        image = image.convert(mode) if mode != "P" else image.quantize(16)
        white = Image.new("RGBA", image.size, "white")
        expected = np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(as_upright_rgb(image)), expected)


def test_the_digest_is_that_of_the_bytes_that_were_decoded(tmp_path: Path) -> None:
    content = encoded(photograph(), "PNG")
    read = read_picture(written(tmp_path / "a.png", content))
    assert (read.sha256, read.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert read.image.tobytes() == photograph().tobytes()


def test_a_picture_that_would_grow_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", encoded(Image.new("RGB", (1, 50)), "PNG")[:-30])  # cut: decoding would fail
    asked = []

    def prepared_bytes(width: int, height: int) -> int:
        asked.append((width, height))
        return MAX_PREPARED_BYTES + 1

    with pytest.raises(ItemError) as caught, decoded_picture(path, prepared_bytes):
        pass
    assert caught.value.message == TOO_THIN
    assert asked == [(1, 50)]


def test_a_picture_in_memory_is_prepared_in_bounded_memory() -> None:
    image = photograph()
    assert prepared(image, lambda _: 7, lambda width, height: width * height) == 7
    with pytest.raises(ItemError, match="too long and thin"):
        prepared(image, lambda _: 7, lambda *_: MAX_PREPARED_BYTES + 1)
    with pytest.raises(ItemError, match=r"^the picture cannot be prepared for the model: "):
        prepared(image, lambda picture: picture.resize((2**40, 1)), lambda *_: 0)


@pytest.mark.parametrize(
    "error", [OverflowError("too large"), MemoryError(), RecursionError("deep"), struct.error("short"), KeyError(3)]
)
def test_what_goes_wrong_with_a_foreign_picture_is_its_failure_and_goes_to_the_log(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "a.png", encoded(photograph(), "PNG"))
    with (
        caplog.at_level(logging.DEBUG, "synood_cli"),
        pytest.raises(ItemError) as caught,
        decoded_picture(path),
    ):
        raise error
    assert caught.value.message.startswith(NOT_PREPARED)
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error]
    with pytest.raises(ModelError), decoded_picture(path):  # an error that is no image's fault stays what it is
        raise ModelError("the model is broken")


def test_memory_is_shared_out_in_turn_and_a_large_wish_is_served_alone() -> None:
    budget = Budget(10)
    held: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def work(size: int) -> None:
        for _ in range(50):
            with budget.take(size):
                with lock:
                    held.append(min(size, 10))
                    most.append(sum(held))
                with lock:
                    held.remove(min(size, 10))

    threads = [threading.Thread(target=work, args=(size,)) for size in (1, 3, 4, 7, 10, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert max(most) <= 10
    assert len(most) == 300


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    cases: list[tuple[Path, str]] = [
        (tmp_path / "pipe", "is not a regular file"),
        (tmp_path / "folder", "is a folder, not a file"),
        (Path("/dev/zero"), "is not a regular file"),
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path / "a\0b", "not a path: it holds a zero byte"),
    ]
    openers: list[Callable[[Path], object]] = [open_regular, read_image, image_header]
    for path, why in cases:
        for opened in openers:
            with pytest.raises(ItemError) as caught:
                opened(path)
            assert caught.value.message == why
        for pipe in (False, True):
            with pytest.raises((OSError, ValueError)):
                read_regular(path, 10, pipe=pipe)
    with pytest.raises(OSError, match="it has more than 10 bytes"):
        read_regular(written(tmp_path / "long", b"x" * 11), 10)


def test_a_regular_file_that_would_be_waited_for_is_empty(tmp_path: Path) -> None:
    file, _ = open_regular(written(tmp_path / "file", b"x"))
    with file:
        assert not os.get_blocking(file.fileno())
    log = Path("/proc/kmsg")  # regular, and waits for the kernel's next message
    if os.access(log, os.R_OK) and os.geteuid() == 0:
        with pytest.raises(ItemError, match=r"zero bytes|not a picture|not permitted"):
            read_image(log)


def test_a_pipe_that_was_handed_over_is_a_file_where_it_is_meant() -> None:
    read, write = os.pipe()
    try:
        os.write(write, b"text")
        os.close(write)
        path = Path(f"/dev/fd/{read}")
        with pytest.raises(OSError, match="a pipe or a device"):
            read_regular(path, 10)
        assert read_regular(path, 10, pipe=True) == b"text"
    finally:
        os.close(read)


def test_nothing_is_said_of_a_file_without_its_name(tmp_path: Path) -> None:
    def tiff(side: int, samples: int) -> bytes:
        tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, samples), (278, side), (279, 4)]
        return (
            b"II*\0"
            + struct.pack("<IIH", 12, 0, len(tags))
            + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
            + bytes(4)
        )

    large, odd = written(tmp_path / "large.tif", tiff(9_500, 1)), written(tmp_path / "odd.tif", tiff(8, 255))
    code = (
        "import sys\nfrom pathlib import Path\nfrom synood_cli.data.images import read_image\n"
        "from synood_cli.errors import ItemError\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        read_image(Path(path))\n"
        "    except ItemError as error:\n        print(error.message)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, large, odd], capture_output=True, text=True, check=True)
    assert [line[:21] for line in ended.stdout.splitlines()] == ["the file is truncated", "not a picture that ca"]
    assert ended.stderr == ""


@pytest.mark.parametrize(("mode", "bits"), [("L", 8), ("I", 16)])
def test_a_tiff_of_signed_numbers_is_refused_as_such(tmp_path: Path, mode: str, bits: int) -> None:
    content = struct.pack(f"<4{'b' if bits == 8 else 'h'}", -100, 0, 50, 100)
    tags = {256: 2, 257: 2, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: len(content), 339: 2}
    entries = b"".join(
        struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags.items()
    )
    where = struct.pack("<I", 8 + len(content))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    path = written(tmp_path / "a.tif", b"II*\0" + where + content + directory)
    with Image.open(path) as opened:
        assert opened.mode == mode
    with pytest.raises(ItemError, match=f"signed {bits}-bit TIFF"):
        read_image(path)


def colour_tiff(
    planes: list[bytes], bits: int, interpretation: int, order: str = "<", **tags: tuple[int, ...]
) -> bytes:
    """An uncompressed TIFF of 2 × 2 pixels with each plane for itself."""
    numbers = {
        256: (2,), 257: (2,), 258: (bits,) * len(planes), 259: (1,), 262: (interpretation,),
        273: tuple(8 + i * len(planes[0]) for i in range(len(planes))), 277: (len(planes),), 278: (2,),
        279: tuple(len(plane) for plane in planes), 284: (2,),
    } | {int(name[1:]): values for name, values in tags.items()}  # fmt: skip
    content = b"".join(planes)
    entries = b""
    for tag, values in sorted(numbers.items()):
        packed = struct.pack(f"{order}{len(values)}H", *values)
        if len(packed) > 4:
            content += b"\0" * (len(content) % 2)
            where = struct.pack(f"{order}I", 8 + len(content))
            content += packed
        entries += struct.pack(f"{order}HHI", tag, 3, len(values)) + (
            where if len(packed) > 4 else packed.ljust(4, b"\0")
        )
    content += b"\0" * (len(content) % 2)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(content))
    return head + content + struct.pack(f"{order}H", len(numbers)) + entries + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_deep_planes_has_the_colours_of_its_planes(tmp_path: Path, order: str) -> None:
    levels = [[0, 50, 100, 255], [255, 1, 2, 3], [9, 8, 7, 6]]
    planes = [struct.pack(f"{order}4H", *(257 * level for level in plane)) for plane in levels]
    path = written(tmp_path / "a.tif", colour_tiff(planes, 16, 2, order))
    assert np.asarray(read_image(path)).reshape(4, 3).T.tolist() == levels
    with Image.open(path) as opened, pytest.raises(ItemError, match="separate planes"):  # Pillow would mix them up
        as_upright_rgb(opened)


def test_a_number_of_a_library_is_said_in_words(tmp_path: Path) -> None:
    photograph().save(tmp_path / "a.tif", compression="tiff_lzw")
    with Image.open(tmp_path / "a.tif") as opened:
        start, length = opened.tag_v2[273][0], sum(opened.tag_v2[279])
    content = (tmp_path / "a.tif").read_bytes()
    damaged = content[:start] + b"\xff" * length + content[start + length :]
    with pytest.raises(ItemError, match="damaged or cut off: its pixels cannot be decoded"):
        read_image(written(tmp_path / "a.tif", damaged))


def test_a_tiff_of_planes_that_no_library_reads_is_refused_as_such(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", colour_tiff([bytes(4), b"\xff" * 4], 8, 1, t338=(2,)))
    with pytest.raises(ItemError, match=r"TIFF of 8 bits \(LA\) in separate planes"):
        read_image(path)


def test_a_colour_map_that_counts_to_255_is_not_black(tmp_path: Path) -> None:
    colours = [(level * step) % 256 for step in (1, 3, 7) for level in range(256)]
    for scale in (1, 257):
        content = colour_tiff([bytes([0, 1, 100, 255])], 8, 3, t320=tuple(scale * c for c in colours), t284=(1,))
        read = np.asarray(read_image(written(tmp_path / "a.tif", content))).reshape(4, 3)
        assert read.tolist() == [[(level * step) % 256 for step in (1, 3, 7)] for level in (0, 1, 100, 255)]
