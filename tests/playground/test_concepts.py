"""The concept table and the word lists."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import pytest

from synood_cli.data.wordnet import synonyms_of
from synood_cli.method.elements import remove_main_object
from synood_cli.playground.backgrounds import BACKGROUNDS
from synood_cli.playground.concepts import all_concepts, ordinary_nouns, vocabulary
from synood_cli.playground.sprites import STYLES, small_sprite, sprite

IND = [concept for concept in all_concepts().values() if concept.group == "ind"]


def test_the_groups_are_as_large_as_documented() -> None:
    counts = Counter(concept.group for concept in all_concepts().values())
    assert counts == {"ind": 40, "near": 40, "context": 69, "far": 101, "texture": 20}


def test_every_table_row_is_a_concept_of_its_own() -> None:
    lines = (files("synood_cli.playground") / "concepts.csv").read_text(encoding="utf-8").splitlines()
    drawn = [concept for concept in all_concepts().values() if concept.group != "texture"]
    assert len(drawn) == len(lines) - 1  # a name that came twice would have replaced its first row
    emoji = [name for concept in drawn for name in concept.emoji]
    assert len(emoji) == len(set(emoji))
    assert not set(all_concepts()) & set(BACKGROUNDS)


@pytest.mark.parametrize("group", ["ind", "near"])
def test_animals_prefer_four_context_things_and_two_backgrounds(group: str) -> None:
    context = {concept.name for concept in all_concepts().values() if concept.group == "context"}
    for concept in all_concepts().values():
        if concept.group == group:
            assert len(set(concept.context) & context) == 4, concept.name
            assert len(set(concept.backgrounds) & BACKGROUNDS.keys()) == 2, concept.name


@pytest.mark.parametrize("style", STYLES)
def test_every_concept_has_its_pictures(style: str) -> None:
    for concept in all_concepts().values():
        for emoji in concept.emoji:
            picture = sprite(style, emoji)
            assert picture.mode == "RGBa"
            assert max(picture.size) == 48
            assert picture.getbbox() == (0, 0, *picture.size)
            assert max(small_sprite(style, emoji).size) == 24


def test_no_element_is_taken_for_the_main_object() -> None:
    for concept in IND:
        assert remove_main_object(vocabulary(), concept.name, synonyms_of(concept.name)) == vocabulary(), concept.name


def test_no_candidate_means_an_in_distribution_class() -> None:
    others = {concept.name for concept in all_concepts().values() if concept.group != "ind"}
    candidates = others | set(vocabulary()) | set(ordinary_nouns())
    for concept in IND:
        assert not candidates & {concept.name, *synonyms_of(concept.name)}, concept.name


def test_ordinary_nouns_name_nothing_of_the_world() -> None:
    nouns = ordinary_nouns()
    assert len(nouns) == len(set(nouns)) > 500
    assert not set(nouns) & {*all_concepts(), *vocabulary()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("LICENSE-NOTO", "Apache License"),
        ("LICENSE-TWEMOJI", "Attribution 4.0 International"),
        ("LICENSE-FLUENT", "Microsoft Corporation"),
    ],
)
def test_the_pictures_come_with_licences_and_credits(name: str, words: str) -> None:
    folder = files("synood_cli.playground") / "sprites"
    assert words in (folder / name).read_text(encoding="utf-8")
    assert f"see {name}" in (folder / "NOTICE").read_text(encoding="utf-8")
