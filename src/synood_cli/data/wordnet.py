"""WordNet's nouns and adjectives: the candidates for negative labels, and synonyms.

The files in wordnet/ are gzipped text made by tools/build_wordnet.py and tools/build_neglabel_pool.py, which describe
them.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Collection, Sequence
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

from synood_cli.config import CandidateList
from synood_cli.data.text_lists import read_entries
from synood_cli.errors import UsageError
from synood_cli.records import printable

PartOfSpeech = Literal["noun", "adj"]

NOT_IN_CSP = ("noun.person", "noun.group", "noun.quantity", "adj.pert")
"""Lexicographer files of WordNet that CSP's public code leaves out of NegLabel's."""


class Candidate(NamedTuple):
    """A word or term that may become a negative label; its part of speech chooses the prompt."""

    text: str
    part_of_speech: PartOfSpeech


def named_candidates(name: CandidateList) -> list[Candidate]:
    """The candidates that come with synood under this name: sorted nouns, then sorted adjectives."""
    if name == "wordnet":
        return wordnet_candidates()
    return neglabel_candidates(NOT_IN_CSP if name == "csp" else ())


def packed_candidates(name: CandidateList) -> bytes:
    """What tells this list from another without reading the words: the files that it is packed in, and its name where
    they hold more."""
    packed = ("adjectives.txt.gz", "noun_synsets.txt.gz") if name == "wordnet" else ("neglabel_pool.txt.gz",)
    content = b"".join((files("synood_cli.data") / "wordnet" / file).read_bytes() for file in packed)
    return content if name == "wordnet" else f"{name}\n".encode() + content


def neglabel_candidates(without: Collection[str] = ()) -> list[Candidate]:
    """The NegLabel paper's 70,000 candidates, 56,909 nouns and 13,091 adjectives, or those of them that are in other
    lexicographer files of WordNet too than the ones named. A word of both parts of speech is an adjective."""
    words: dict[str, set[str]] = {"noun": set(), "adj": set()}
    for line in _lines("neglabel_pool.txt.gz"):
        file, *members = line.split("\t")
        if file not in without:
            words[file.split(".")[0]].update(members)
    nouns, adjectives = words["noun"] - words["adj"], words["adj"]
    return [Candidate(noun, "noun") for noun in sorted(nouns)] + [Candidate(word, "adj") for word in sorted(adjectives)]


def wordnet_candidates() -> list[Candidate]:
    """Every noun and adjective of WordNet 3.0, in lower case with spaces: 117,798 nouns, then 21,479 adjectives,
    each sorted. A word that is both comes twice."""
    nouns = sorted({noun for synset in _noun_synsets() for noun in synset})
    adjectives = _lines("adjectives.txt.gz")
    return [Candidate(noun, "noun") for noun in nouns] + [Candidate(adjective, "adj") for adjective in adjectives]


def conjugated(candidates: Sequence[Candidate], seed: int) -> list[Candidate]:
    """CSP's pool (Chen et al., NeurIPS 2024): the nouns as they are, and every adjective before a superclass, which is
    drawn for it from superclasses.txt with `seed`; so there are as many candidates as before.

    *Deviation:* the paper speaks of all adjectives with all superclasses; as its public code does, one is drawn.
    """
    with as_file(files("synood_cli.data") / "superclasses.txt") as path:
        superclasses = [text for _, text in read_entries(path)]
    draw = random.Random(seed)
    return [
        Candidate(f"{candidate.text} {draw.choice(superclasses)}", "adj")
        if candidate.part_of_speech == "adj"
        else candidate
        for candidate in candidates
    ]


def synonyms_of(noun: str) -> list[str]:
    """The nouns that share a synset of WordNet with `noun`, in any of its senses; sorted, without itself.

    Case, and underscores for spaces, make no difference; an unknown word has no synonyms, nor has a plural that
    WordNet does not list.
    """
    wanted = " ".join(noun.casefold().replace("_", " ").split())
    synsets = _noun_synsets()
    return sorted({word for index in _senses().get(wanted, []) for word in synsets[index]} - {wanted})


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates listed in `path`, in file order: lines ``noun,word``, ``adj,word``, or a word alone (a noun).

    Words may hold spaces, and commas after the part of speech. Blank lines and lines that begin with # are skipped,
    duplicates (case apart) dropped. Raises UsageError as read_entries does, and for a malformed line, which it names.
    """
    candidates: dict[tuple[str, str], Candidate] = {}
    for number, entry in read_entries(path):
        before, comma, after = entry.partition(",")
        part_of_speech, text = (before.strip().lower(), after.strip()) if comma else ("noun", entry)
        if part_of_speech not in get_args(PartOfSpeech) or not text:
            raise UsageError(
                f"{printable(str(path))}, line {number}: not a candidate: {printable(entry)}",
                hint="a line is noun,word or adj,word, or a word alone (a noun)",
            )
        candidate = Candidate(text, cast(PartOfSpeech, part_of_speech))
        candidates.setdefault((text.casefold(), part_of_speech), candidate)
    return list(candidates.values())


@cache
def _noun_synsets() -> list[list[str]]:
    return [line.split("\t") for line in _lines("noun_synsets.txt.gz")]


@cache
def _senses() -> dict[str, list[int]]:
    senses: dict[str, list[int]] = {}
    for index, synset in enumerate(_noun_synsets()):
        for noun in synset:
            senses.setdefault(noun, []).append(index)
    return senses


def _lines(name: str) -> list[str]:
    packed = (files("synood_cli.data") / "wordnet" / name).read_bytes()
    return gzip.decompress(packed).decode("utf-8").splitlines()
