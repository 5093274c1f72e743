"""The context elements that the clip-tags captioner chooses from."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from synood_cli.data.text_lists import read_entries


def default_vocabulary() -> list[str]:
    """The vocabulary that comes with the package: common nouns for what surrounds a main object, in file order."""
    with as_file(files("synood_cli.data") / "vocabulary.txt") as path:
        return read_vocabulary(path)


def read_vocabulary(path: Path) -> list[str]:
    """The elements listed in `path`, one a line, in file order and without duplicates (case apart).

    Blank lines and lines that begin with # are skipped. Raises UsageError as read_entries does.
    """
    unique: dict[str, str] = {}
    for _, text in read_entries(path):
        unique.setdefault(text.casefold(), text)
    return list(unique.values())
