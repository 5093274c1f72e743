"""The text side of Eq. 3: from a captioner's answer to the prompt that the diffusion model reads."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import pairwise

from synood_cli.errors import ItemError, UsageError
from synood_cli.method.answers import final_answer

_PLACEHOLDER = "{elements}"

_NUMBERING = re.compile(r"(?:^|\s)\(?\d{1,2}[.)]\s+")
_BULLET = re.compile(r"^\s*[-*•–]\s+")
_AFTER_HEAD = re.compile(r":|\s[-–—]\s")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s+|$)")
_SEPARATOR = re.compile(r"[,;|•、，；]|(?<!-)\band\b(?!-)|&|\bas well as\b", re.IGNORECASE)
_PLACE = re.compile(
    r"^\s*(?:(?:in|on) (?:the|this) (?:image|picture|photo|photograph|scene|background|foreground|distance),?"
    r"|(?:besides|apart from|aside from|other than|in addition to|except for) [^,]*,)\s*",
    re.IGNORECASE,
)
_PREAMBLE = re.compile(
    r"^\s*(?:there|here|it|i|you|we|these"
    r"|(?:(?:the|this|other|main|remaining|visible|additional|surrounding|some|all)\s+)+"
    r"(?:elements?|objects?|things?|items?|image|picture|photo|photograph|scene"
    r"|background|foreground|surroundings|setting|environment))\b"
    r"[^,;]*?\b(?:are|is|includes?|including|contains?|shows?|features?|depicts?|has|have|see|consists? of)\b"
    r"(?:\s+also\b)?",
    re.IGNORECASE,
)
_LEADING = re.compile(r"^(?:(?:a|an|the|some|and|or)\s+)+")
_CHATTER = re.compile(r"sure|certainly|of course|okay|etc|none|nothing|n/a|(?:no|hope|let me know)\b.*")

_WORD = re.compile(r"[^\W_]+")
_PREPOSITIONS = frozenset({"of", "in", "on", "with", "for", "at", "from"})
_SINGULARS = (
    (re.compile(r"children$"), "child"),
    (re.compile(r"men$"), "man"),
    (re.compile(r"people$"), "person"),
    (re.compile(r"feet$"), "foot"),
    (re.compile(r"teeth$"), "tooth"),
    (re.compile(r"geese$"), "goose"),
    (re.compile(r"mice$"), "mouse"),
    (re.compile(r"oxen$"), "ox"),
    (re.compile(r"i$"), "us"),
    (re.compile(r"ies$"), "y"),
    (re.compile(r"ves$"), "f"),
    (re.compile(r"ves$"), "fe"),
    (re.compile(r"(?<=s|x|z|o)es$|(?<=ch|sh)es$"), ""),
    (re.compile(r"(?<![sui])s$"), ""),
)
"""Plural ending → singular ending. Every rule that fits gives a candidate: two words are the same noun when their
candidates meet, so a candidate that is no word does no harm."""


def parse_elements(raw: str) -> list[str]:
    """The elements named by a captioner's answer (p_con of Eq. 3): lower-cased, each once, in order of appearance.

    Understood: a JSON list of strings; lists by commas, semicolons, lines, bullets or numbers; "and" between the last
    two; preambles ("The elements are: ...", "In the background, there are ..."); bullets with an explanation
    ("- Sky: a clear sky" means "sky"); remarks in parentheses, which are dropped, as are leading articles,
    surrounding punctuation and characters that are not printed. "black and white tiles" reads as two elements. Empty if
    nothing is named. Reasoning is not
    read: see `final_answer`.
    """
    raw = final_answer(raw)
    fragments = _json_strings(raw)
    if fragments is None:
        plain = re.sub(r"\([^)]*\)|[*_`]{2,}|`", " ", raw)
        fragments = []
        for line in _NUMBERING.sub("\n- ", plain).splitlines():
            for sentence in _SENTENCE_END.split(_without_label(line)):
                fragments += _SEPARATOR.split(_PREAMBLE.sub("", _PLACE.sub("", sentence)))
    elements = (_clean(fragment) for fragment in fragments)
    return list(dict.fromkeys(e for e in elements if e and not _CHATTER.fullmatch(e)))


def remove_main_object(elements: Sequence[str], class_name: str, synonyms: Sequence[str]) -> list[str]:
    """The elements that do not name the main object, in order: Eq. 3 asks for everything *except* it.

    An element is dropped when it contains, as whole words and in singular or plural, the class name, the class
    name's head noun ("giant panda": panda) or a synonym. "car" drops "red cars" and keeps "carpet". A class name of
    several names ("tench, Tinca tinca") counts each; what it says in parentheses ("crane (bird)") is ignored.
    Dropping too much ("garden spider" drops "spider web") costs one element; too little would put the class itself
    into an image that is to be OOD.
    """
    class_phrases = [_words(name) for name in re.sub(r"\([^)]*\)", " ", class_name).split(",")]
    heads = [[_head_noun(phrase)] for phrase in class_phrases if phrase]
    phrases = [*class_phrases, *heads, *(_words(synonym) for synonym in synonyms)]
    return [e for e in elements if not any(_contains(_words(e), phrase) for phrase in phrases if phrase)]


def fit_prompt(
    elements: Sequence[str], template: str, count_tokens: Callable[[str], int], max_tokens: int
) -> tuple[str, list[str], int]:
    """(prompt, elements kept, tokens of the prompt): the template with as many leading elements as the text encoder
    can read (77 tokens for CLIP, template included). Whole elements are dropped from the end.

    `count_tokens` counts begin and end tokens too. Raises ItemError if there is no element or not even the first
    fits, UsageError if the template has no ``{elements}``.

    *Deviation:* the public release cuts the text at 73 characters, mid-word.
    """
    if _PLACEHOLDER not in template:
        raise UsageError(f"the prompt template {template!r} has no {_PLACEHOLDER}", hint=f"add {_PLACEHOLDER} to it")
    if not elements:
        raise ItemError("the caption names no element besides the main object")
    for count in range(len(elements), 0, -1):
        prompt = template.replace(_PLACEHOLDER, ", ".join(elements[:count]))
        tokens = count_tokens(prompt)
        if tokens <= max_tokens:
            return prompt, list(elements[:count]), tokens
    raise ItemError(f"even the caption's first element alone is longer than {max_tokens} tokens")


def _json_strings(raw: str) -> list[str] | None:
    """The strings of the JSON list inside `raw`, or None if there is no such list."""
    found = re.search(r"\[.*\]", raw, re.DOTALL)
    if found is None:
        return None
    try:
        items = json.loads(found.group())
    except (ValueError, RecursionError):
        return None
    return [item for item in items if isinstance(item, str)]


def _without_label(line: str) -> str:
    """A bullet's head without its explanation; any other line without the label before its colon."""
    bullet = _BULLET.match(line)
    if bullet:
        return _AFTER_HEAD.split(line[bullet.end() :], maxsplit=1)[0]
    return line.rpartition(":")[2]


def _clean(fragment: str) -> str:
    visible = "".join(character if character.isprintable() else " " for character in fragment)
    words = " ".join(visible.lower().split())
    return _LEADING.sub("", words.strip(" \t.,;:!?\"'“”‘’*_-–—[](){}"))


def _words(text: str) -> list[str]:
    return _WORD.findall(re.sub(r"['’]s\b", "", unicodedata.normalize("NFC", text).lower().replace("_", " ")))


def _head_noun(words: Sequence[str]) -> str:
    """The last word before a preposition ("lily of the valley": lily), else the last word."""
    for previous, word in pairwise(words):
        if word in _PREPOSITIONS and previous not in _PREPOSITIONS:
            return previous
    return words[-1]


def _singulars(word: str) -> set[str]:
    return {word} | {ending.sub(singular, word) for ending, singular in _SINGULARS}


def _contains(words: Sequence[str], phrase: Sequence[str]) -> bool:
    starts = range(len(words) - len(phrase) + 1)
    return any(
        all(_singulars(a) & _singulars(b) for a, b in zip(words[start:], phrase, strict=False)) for start in starts
    )
