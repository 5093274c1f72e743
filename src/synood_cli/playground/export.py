"""The miniature world as ordinary folders of JPEG files and lists, so that every command sees ordinary data.

    train/ind/CONCEPT/0000.jpg        in-distribution scenes, so many of each concept
    {val,test}/ind/CONCEPT/0000.jpg   the same of the other splits
    {val,test}/ood/SET/NAME/0000.jpg  OOD sets, each as many images as ind, spread evenly over its names:
        near            other animals, among the elements and before the backgrounds that they prefer
        context-only    in-distribution scenes with the main object gone, by its name
        far             vehicles, food, buildings, instruments, clothes
        textures        patterns without any object
    boundary/CONCEPT/0000.jpg         diagnostics: train/ind/CONCEPT/0000.jpg with its main object gone, which is the
                                      ideal near-boundary image of that image
    {val,test}.toml                   the two as suites, for `eval --suite`; near and context-only are the group near,
                                      far and textures the group far
    captions.jsonl                    elements and background of every image of train/ind
    vocabulary.txt                    every context element and background
    candidates.txt                    candidates for negative labels: all names of the world but the in-distribution
                                      ones, and nouns that name nothing in it

Names of folders have underscores for spaces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from synood_cli.playground.concepts import Group, ordinary_nouns, vocabulary
from synood_cli.playground.scenes import Scene
from synood_cli.playground.world import Split, World

JPEG_QUALITY = 95

OOD_SETS: dict[str, Group] = {"near": "near", "context-only": "ind", "far": "far", "textures": "texture"}
"""Name of an OOD set → the concepts that it is made of."""

HELD_OUT: tuple[Split, ...] = ("val", "test")

GROUPS = {"near": "near", "context-only": "near", "far": "far", "textures": "far"}
"""Name of an OOD set → the group that it is averaged in."""

Images = dict[str, Scene]
"""Path of a file, relative to its set's folder → what it shows."""


def image_sets(world: World, *, train: int, test: int, diagnostics: bool) -> dict[str, Images]:
    """The images of an export, not yet drawn, by the folder of their set.

    `train` and `test` are the images of each in-distribution concept in train, and in val and test alike.
    """
    classes = world.names("ind")
    sets = {"train/ind": _images(world, "train", classes, train * len(classes))}
    for split in HELD_OUT:
        total = test * len(classes)
        sets[f"{split}/ind"] = _images(world, split, classes, total)
        for name, group in OOD_SETS.items():
            # Scenes of their own, not those of `ind`: numbered from where these end.
            start = test if group == "ind" else 0
            images = _images(world, split, world.names(group), total, start)
            sets[f"{split}/ood/{name}"] = _without_main(images) if group == "ind" else images
    if diagnostics:
        sets["boundary"] = _without_main(sets["train/ind"])
    return sets


def export(world: World, sets: dict[str, Images], folder: Path, advance: Callable[[], None]) -> None:
    """Draw and write `sets`, and the lists, into the empty `folder`; `advance` is called after each image.

    The same world and sets give the same bytes.
    """
    for name, images in sets.items():
        for path, scene in images.items():
            file = folder / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            scene.image.save(file, "JPEG", quality=JPEG_QUALITY)
            advance()
    for split in HELD_OUT:
        _write_lines(folder / f"{split}.toml", _suite(split))
    candidates = [name for name, concept in world.concepts.items() if concept.group != "ind"]
    _write_lines(folder / "captions.jsonl", _captions("train/ind", sets["train/ind"]))
    _write_lines(folder / "vocabulary.txt", vocabulary())
    words = dict.fromkeys([*candidates, *vocabulary(), *ordinary_nouns()])
    _write_lines(folder / "candidates.txt", (f"noun,{word}" for word in words))


def _images(world: World, split: Split, concepts: list[str], total: int, start: int = 0) -> Images:
    """`total` scenes spread evenly over the concepts, numbered from `start`; their files are numbered from 0."""
    images: Images = {}
    numbers = dict.fromkeys(concepts, 0)
    for place in range(total):
        concept = concepts[place * len(concepts) // total]
        number = numbers[concept]
        numbers[concept] += 1
        images[f"{concept.replace(' ', '_')}/{number:04}.jpg"] = world.scene(split, concept, start + number)
    return images


def _without_main(images: Images) -> Images:
    return {path: scene.without_main() for path, scene in images.items()}


def _suite(split: Split) -> Iterable[str]:
    yield f'description = "The playground, {split} images"'
    yield f'ind.place = "{split}/ind"'
    for name, group in GROUPS.items():
        yield f'ood.{name} = {{ place = "{split}/ood/{name}", group = "{group}" }}'


def _captions(folder: str, images: Images) -> Iterable[str]:
    for path, scene in images.items():
        yield json.dumps({"image": f"{folder}/{path}", "elements": [*scene.elements, scene.background]})


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
