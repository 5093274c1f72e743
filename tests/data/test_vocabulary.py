from __future__ import annotations

from pathlib import Path

import pytest

from synood_cli.data.vocabulary import default_vocabulary, read_vocabulary
from synood_cli.errors import UsageError


def test_the_default_vocabulary_names_common_surroundings() -> None:
    vocabulary = default_vocabulary()
    assert 300 <= len(vocabulary) <= 900
    assert len({word.casefold() for word in vocabulary}) == len(vocabulary)
    assert {"sky", "grass", "sand", "table", "brick wall", "person", "hand", "plate", "rope", "snow"} <= set(vocabulary)
    for word in vocabulary:
        assert word == word.strip()
        assert word.replace(" ", "").replace("-", "").isalpha()
        assert len(word.split()) <= 3


def test_a_vocabulary_of_ones_own_keeps_its_order_and_first_spelling(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# comment\nsea\n Sky \n\nSEA\nrope, coiled\n", encoding="utf-8-sig")
    assert read_vocabulary(path) == ["sea", "Sky", "rope, coiled"]


def test_a_vocabulary_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_vocabulary(tmp_path / "absent")
    (tmp_path / "words.txt").write_bytes(b"sea\n\xff\n")
    with pytest.raises(UsageError, match=r"line 2: not UTF-8"):
        read_vocabulary(tmp_path / "words.txt")
