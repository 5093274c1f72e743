"""Captions that were made elsewhere: a JSONL file, one image a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from synood_cli.data.text_lists import read_text
from synood_cli.errors import UsageError
from synood_cli.records import ImageFile, is_unicode, printable

CAPTIONS_BYTES = 1 << 30
"""The largest captions file that is read: a million lines have some 300 million bytes."""


class Caption(NamedTuple):
    """One line: the raw text, and the elements where the line lists them apart (the text is then theirs, joined)."""

    text: str
    elements: list[str] | None
    line: int


class _MalformedError(Exception):
    pass


class CaptionsFile:
    """The good lines of a captions file, and what is wrong with the others.

    A line is ``{"image": path, "caption": text}`` or ``{"image": path, "elements": [text, …]}``; other keys are
    ignored, and so are blank lines. `problems` are (line number, reason): malformed lines, which are left out, and
    repeated images, of which the last line counts.

    Raises UsageError when the file cannot be read or has no good line.
    """

    def __init__(self, path: Path) -> None:
        content = read_text(path, CAPTIONS_BYTES, "captions file")
        self.problems: list[tuple[int, str]] = []
        self._captions: dict[str, Caption] = {}
        self._folder = str(path.absolute().parent)
        for number, line in enumerate(content.split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                image, caption = _parse(line, number)
            except _MalformedError as error:
                self.problems.append((number, str(error)))
                continue
            name = os.path.normpath(image)
            if name in self._captions:
                first = self._captions[name].line
                self.problems.append(
                    (number, f"{printable(image)} was captioned in line {first} already; the last counts")
                )
            self._captions[name] = caption
        if not self._captions:
            why = "".join(f"; line {number}: {reason}" for number, reason in self.problems[:1])
            raise UsageError(
                f"the captions file {printable(str(path))} has no caption{why}",
                hint='a line is {"image": path, "caption": text} or {"image": path, "elements": [text, …]}',
            )

    def __len__(self) -> int:
        return len(self._captions)

    def find(self, image: ImageFile) -> Caption | None:
        """The caption of `image`: by absolute path, else by path relative to the image's root, else by path relative
        to the captions file's folder; None when there is none."""
        path = os.path.normpath(image.path.absolute())
        for name in (path, os.path.normpath(image.name), os.path.relpath(path, self._folder)):
            if name in self._captions:
                return self._captions[name]
        return None


def _parse(line: bytes, number: int) -> tuple[str, Caption]:
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _MalformedError("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise _MalformedError(f"not JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, endless brackets
        raise _MalformedError("not JSON that can be read") from error
    if not isinstance(record, dict):
        raise _MalformedError('not an object like {"image": …, "caption": …}')
    image = record.get("image")
    if not isinstance(image, str) or not image:
        raise _MalformedError('"image" must be a path' if "image" in record else '"image" is missing')
    text, elements = record.get("caption"), record.get("elements")
    if text is None and elements is None:
        raise _MalformedError('"caption" or "elements" is missing')
    if elements is not None and not (isinstance(elements, list) and all(isinstance(item, str) for item in elements)):
        raise _MalformedError('"elements" must be a list of texts')
    if text is None:
        text = ", ".join(elements or [])
    if not isinstance(text, str):
        raise _MalformedError('"caption" must be a text')
    if any(not is_unicode(part) for part in [text, *(elements or [])]):
        raise _MalformedError("the text holds half of a surrogate pair")
    return image, Caption(text, elements, number)
