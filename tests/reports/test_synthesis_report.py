"""Photographs beside their synthetic neighbours, and the mean trajectory."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from pipeline import photograph
from report_study import make_captions, make_heads, make_selection, make_synthetic
from synood_cli.reports.lineage import trace
from synood_cli.reports.pictures import SIDE, thumbnail
from synood_cli.reports.synthesis import PER_GROUP, synthesis
from synood_cli.store.store import Artifact, Store

if TYPE_CHECKING:
    from conftest import Study


def test_the_mean_trajectory_by_hand(store: Store, study: Study) -> None:
    found = synthesis(store, trace(store, study.evaluation))
    assert found is not None
    # distances to the boundary 2: 6, 3, 2, 4 at first; 2, 0.5, -1, 0 at last
    assert found.iterations == [(1, 4, 3.75, 3.75, 0.0), (2, 4, 0.375, 0.875, 0.5)]
    assert (found.images, found.boundary, found.ood_share) == (4, 2.0, 0.5)
    assert found.trajectory is not None
    assert [tick.label for tick in found.trajectory.x_ticks] == ["1", "2"]
    assert "3.75 at iteration 1, 0.875 at iteration 2" in found.trajectory.description


def test_an_example_by_hand(store: Store, study: Study) -> None:
    found = synthesis(store, trace(store, study.evaluation))
    assert found is not None
    [(title, examples)] = found.groups  # four images: all are nearest, none is left for the other groups
    assert title == "Nearest the boundary"
    assert [(example.name, example.first, example.last) for example in examples] == [
        ("dog/1.jpg", 4.0, 0.0), ("cat/1.jpg", 3.0, 0.5), ("dog/0.jpg", 2.0, -1.0), ("cat/0.jpg", 6.0, 2.0),
    ]  # fmt: skip
    first = examples[0]
    assert (first.class_name, first.prompt, first.top1, first.top1_probability) == (
        "dog",
        "grass and sky",
        "frog",
        0.625,
    )
    assert first.assigned == ("anvil", 0.5)
    assert (first.kept, first.iterations) == (2, 2)
    assert first.photograph.url
    assert first.synthetic.url


@pytest.fixture
def crowd(store: Store, tmp_path: Path) -> Artifact:
    """Thirty images of three classes; image k of all ends at distance k from the boundary 2, on either side."""
    root = tmp_path / "photos"
    names = ("cat", "dog", "frog")
    photos = {name: [photograph(root / name / f"{k}.jpg", k, size=(8, 8)) for k in range(10)] for name in names}
    selection, ids = make_selection(store, root, photos)
    captions = make_captions(store, selection, ids, "sky")
    ends = {image: [40.0, 2.0 + k * (-1) ** k] for k, image in enumerate(ids)}
    return make_synthetic(store, captions, ends, "sky")


def test_the_groups_are_disjoint_and_every_class_has_its_turn(store: Store, crowd: Artifact) -> None:
    found = synthesis(store, trace(store, crowd))
    assert found is not None
    groups = dict(found.groups)
    assert list(groups) == ["Nearest the boundary", "Farthest from the boundary", "At random"]
    assert [len(examples) for examples in groups.values()] == [PER_GROUP] * 3
    names = [example.name for examples in groups.values() for example in examples]
    assert len(set(names)) == 24
    # cats lie at distances 0-9, dogs at 10-19, frogs at 20-29
    distances = [abs(example.last) for example in groups["Nearest the boundary"]]
    assert distances == [0, 10, 20, 1, 11, 21, 2, 12]
    assert [abs(example.last) for example in groups["Farthest from the boundary"]] == [29, 19, 9, 28, 18, 8, 27, 17]
    taken = {0, 10, 20, 1, 11, 21, 2, 12, 29, 19, 9, 28, 18, 8, 27, 17}
    rows = store.rows(crowd, "synthetic_images")
    seeds = {number: row["seed"] for number, row in enumerate(rows) if number not in taken}
    by_class = [sorted((n for n in seeds if n // 10 == place), key=lambda n: seeds[n]) for place in range(3)]
    expected = [number for turn in range(4) for number in sorted(row[turn] for row in by_class if turn < len(row))]
    random = [abs(example.last) for example in groups["At random"]]
    assert set(random[:3]) == set(expected[:3])
    assert set(random[3:6]) == set(expected[3:6])
    assert all(example.assigned is None for examples in groups.values() for example in examples)


def test_a_photograph_that_is_gone_leaves_its_place_empty(store: Store, study: Study) -> None:
    (study.photos / "dog/1.jpg").unlink()
    (study.photos / "cat/1.jpg").write_bytes(b"no picture")
    found = synthesis(store, trace(store, study.evaluation))
    assert found is not None
    gone, broken, *_ = found.groups[0][1]
    assert gone.photograph == (None, "no such file or folder")
    assert broken.photograph.problem.startswith("not a picture that can be read")
    assert gone.synthetic.url


def test_without_synthetic_images_there_is_no_such_part(store: Store, study: Study) -> None:
    assert synthesis(store, trace(store, study.captions)) is None
    assert synthesis(store, trace(store, study.heads[0])) is None


def test_assignments_come_from_the_newest_head_that_has_them(store: Store, study: Study) -> None:
    later = make_heads(store, study.selection, study.synthetic, dict.fromkeys(study.images, "damp"), [1.0])
    found = synthesis(store, trace(store, later[2]))
    assert found is not None
    assert {example.assigned.label for example in found.groups[0][1] if example.assigned} == {"damp"}


def test_a_thumbnail_keeps_the_proportions_and_is_never_enlarged(tmp_path: Path) -> None:
    for size, expected in (((600, 300), (SIDE, SIDE // 2)), ((40, 20), (40, 20))):
        picture = thumbnail(photograph(tmp_path / f"{size[0]}.png", 3, size=size, detail=size[0] // 4))
        assert picture.url is not None
        kind, _, content = picture.url.partition(",")
        assert kind == "data:image/jpeg;base64"
        with (
            Image.open(io.BytesIO(base64.b64decode(content))) as shown,
            Image.open(tmp_path / f"{size[0]}.png") as full,
        ):
            assert shown.size == expected
            corner = [shown.getpixel((2, 2)), full.convert("RGB").getpixel((2, 2))]
            assert corner[0] == pytest.approx(corner[1], abs=12)
