"""TOML from elsewhere is read, or refused in words that name the line."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from synood_cli.errors import UsageError
from synood_cli.toml_file import DEPTH, LIMIT, parse_toml, read_toml


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_utf8_with_or_without_a_byte_order_mark(mark: bytes) -> None:
    assert parse_toml(mark + "seed = 1\nrecipe = 'é'".encode(), "x") == {"seed": 1, "recipe": "é"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("seed = 1".encode("utf-16"), "is not UTF-8 but UTF-16"),
        (codecs.BOM_UTF16_BE + "seed = 1".encode("utf-16-be"), "is not UTF-8 but UTF-16"),
        (b"seed = 1\n# caf\xe9", "line 2 is not UTF-8"),
        (b"seed = 1\nseed = 2", "Cannot overwrite a value (at line 2"),
        (b"[a]\n[a]", "Cannot declare ('a',) twice (at line 2"),
        (b"a = 1\nseed = " + b"1" * 5000, "a number too long (at line 2)"),
        (b"seed = 0x" + b"f" * 5000, "seed is a number beyond 64 bits"),
        (b"[select]\nper_class = 9223372036854775808", "select.per_class is a number beyond 64 bits"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (b"a = " + b"{a=" * 5000, "nested too deeply"),
        (b".".join([b"a"] * 5000) + b" = 1", f"nested deeper than {DEPTH} tables"),
        (b"seed = \x00", "Invalid value (at line 1"),
        (b"when = 2020-99-99", "not valid TOML"),
    ],
)
def test_what_is_no_toml_is_said_in_a_few_words(content: bytes, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_toml(content, "settings.toml")
    assert words in refused.value.message
    assert refused.value.message.startswith("settings.toml")
    assert len(refused.value.message) < 400


def test_only_regular_files_of_a_sane_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("large")
    (tmp_path / "large").write_bytes(b"\n" * (LIMIT + 1))
    for name, words in {
        "pipe": "a pipe or a device",
        "loop": "symbolic links",
        "link": f"more than {LIMIT:,} bytes",
        ".": "it is a folder",
        "n" * 5000: "name too long",
    }.items():
        with pytest.raises(UsageError) as refused:
            read_toml(tmp_path / name)
        assert words in refused.value.message
        assert "cannot read" in refused.value.message
    with pytest.raises(UsageError, match="a pipe or a device"):
        read_toml(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "none")
    (tmp_path / "large").write_bytes(b"\n" * LIMIT)
    assert read_toml(tmp_path / "link") == {}
