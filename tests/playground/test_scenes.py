"""What a scene shows is what it says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from synood_cli.playground.backgrounds import BACKGROUNDS
from synood_cli.playground.canvas import SIZE
from synood_cli.playground.scenes import Placement, Scene, cut_out
from synood_cli.playground.textures import TEXTURES, paint_texture
from synood_cli.playground.world import World

WORLD = World(0)

STAR = Placement("star", "star", "noto", 20, 32, 32, 0, False, 0, 1, 1)
PANDA = STAR._replace(concept="panda", emoji="panda_face", side=40)
OTTER = PANDA._replace(concept="otter", emoji="otter")


def pixels(scene: Scene) -> NDArray[np.int16]:
    return np.asarray(scene.image, dtype=np.int16)


def opacity(placement: Placement) -> NDArray[np.float64]:
    """How opaque the thing is at each pixel of a canvas with a margin of SIZE around the image."""
    _, mask = cut_out(placement)
    canvas = np.zeros((3 * SIZE, 3 * SIZE))
    left, top = round(placement.x - mask.width / 2) + SIZE, round(placement.y - mask.height / 2) + SIZE
    canvas[top : top + mask.height, left : left + mask.width] = np.asarray(mask) / 255
    return canvas


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (
            Scene((1,), "beach", behind=(STAR,), main_object=PANDA, in_front=(STAR._replace(concept="egg"),)),
            "a photo of a panda, star and egg, beach behind",
        ),
        (Scene((1,), "sea", main_object=OTTER), "a photo of an otter, sea behind"),
        (Scene((1,), "sky", behind=(STAR,)), "a photo of star, sky behind"),
        (Scene((1,), "zigzag"), "a photo of zigzag"),
    ],
)
def test_the_caption_names_everything(scene: Scene, caption: str) -> None:
    assert scene.caption() == caption


def test_without_its_main_object_a_scene_keeps_the_rest() -> None:
    scene = Scene((5,), "lawn", behind=(STAR._replace(x=8, y=8),), main_object=PANDA)
    alone = scene.without_main()
    assert (alone.main, alone.elements, alone.background) == (None, ["star"], "lawn")
    changed = np.abs(pixels(scene) - pixels(alone)).max(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert changed[28:36, 28:36].mean() > 0.9
    # The panda's box is 40 pixels about the centre; blur and JPEG's blocks of 16 pixels may carry it no further.
    assert min(rows.min(), columns.min()) >= 32 - 20 - 16


@pytest.mark.parametrize("angle", [-35.0, 0.0, 20.0])
@pytest.mark.parametrize("side", [12, 22, 24, 25, 48])
def test_a_thing_is_as_large_as_it_says_however_it_is_turned(side: int, angle: float) -> None:
    for emoji in ("giraffe_face", "snake", "ladder", "star"):
        picture, mask = cut_out(STAR._replace(emoji=emoji, side=side, angle=angle))
        assert max(picture.size) == side
        assert picture.size == mask.size


def test_flipping_mirrors_the_picture() -> None:
    plain, _ = cut_out(PANDA._replace(emoji="fox_face"))
    mirrored, _ = cut_out(PANDA._replace(emoji="fox_face", flip=True))
    difference = np.abs(np.asarray(mirrored, dtype=int) - np.asarray(plain, dtype=int)[:, ::-1])
    assert difference.mean() < 2


def test_saturation_zero_is_grey_of_the_same_luma() -> None:
    colour, mask = cut_out(STAR)
    grey, _ = cut_out(STAR._replace(saturation=0.0))
    opaque = np.asarray(mask) == 255
    channels = np.asarray(grey, dtype=int)[opaque]
    assert np.ptp(channels, axis=1).max() <= 1
    luma = np.asarray(colour, dtype=float)[opaque] @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(channels[:, 0], luma, atol=1.5)


def test_brightness_scales_the_colours() -> None:
    bright, mask = cut_out(STAR)
    dark, _ = cut_out(STAR._replace(brightness=0.5))
    opaque = np.asarray(mask) == 255
    np.testing.assert_allclose(np.asarray(dark)[opaque], np.asarray(bright)[opaque] / 2, atol=1)


def test_everything_that_is_named_is_visible() -> None:
    seen: list[float] = []
    for concept in WORLD.names("ind"):
        for index in range(5):
            scene = WORLD.scene("train", concept, index)
            things = [thing for thing in (*scene.behind, scene.main_object, *scene.in_front) if thing]
            assert sorted(thing.concept for thing in things) == sorted([concept, *scene.elements])
            masks = [opacity(thing) for thing in things]
            for place, mask in enumerate(masks):
                visible = mask * np.prod([1 - other for other in masks[place + 1 :]], axis=0)
                seen.append(visible[SIZE : 2 * SIZE, SIZE : 2 * SIZE].sum() / mask.sum())
    assert len(seen) > 600
    assert min(seen) > 0.4
    assert np.quantile(seen, 0.05) > 0.75


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_backgrounds_vary_and_fill_the_range(name: str) -> None:
    first, second = (BACKGROUNDS[name](np.random.default_rng(seed)) for seed in (1, 2))
    assert first.shape == (SIZE, SIZE, 3)
    assert np.abs(first - second).mean() > 3
    assert 0 < first.mean() < 255
    assert first.std() > 5


def test_backgrounds_look_different_from_each_other() -> None:
    means = {
        name: np.mean([paint(np.random.default_rng(seed)).mean(axis=(0, 1)) for seed in range(8)], axis=0)
        for name, paint in BACKGROUNDS.items()
    }
    assert means["lawn"].argmax() == 1
    assert means["sea"].argmax() == 2
    assert means["desert"][0] > means["desert"][2] + 30
    assert means["night sky"].max() < 100 < means["snow"].min()


@pytest.mark.parametrize("name", TEXTURES)
def test_textures_have_two_colours_and_vary(name: str) -> None:
    first, second = (paint_texture(np.random.default_rng(seed), name) for seed in (1, 2))
    assert first.shape == (SIZE, SIZE, 3)
    assert np.abs(first - second).mean() > 10
    assert first.std(axis=(0, 1)).max() > 15


def test_tiled_pictures_repeat() -> None:
    image = pixels(WORLD.scene("test", "star pattern", 0)).astype(float).mean(axis=2)
    image -= image.mean()
    # Every other row of tiles lies alike: some shift of two steps, 26 to 44 pixels, brings the image onto itself.
    likeness = [np.corrcoef(image[:-shift].ravel(), image[shift:].ravel())[0, 1] for shift in range(26, 45)]
    assert max(likeness) > 0.7
