from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
import torch

from synood_cli.data.wordnet import (
    Candidate,
    conjugated,
    named_candidates,
    read_candidates,
    synonyms_of,
    wordnet_candidates,
)
from synood_cli.errors import UsageError
from synood_cli.method.negative_labels import mine


def test_the_whole_of_wordnet_is_there() -> None:
    candidates = wordnet_candidates()
    nouns = [text for text, part_of_speech in candidates if part_of_speech == "noun"]
    adjectives = [text for text, part_of_speech in candidates if part_of_speech == "adj"]
    assert (len(nouns), len(adjectives)) == (117_798, 21_479)
    assert candidates == [Candidate(n, "noun") for n in nouns] + [Candidate(a, "adj") for a in adjectives]
    assert nouns == sorted(set(nouns))
    assert adjectives == sorted(set(adjectives))
    assert candidates == wordnet_candidates()


def test_candidates_are_plain_words() -> None:
    candidates = wordnet_candidates()
    for expected in [
        Candidate("great white shark", "noun"),
        Candidate("man-eating shark", "noun"),
        Candidate("red", "noun"),
        Candidate("red", "adj"),
        Candidate("galore", "adj"),
    ]:
        assert expected in candidates
    for text, _ in candidates:
        assert text
        assert text == text.lower().strip()
        assert not set(text) & set("_()\t\n")


def test_synonyms_share_a_synset() -> None:
    expected = ["carcharodon carcharias", "man-eater", "man-eating shark", "white shark"]
    assert synonyms_of("great white shark") == expected
    assert synonyms_of("Great_White  Shark") == expected
    assert "great white shark" in synonyms_of("white shark")
    assert synonyms_of("tench") == ["tinca tinca"]
    assert synonyms_of("no such word") == []
    assert synonyms_of("") == []


def test_synonyms_of_several_senses() -> None:
    # A crane is a bird (grus, a constellation of that name), a machine, and two writers.
    assert synonyms_of("crane") == ["grus", "harold hart crane", "hart crane", "stephen crane"]


def test_the_licence_is_shipped() -> None:
    folder = files("synood_cli.data") / "wordnet"
    licence = (folder / "LICENSE").read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in licence
    assert licence.startswith("This software and database is being provided to you, the LICENSEE, by\n")
    assert licence.endswith("LICENSEE agrees to preserve same.\n")
    assert "WordNet 3.0, Princeton University" in (folder / "NOTICE").read_text(encoding="utf-8")


def test_a_list_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(
        b"\xef\xbb\xbf# comment\nnoun,hammer\r\n\nadj , shiny\nbare word\nnoun,salt, sea\nNOUN,Hammer\nadj,hammer\n"
        b"  # indented comment\nwal\xc3\xb1u\n"
    )
    assert read_candidates(path) == [
        Candidate("hammer", "noun"),
        Candidate("shiny", "adj"),
        Candidate("bare word", "noun"),
        Candidate("salt, sea", "noun"),
        Candidate("hammer", "adj"),
        Candidate("walñu", "noun"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"noun,a\nverb,run\n", r"list\.txt, line 2: not a candidate: verb,run"),
        (b"noun,\n", r"list\.txt, line 1: not a candidate: noun,"),
        (b",word", r"list\.txt, line 1: not a candidate: ,word"),
        (b"a\n\nsh\xffrk\n", r"list\.txt, line 3: not UTF-8 text"),
        (b"# nothing\n\n", r"the list .*list\.txt is empty"),
    ],
)
def test_a_malformed_list_is_refused_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_candidates(path)
    assert caught.value.hint


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the list .*absent: no such file or folder"):
        read_candidates(tmp_path / "absent")
    with pytest.raises(UsageError, match="is a folder, not a file"):
        read_candidates(tmp_path)


def test_the_candidates_of_the_neglabel_paper() -> None:
    """56,909 nouns and 13,091 adjectives, of which 15% each are 8,536 and 1,963: 10,499 negative labels."""
    candidates = named_candidates("neglabel")
    nouns = [text for text, kind in candidates if kind == "noun"]
    adjectives = [text for text, kind in candidates if kind == "adj"]
    assert (len(nouns), len(adjectives)) == (56_909, 13_091)
    assert nouns == sorted(set(nouns))
    assert adjectives == sorted(set(adjectives))
    assert set(nouns).isdisjoint(adjectives)  # a word of both parts of speech is an adjective
    kept = [len(mine(torch.zeros(len(words)), 0.15)) for words in (nouns, adjectives)]
    assert kept == [8_536, 1_963]
    assert sum(kept) == 10_499
    assert {"guitar", "bassoon", "milky way"} < set(nouns)
    assert {"tench", "pizza"}.isdisjoint(nouns)  # animals and food
    assert "axe" not in nouns  # the first word of a synset alone: ax
    assert "abaxial" not in adjectives  # the head of the first half of a cluster; adaxial heads the second
    assert "adaxial" in adjectives


def test_the_candidates_of_csps_code_lack_persons_groups_quantities_and_pertainyms() -> None:
    everything, csp = ({text for text, _ in named_candidates(name)} for name in ("neglabel", "csp"))
    assert csp < everything
    assert {"accountant", "centiliter", "uric"} < everything - csp
    assert {"guitar", "sapphire", "beautiful", "avenged"} < csp
    assert "antipodal" in csp  # a noun of relations too
    assert len(csp) == 56_620


def test_conjugated_adjectives_have_a_superclass_drawn_by_the_seed() -> None:
    candidates = [Candidate("anvil", "noun"), *(Candidate(f"odd {n}", "adj") for n in range(300))]
    phrases = conjugated(candidates, 7)
    assert phrases[0] == Candidate("anvil", "noun")
    assert [phrase.text.rsplit(" ", 1)[0] for phrase in phrases[1:]] == [f"odd {n}" for n in range(300)]
    assert {phrase.part_of_speech for phrase in phrases[1:]} == {"adj"}
    superclasses = {phrase.text.rsplit(" ", 1)[1] for phrase in phrases[1:]}
    assert len(superclasses) == 14
    assert {"creature", "landscape", "thing"} <= superclasses
    assert conjugated(candidates, 7) == phrases != conjugated(candidates, 8)
