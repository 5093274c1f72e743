"""Reading pictures that other people made: any of a few formats becomes plain RGB, or a reason why not."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TypeVar

from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, features
from PIL.ImageFile import ImageFile as OpenedImage

from synood_cli.data.access import open_regular, too_many_bytes
from synood_cli.data.foreign import item_boundary, reason
from synood_cli.data.metadata import PNG_SIGNATURE, TRUNCATED, bare, plain_png
from synood_cli.data.pixel_memory import DECODED, ENCODED
from synood_cli.data.pixels import GreyLevels, grey_levels, has_separate_planes, narrow_palette, to_rgb
from synood_cli.errors import ItemError
from synood_cli.records import Place

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", *(["AVIF"] if features.check("avif") else []))
"""What is read, whatever a file's name says; AVIF where the installed Pillow has it. Other formats of Pillow run other
programs (EPS) or are no pictures."""

MAX_PIXELS = 178_956_970
"""The most pixels that are decoded: where Pillow itself stops by default (half a gigabyte as RGB), fixed here so
that another library that lifts Pillow's limit does not lift ours."""

MAX_BYTES = 1 << 30
"""The largest file that is read: more than MAX_PIXELS of 8-bit RGBA take uncompressed."""

MAX_PREPARED_BYTES = 1 << 30
PREPARED_BYTES_PER_PIXEL = 16
"""The most memory that a picture may take while it is scaled to the size that a model takes, or so much for each of its
own pixels (as floats, three colours), whose number is bounded."""

TOO_THIN = "too long and thin: to scale it to the size that the model takes, it would grow to more than 1 GiB"
"""Why a picture that can be read is not given to a model: it will not be the next time either."""

NOT_PREPARED = "the picture cannot be prepared for the model: "
"""How the reason begins where the preprocessing fails."""

JPEG_MAX_SIDE = 65_500
"""The longest side that libjpeg can write."""

COMPLEXITY_QUALITY = 95
"""JPEG quality at which pictures in other formats are re-encoded, to measure their complexity."""

T = TypeVar("T")

_EMPTY = "the file is empty (zero bytes)"
_pillow_warnings = threading.Lock()

# Pillow tells the terminal of large and odd files without naming them. What matters is an ItemError; MAX_PIXELS bounds
# what is decoded, where threads cannot each have their own filters; --verbose still shows what is logged.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
logging.getLogger("PIL").addHandler(logging.NullHandler())

PreparedBytes = Callable[[int, int], int]
"""The memory that preparing a picture of width × height pixels takes, beside the RGB picture itself."""


class ImageHeader(NamedTuple):
    """What a file's header says. `width` and `height` are pixels as stored, before EXIF rotation; `format` and
    `mode` are Pillow's names ("JPEG", "MPO", "PNG", …; "RGB", "CMYK", …); `bytes` is the size of the file."""

    width: int
    height: int
    format: str
    bytes: int
    mode: str


class Picture(NamedTuple):
    """A decoded image, 8-bit RGB and upright, and the SHA-256 (hex) and size of the file that it was decoded from."""

    image: Image.Image
    sha256: str
    bytes: int


def read_image(place: Place) -> Image.Image:
    """The picture at `place` as 8-bit RGB, upright.

    The content decides about the format, not the name. EXIF orientation is applied; of an animation the first frame
    is taken; transparency is laid on white; deep grey (10 to 16 bits) is scaled to 8 bits (rounded), not clipped; CMYK
    is converted without its colour profile. Metadata that cannot be read make no difference. Thread-safe.

    Raises ItemError, with a reason that does not repeat the path, for what cannot be read or has more than
    MAX_PIXELS pixels (found out before decoding).
    """
    return read_picture(place).image


def read_picture(place: Place) -> Picture:
    """As read_image, and which file it was: the digest is that of the very bytes that were decoded."""
    with decoded_picture(place) as picture:
        return picture


@contextlib.contextmanager
def decoded_picture(place: Place, prepared_bytes: PreparedBytes | None = None) -> Iterator[Picture]:
    """Within: the picture at `place`, as read_picture gives it, and its share of the memory for pixels (DECODED), with
    that of `prepared_bytes`, which is what the caller does with it needs. It is waited for before anything is decoded.

    Whatever goes wrong, also in what the caller does within, is an ItemError: this is the boundary around a foreign
    picture. Raises ItemError TOO_THIN for more than MAX_PREPARED_BYTES.
    """
    with item_boundary(place, _preparing_problem), contextlib.ExitStack() as held:
        with item_boundary(place, _decoding_problem):
            content = _content(place, held)
        sha256 = hashlib.sha256(content).hexdigest()
        with item_boundary(place, _decoding_problem), _opened(content) as image:
            wanted = _decoded_bytes(image) + len(content)
            if prepared_bytes is not None:
                preparing = _bounded(prepared_bytes, image)
                wanted = max(wanted, len(content) + 4 * image.width * image.height + preparing)
            held.enter_context(DECODED.take(wanted))
            if image.format == "TIFF":
                # Loading would read the same tags again, and warn of them outside of the lock.
                with contextlib.suppress(Exception), _quiet():
                    image.getexif()
            image.load()
            upright = upright_rgb(image)
            size = len(content)
        del image, content  # where they are not the picture itself, their memory is free from here on
        yield Picture(upright, sha256, size)


def as_upright_rgb(image: Image.Image) -> Image.Image:
    """A picture that somebody opened as 8-bit RGB, upright, as read_image says; `image` stays as it is. Raises
    ItemError for what cannot be decoded, and for 32-bit greyscale and signed TIFF."""
    with item_boundary("image", _decoding_problem):
        return upright_rgb(image.copy(), grey_levels(image))


def prepared(image: Image.Image, prepare: Callable[[Image.Image], T], prepared_bytes: PreparedBytes) -> T:
    """prepare(image), in bounded memory. Raises ItemError TOO_THIN, and for whatever goes wrong."""
    with item_boundary("image", _preparing_problem):
        _bounded(prepared_bytes, image)
        return prepare(image)


def _bounded(prepared_bytes: PreparedBytes, image: Image.Image) -> int:
    """What `prepared_bytes` says of `image`. Raises ItemError TOO_THIN for too much."""
    wanted = prepared_bytes(image.width, image.height)
    if wanted > max(MAX_PREPARED_BYTES, PREPARED_BYTES_PER_PIXEL * image.width * image.height):
        raise ItemError(TOO_THIN)
    return wanted


def upright_rgb(image: Image.Image, levels: GreyLevels | None = None) -> Image.Image:
    """A loaded picture as 8-bit RGB, upright, as read_image says; `image` itself may be turned, or be the result. Of
    deep grey, `levels` say what the numbers mean where `image` has lost its tags. Raises ItemError for 32-bit
    greyscale."""
    levels = levels or grey_levels(image)
    # Malformed EXIF is common and says nothing about the pixels: such a picture stays as stored.
    with contextlib.suppress(Exception), _quiet():
        ImageOps.exif_transpose(image, in_place=True)
    return to_rgb(image, levels)


def image_header(place: Place) -> ImageHeader:
    """Size, format and mode of the picture at `place`, from its header: no pixel is decoded.

    A truncated file passes when its header is whole. Raises ItemError as read_image does.
    """
    with opened_image(place) as (image, size):
        return ImageHeader(image.width, image.height, image.format or "", size, image.mode)


def complexity_bytes(path: Path, header: ImageHeader) -> tuple[int, Literal["file", "jpeg95"]]:
    """The numerator of c(x) = bytes / (width × height) (Sec. 3.4), and how it was found.

    A JPEG file counts as it is ("file"). Any other format is re-encoded in memory as JPEG of quality 95 ("jpeg95"),
    since bytes per pixel compares only equals; this decodes the picture. A JPEG container of several pictures (MPO)
    is re-encoded too.

    Raises ItemError as read_image does, and for a side that JPEG cannot hold.
    """
    if header.format == "JPEG":
        return header.bytes, "file"
    if max(header.width, header.height) > JPEG_MAX_SIDE:
        raise ItemError(f"{header.width} × {header.height} pixels: a side is at most {JPEG_MAX_SIDE:,} pixels in JPEG")
    encoded = io.BytesIO()
    with decoded_picture(path) as picture:
        picture.image.save(encoded, "JPEG", quality=COMPLEXITY_QUALITY)
    return len(encoded.getvalue()), "jpeg95"


@contextlib.contextmanager
def opened_image(place: Place) -> Iterator[tuple[OpenedImage, int]]:
    """The picture at `place` with its header read and its pixels counted but not decoded, and the size in bytes of its
    file.

    Raises ItemError as read_image does, also for what goes wrong in what the caller does within.
    """
    with item_boundary(place, _decoding_problem), contextlib.ExitStack() as held:
        source: BinaryIO | bytes
        if isinstance(place, Path):
            source, status = open_regular(place)
            held.enter_context(source)
            size = status.st_size
            if size == 0:
                raise ItemError(_EMPTY)
            if source.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE:
                source = _content(place, held)
        else:
            source = _content(place, held)
            size = len(source)
        yield held.enter_context(_opened(source)), size


def _content(place: Place, held: contextlib.ExitStack) -> bytes:
    """The bytes of the picture at `place`; their share of ENCODED is `held`."""
    if isinstance(place, Path):
        file, status = open_regular(place)
        with file:
            held.enter_context(ENCODED.take(status.st_size))
            content = (file.read(MAX_BYTES + 1) or b"") if status.st_size <= MAX_BYTES else b""
        size = max(status.st_size, len(content))
    else:
        content = place.read()
        size = len(content)
        held.enter_context(ENCODED.take(size))
    if size > MAX_BYTES:
        raise ItemError(too_many_bytes(size, MAX_BYTES))
    if not content:
        raise ItemError(_EMPTY)
    return content


@contextlib.contextmanager
def _opened(source: BinaryIO | bytes) -> Iterator[OpenedImage]:
    """The picture in `source` with its header read, without metadata where it cannot be opened with them."""
    if isinstance(source, bytes) and source.startswith(PNG_SIGNATURE):
        source = plain_png(source)
    try:
        image = _open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (Image.DecompressionBombError, MemoryError):
        raise
    except Exception:  # on foreign bytes Pillow's readers raise nearly anything
        if not isinstance(source, bytes):
            source.seek(0)
            source = source.read(MAX_BYTES)
        picture = bare(source)
        if picture is None:
            raise
        image = _open(io.BytesIO(picture))
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise ItemError(_too_large())
        yield image


def _open(file: BinaryIO) -> OpenedImage:
    file.seek(0)
    file.read(1)  # a slow disk is waited for here, not while the lock is held
    file.seek(0)
    with _quiet():
        image = Image.open(file, formats=FORMATS)
        if not has_separate_planes(image):
            if narrow := narrow_palette(image):
                image.palette = narrow
            return image
        # Pillow's own reader of uncompressed planes takes deep numbers for 8-bit ones; libtiff reads them.
        file.seek(0)
        TiffImagePlugin.READ_LIBTIFF = True
        try:
            return Image.open(file, formats=("TIFF",))
        finally:
            TiffImagePlugin.READ_LIBTIFF = False


def _decoded_bytes(image: OpenedImage) -> int:
    """The memory that decoding `image` and making it RGB takes at most, without that of its file."""
    pixel = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    decoder = {"JPEG": 0, "MPO": 0, "WEBP": 12, "AVIF": 8, "TIFF": pixel}.get(image.format or "", 0)
    if image.format in ("JPEG", "MPO") and "progressive" in image.info:
        decoder = 6  # all coefficients are kept until the last scan
    # Turning it upright takes a copy; so does RGB.
    return image.width * image.height * (pixel + max(decoder, pixel, 4))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Pillow warns about suspicious files without naming them; what matters becomes an ItemError. Python's list of
    # warning filters belongs to the whole process, hence the lock; decoding, which takes long, does not need it.
    with _pillow_warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _preparing_problem(error: Exception) -> str:
    return NOT_PREPARED + reason(error)


def _decoding_problem(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        formats = ", ".join(FORMATS)
        return f"not a picture that can be read ({formats}), a rare kind of one, or damaged at its beginning"
    if isinstance(error, Image.DecompressionBombError):
        return _too_large()
    if isinstance(error, MemoryError):
        return "not enough memory to decode the picture"
    if "truncated" in str(error).lower():
        return TRUNCATED
    if "decoder error" in str(error):  # Pillow says no more of what its libraries tell by a number
        return "the picture is damaged or cut off: its pixels cannot be decoded"
    return f"the picture cannot be decoded: {reason(error)}"


def _too_large() -> str:
    return f"more than {MAX_PIXELS:,} pixels: too large to decode (a decompression bomb?)"
