"""A store, and a small study in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline import photograph
from report_study import make_captions, make_eval, make_heads, make_selection, make_synthetic, random_scores
from synood_cli.store.store import Artifact, Store
from synood_cli.store.workspace import Workspace

TRAJECTORIES = [(8.0, 4.0), (5.0, 2.5), (4.0, 1.0), (6.0, 2.0)]
"""Scores by iteration of two cats and two dogs; the boundary is 2."""


class Study(NamedTuple):
    """Everything from the photographs to eval@1."""

    photos: Path
    selection: Artifact
    captions: Artifact
    synthetic: Artifact
    heads: list[Artifact]
    evaluation: Artifact
    images: list[int]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(Workspace.create(tmp_path / "ws"), write=True) as opened:
        yield opened


@pytest.fixture
def study(store: Store, tmp_path: Path) -> Study:
    root = tmp_path / "photos"
    photos = {
        name: [photograph(root / name / f"{number}.jpg", 10 * place + number) for number in range(2)]
        for place, name in enumerate(("cat", "dog"))
    }
    selection, images = make_selection(store, root, photos)
    captions = make_captions(store, selection, images, "grass and sky")
    synthetic = make_synthetic(store, captions, dict(zip(images, TRAJECTORIES, strict=True)), "grass and sky")
    assigned = dict(zip(images, ("anvil", "cog", "anvil", "anvil"), strict=True))
    heads = make_heads(store, selection, synthetic, assigned, [3.0, 2.0, 1.5])
    folders = {"ind": "/data/ind", "far": "/data/far", "near": "/data/near"}
    evaluation = make_eval(store, heads, random_scores(["near", "far"], 60), folders)
    return Study(root, selection, captions, synthetic, heads, evaluation, images)
