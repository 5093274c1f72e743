import pytest
from hypothesis import given
from hypothesis import strategies as st

from synood_cli.errors import ItemError, UsageError
from synood_cli.method.elements import fit_prompt, parse_elements, remove_main_object

TEMPLATE = "A photo only remain {elements}."


@pytest.mark.parametrize(
    ("raw", "elements"),
    [
        ("sky, grass, fence", ["sky", "grass", "fence"]),
        ("Sky; the grass\na fence.", ["sky", "grass", "fence"]),
        ("The elements are: a sky, the grass, and a wooden fence.", ["sky", "grass", "wooden fence"]),
        ("1. Sky\n2. Green grass\n3) a fence", ["sky", "green grass", "fence"]),
        ("1. sky 2. grass 3. sea", ["sky", "grass", "sea"]),
        ("- sky\n* grass\n• sea", ["sky", "grass", "sea"]),
        ("- **Sky**: a clear, blue sky\n- *Trees* – tall and green\n• Bench (wooden, old)", ["sky", "trees", "bench"]),
        ('["Sky", "a tree", 3]', ["sky", "tree"]),
        ('```json\n{"elements": ["Sky", "grass"]}\n```', ["sky", "grass"]),
        ("['sky', 'grass']", ["sky", "grass"]),
        ("In the background, there are trees, a bench and people.", ["trees", "bench", "people"]),
        ("Besides the dog, the image contains a leash and a ball.", ["leash", "ball"]),
        ("The image shows a road. There is also a car.", ["road", "car"]),
        ("Sure! Here are the elements: sky, grass. Hope this helps!", ["sky", "grass"]),
        ("sky, Sky, the sky", ["sky"]),
        ("sand, sandcastle, black-and-white dress", ["sand", "sandcastle", "black-and-white dress"]),
        ("rock & roll as well as blues", ["rock", "roll", "blues"]),
        ("sky\x07, \x00grass, sea\u202e", ["sky", "grass", "sea"]),
        ("草、天空，树", ["草", "天空", "树"]),
        ("There are no other elements.", []),
        ("None", []),
        ("[" * 5000 + "]", []),
        ("", []),
    ],
)
def test_reads_the_answers_that_captioners_give(raw, elements):
    assert parse_elements(raw) == elements


@given(st.text())
def test_any_answer_gives_clean_unique_elements(raw):
    elements = parse_elements(raw)
    assert len(set(elements)) == len(elements)
    assert all(e and e == e.strip() and e == e.lower() and "," not in e and "\n" not in e for e in elements)


@given(st.lists(st.text("bcdfgklmprs", min_size=3, max_size=8), unique=True))
def test_what_was_written_as_a_list_is_read_back(elements):
    assert parse_elements(", ".join(elements)) == elements
    assert parse_elements("\n".join(f"{i}. {e}" for i, e in enumerate(elements, 1))) == elements


@pytest.mark.parametrize(
    ("class_name", "synonyms", "dropped", "kept"),
    [
        ("car", [], ["car", "red cars", "car wheel", "the car's door"], ["carpet", "scar", "cart"]),
        ("giant panda", [], ["panda", "giant pandas", "red panda"], ["giant rock", "bamboo"]),
        ("wolf", [], ["wolves", "grey wolf"], ["wolverine"]),
        ("city", [], ["cities"], ["citizen"]),
        ("bus", [], ["buses"], ["bush"]),
        ("box", [], ["boxes"], ["boxer"]),
        ("knife", [], ["knives"], []),
        ("child", [], ["children", "grey child"], ["chill"]),
        ("fireman", [], ["firemen"], ["fire"]),
        ("goose", [], ["geese"], ["grass"]),
        ("mashed potatoes", [], ["potato", "mashed potato"], ["gravy"]),
        ("lily_of_the_valley", [], ["lilies"], ["valley"]),
        ("jack-o'-lantern", [], ["jack o lanterns", "lantern"], ["pumpkin patch"]),
        ("crane (bird)", [], ["cranes"], ["bird", "water"]),
        ("tench, Tinca tinca", [], ["tench", "tinca tinca"], ["fisherman"]),
        ("corgi", ["dog", "Welsh dogs"], ["brown dog", "dogs"], ["hotdog", "welsh flag"]),
        ("glass", [], ["glasses"], ["grass"]),
        ("", [], [], ["sky"]),
    ],
)
def test_the_main_object_is_dropped_as_whole_words(class_name, synonyms, dropped, kept):
    assert remove_main_object([*dropped, *kept], class_name, synonyms) == kept


def words(text: str) -> int:
    return len(text.split()) + 2


def test_whole_elements_are_dropped_until_the_prompt_fits():
    elements = ["blue sky", "green grass", "old fence"]
    everything = "A photo only remain blue sky, green grass, old fence."
    assert fit_prompt(elements, TEMPLATE, words, 12) == (everything, elements, 12)
    assert fit_prompt(elements, TEMPLATE, words, 11) == (
        "A photo only remain blue sky, green grass.",
        ["blue sky", "green grass"],
        10,
    )
    assert fit_prompt(elements, TEMPLATE, words, 8)[1:] == (["blue sky"], 8)


def test_a_prompt_that_cannot_fit_is_an_item_error():
    with pytest.raises(ItemError, match="longer than 7 tokens"):
        fit_prompt(["blue sky"], TEMPLATE, words, 7)
    with pytest.raises(ItemError, match="no element"):
        fit_prompt([], TEMPLATE, words, 77)
    with pytest.raises(UsageError, match="elements"):
        fit_prompt(["sky"], "A photo.", words, 77)


def test_braces_in_an_element_are_text():
    assert fit_prompt(["{x} sign"], TEMPLATE, words, 77)[0] == "A photo only remain {x} sign."
