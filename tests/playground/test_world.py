"""Scenes are functions of (seed, split, concept, index), drawn as the world's numbers say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from synood_cli.errors import UsageError
from synood_cli.playground.backgrounds import BACKGROUNDS
from synood_cli.playground.scenes import Scene
from synood_cli.playground.world import ELEMENT_SIDE, ELEMENTS, MAIN_SIDE, PREFERRED, SPLITS, World

WORLD = World(0)


@pytest.fixture(scope="module")
def ind_scenes() -> list[Scene]:
    """Fifty scenes of each in-distribution concept, not drawn."""
    return [WORLD.scene("train", concept, index) for concept in WORLD.names("ind") for index in range(50)]


def test_the_same_question_gives_the_same_bytes() -> None:
    for concept in ("panda", "guitar", "stripes", "leaf pattern"):
        again = World(0).scene("train", concept, 3)
        assert again == WORLD.scene("train", concept, 3)
        assert again.image.tobytes() == WORLD.scene("train", concept, 3).image.tobytes()


def test_seed_split_concept_and_index_all_matter() -> None:
    scenes = [
        World(seed).scene(split, concept, index)
        for seed in (0, 1)
        for split in SPLITS
        for concept in ("fox", "wolf", "rings")
        for index in range(4)
    ]
    assert len({scene.key for scene in scenes}) == len(scenes) == 72
    assert len({scene.image.tobytes() for scene in scenes}) == 72


def test_a_batch_is_its_scenes_drawn() -> None:
    batch = WORLD.batch("val", [("cat", 0), ("spiral", 7), ("cat", 0)])
    assert (batch.pixels.shape, batch.pixels.dtype) == ((3, 64, 64, 3), np.uint8)
    for pixels, scene in zip(batch.pixels, batch.scenes, strict=True):
        assert pixels.tobytes() == scene.image.tobytes()
    assert [scene.main for scene in batch.scenes] == ["cat", None, "cat"]
    assert batch.pixels[0].tobytes() == batch.pixels[2].tobytes() != batch.pixels[1].tobytes()


def test_an_unknown_concept_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'gryphon'"):
        WORLD.scene("train", "gryphon", 0)


def test_sizes_and_numbers_of_things_span_their_ranges(ind_scenes: list[Scene]) -> None:
    mains = [scene.main_object.side for scene in ind_scenes if scene.main_object]
    assert (min(mains), max(mains), len(mains)) == (*MAIN_SIDE, 2000)
    sides = [element.side for scene in ind_scenes for element in (*scene.behind, *scene.in_front)]
    assert (min(sides), max(sides)) == ELEMENT_SIDE
    numbers = Counter(len(scene.elements) for scene in ind_scenes)
    assert (min(numbers), max(numbers)) == ELEMENTS
    assert min(numbers.values()) > 2000 / 3 - 100
    assert all(len(set(scene.elements)) == len(scene.elements) for scene in ind_scenes)


def test_context_tells_of_the_main_object(ind_scenes: list[Scene]) -> None:
    backgrounds = [scene.background in WORLD.concepts[scene.main or ""].backgrounds for scene in ind_scenes]
    # Preferred with probability p, or by chance: 2 of the 18 are the preferred ones.
    by_chance = 2 / len(BACKGROUNDS)
    assert np.mean(backgrounds) == pytest.approx(PREFERRED + (1 - PREFERRED) * by_chance, abs=0.03)
    first = [(scene.elements[0], WORLD.concepts[scene.main or ""].context) for scene in ind_scenes]
    assert 0.62 < np.mean([element in preferred for element, preferred in first]) < 0.78


def test_far_objects_stand_anywhere() -> None:
    scenes = [WORLD.scene("train", concept, index) for concept in WORLD.names("far") for index in range(10)]
    assert {scene.background for scene in scenes} == BACKGROUNDS.keys()
    counts = Counter(element for scene in scenes for element in scene.elements)
    assert counts.keys() == set(WORLD.names("context"))
    assert max(counts.values()) < 3 * min(counts.values())


def test_a_context_thing_as_main_object_is_not_its_own_element() -> None:
    scenes = [WORLD.scene("train", "bamboo", index) for index in range(200)]
    assert {scene.main for scene in scenes} == {"bamboo"}
    assert not any("bamboo" in scene.elements for scene in scenes)


def test_all_styles_poses_and_pictures_come_up(ind_scenes: list[Scene]) -> None:
    tigers = [scene.main_object for scene in ind_scenes if scene.main == "tiger" and scene.main_object]
    assert {(tiger.emoji, tiger.style) for tiger in tigers} == {
        (emoji, style) for emoji in ("tiger", "tiger2") for style in ("noto", "twemoji", "fluent")
    }
    assert {tiger.flip for tiger in tigers} == {True, False}
    assert max(abs(tiger.angle) for tiger in tigers) <= 35
