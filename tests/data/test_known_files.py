from __future__ import annotations

import hashlib
import io
import os
import tarfile

import pytest

from pipeline import photograph
from synood_cli.data.encoding import describe_encoding
from synood_cli.data.images import MAX_BYTES, read_image, read_picture
from synood_cli.data.known_files import CHANGED, TOUCHED, KnownFile, UntouchedImage, untouched
from synood_cli.data.sources import find_images
from synood_cli.errors import ItemError


def test_a_known_file_is_read_as_long_as_it_is_the_same(tmp_path):
    path = tmp_path / "a.jpg"
    photograph(path, 1, detail=3, quality=70)
    content = path.read_bytes()
    known = KnownFile(path, hashlib.sha256(content).hexdigest())
    assert read_picture(known).sha256 == known.sha256
    assert read_image(known).tobytes() == read_image(path).tobytes()
    assert describe_encoding(known) == describe_encoding(path)
    path.write_bytes(content[:-1] + b"x")  # of the same size
    for read in (read_image, describe_encoding):
        with pytest.raises(ItemError) as caught:
            read(known)
        assert caught.value.message == CHANGED
    path.unlink()
    with pytest.raises(ItemError, match="no such file"):
        read_image(known)


def test_lossless_webp_is_known_by_its_content(tmp_path):
    for lossless in (True, False):
        path = tmp_path / f"{lossless}.webp"
        photograph(tmp_path / "a.png", 1, detail=3)
        read_image(tmp_path / "a.png").save(path, lossless=lossless)
        assert describe_encoding(KnownFile(path, hashlib.sha256(path.read_bytes()).hexdigest())).lossless is lossless


def test_an_image_is_read_as_long_as_it_is_untouched(tmp_path):
    path = tmp_path / "a.png"
    photograph(path, 1, detail=3)
    place, before = untouched(path), path.stat()
    assert read_image(place).tobytes() == read_image(path).tobytes()
    (tmp_path / "moved").mkdir()
    path.rename(tmp_path / "moved/a.png")
    photograph(path, 2, detail=3)
    with pytest.raises(ItemError, match="changed since this command began"):
        read_image(place)
    # Another of the same size and modification time, as copying tools leave it, differs in its change time.
    place, content = untouched(path), path.read_bytes()
    before = path.stat()
    path.write_bytes(content[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ItemError) as caught:
        read_image(place)
    assert caught.value.message == TOUCHED


def test_an_archive_that_is_replaced_is_not_read(tmp_path):
    def shard(seed):
        photograph(tmp_path / "a.png", seed, detail=3)
        with tarfile.open(tmp_path / "s.tar", "w") as tar:
            content = (tmp_path / "a.png").read_bytes()
            entry = tarfile.TarInfo("a.png")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

    shard(1)
    [image] = find_images(tmp_path / "s.tar").images
    place = untouched(image.place)
    assert read_image(place).tobytes() == read_image(tmp_path / "a.png").tobytes()
    shard(2)
    with pytest.raises(ItemError, match="changed since this command began"):
        read_image(place)


def test_what_cannot_be_looked_at_keeps_its_own_reason(tmp_path):
    missing = tmp_path / "missing.png"
    assert untouched(missing) == missing
    (tmp_path / "huge.png").touch()
    os.truncate(tmp_path / "huge.png", MAX_BYTES + 1)
    for place in (KnownFile(tmp_path / "huge.png", "0" * 64), untouched(tmp_path / "huge.png")):
        with pytest.raises(ItemError, match="at most"):
            read_image(place)
    assert isinstance(untouched(tmp_path / "huge.png"), UntouchedImage)
