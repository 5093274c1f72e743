"""The world as ordinary folders, seen by the code that reads ordinary folders."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synood_cli.data.captions_file import CaptionsFile
from synood_cli.data.folders import class_text, scan_classes, scan_images
from synood_cli.data.images import read_image
from synood_cli.data.suites import find_suite, read_suite
from synood_cli.data.vocabulary import read_vocabulary
from synood_cli.data.wordnet import read_candidates
from synood_cli.playground.concepts import all_concepts, vocabulary
from synood_cli.playground.export import export, image_sets
from synood_cli.playground.scenes import Scene
from synood_cli.playground.world import Split, World

TRAIN, TEST, CLASSES = 2, 1, 40
OOD = ("near", "context-only", "far", "textures")


def write(folder: Path, seed: int = 0) -> list[None]:
    """Export a small world; returns one entry an image that was counted."""
    counted: list[None] = []
    world = World(seed)
    sets = image_sets(world, train=TRAIN, test=TEST, diagnostics=True)
    folder.mkdir()
    export(world, sets, folder, lambda: counted.append(None))
    return counted


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "world"
    assert len(write(folder)) == 2 * TRAIN * CLASSES + 2 * (1 + len(OOD)) * TEST * CLASSES
    return folder


def jpeg(scene: Scene) -> bytes:
    file = io.BytesIO()
    scene.image.save(file, "JPEG", quality=95)
    return file.getvalue()


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(("split", "each"), [("train", TRAIN), ("val", TEST), ("test", TEST)])
def test_in_distribution_folders_are_labelled_classes(exported: Path, split: str, each: int) -> None:
    scan = scan_classes(exported / split / "ind")
    names = [name for name, concept in all_concepts().items() if concept.group == "ind"]
    assert [class_text(name) for name in scan.classes] == sorted(names)
    assert len(scan.images) == each * CLASSES
    assert not scan.problems


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize(
    ("name", "group"), [("near", "near"), ("context-only", "ind"), ("far", "far"), ("textures", "texture")]
)
def test_ood_sets_are_as_large_as_the_in_distribution_set(exported: Path, split: str, name: str, group: str) -> None:
    images = scan_images(exported / split / "ood" / name).images
    assert len(images) == TEST * CLASSES
    concepts = {class_text(Path(image.name).parts[0]) for image in images}
    assert {all_concepts()[concept].group for concept in concepts} == {group}


def test_images_are_jpeg_of_the_worlds_size(exported: Path) -> None:
    path = exported / "test/ind/polar_bear/0000.jpg"
    with Image.open(path) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (64, 64), "RGB")
    assert path.read_bytes() == jpeg(World(0).scene("test", "polar bear", 0))


def test_nothing_comes_twice(exported: Path) -> None:
    images = [digest for name, digest in digests(exported).items() if name.endswith(".jpg")]
    assert len(set(images)) == len(images) == 560


@pytest.mark.parametrize("split", ["val", "test"])
def test_context_only_scenes_are_not_those_of_the_in_distribution_set(exported: Path, split: Split) -> None:
    following = World(0).scene(split, "panda", TEST)
    assert (exported / split / "ood/context-only/panda/0000.jpg").read_bytes() == jpeg(following.without_main())


def test_boundary_images_pair_with_training_images(exported: Path) -> None:
    pairs = [path.relative_to(exported / "boundary") for path in (exported / "boundary").rglob("*.jpg")]
    assert len(pairs) == TRAIN * CLASSES
    for pair in pairs[:10]:
        with_main, without = (np.asarray(read_image(exported / d / pair), float) for d in ("train/ind", "boundary"))
        changed = np.abs(with_main - without).max(axis=2) > 24
        assert 0.02 < changed.mean() < 0.7


def test_captions_tell_elements_and_background_of_every_training_image(exported: Path) -> None:
    captions = CaptionsFile(exported / "captions.jsonl")
    assert not captions.problems
    images = scan_classes(exported / "train/ind").images
    assert len(captions) == len(images)
    for image in images:
        caption = captions.find(image)
        assert caption is not None
        number = int(Path(image.name).stem)
        scene = World(0).scene("train", class_text(image.class_name), number)
        assert caption.elements == [*scene.elements, scene.background]


def test_word_lists(exported: Path) -> None:
    assert read_vocabulary(exported / "vocabulary.txt") == vocabulary()
    candidates = read_candidates(exported / "candidates.txt")
    words = [candidate.text for candidate in candidates]
    assert {candidate.part_of_speech for candidate in candidates} == {"noun"}
    assert len(words) == len(set(words)) == len((exported / "candidates.txt").read_text().splitlines())
    assert {"leopard", "bamboo", "guitar", "honeycomb", "night sky", "democracy"} <= set(words)
    assert not {name for name, concept in all_concepts().items() if concept.group == "ind"} & set(words)


def test_the_same_seed_gives_the_same_files_and_another_seed_others(exported: Path, tmp_path: Path) -> None:
    write(tmp_path / "again")
    write(tmp_path / "other", seed=1)
    first, other = digests(exported), digests(tmp_path / "other")
    assert digests(tmp_path / "again") == first
    assert other.keys() == first.keys()
    same = ["candidates.txt", "test.toml", "val.toml", "vocabulary.txt"]
    assert sorted(name for name in first if first[name] == other[name]) == same


def test_the_suites_are_what_was_written(exported: Path) -> None:
    for split in ("val", "test"):
        suite = read_suite(str(exported / f"{split}.toml"))
        assert suite.groups == {"near": ["near", "context-only"], "far": ["far", "textures"]}
        found = find_suite(suite, exported)
        assert not found.differences
        assert {name: len(images.images) for name, images in found.sets.items()} == {
            name: len(scan_images(exported / place).images)
            for name, place in {"ind": f"{split}/ind", **{name: f"{split}/ood/{name}" for name in suite.ood}}.items()
        }


def test_diagnostics_are_made_on_demand_only() -> None:
    assert "boundary" not in image_sets(World(0), train=1, test=1, diagnostics=False)


def test_a_set_is_spread_evenly_over_its_concepts() -> None:
    far = image_sets(World(0), train=1, test=3, diagnostics=False)["test/ood/far"]
    assert len(far) == 120
    assert sum(path.endswith("/0000.jpg") for path in far) == 101
    assert sum(path.endswith("/0001.jpg") for path in far) == 19


def test_a_set_smaller_than_its_concepts_takes_some_of_each_kind() -> None:
    far = image_sets(World(0), train=1, test=1, diagnostics=False)["test/ood/far"]
    places = [World(0).names("far").index(scene.main or "") for scene in far.values()]
    assert len(places) == 40
    assert set(np.diff(places)) == {2, 3}
    assert min(places) == 0
    assert max(places) == 98
