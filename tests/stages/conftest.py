"""A store in a fresh workspace, runs without a command line, and photographs of three classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import Silent, photograph, redraw
from synood_cli.config import CaptionSettings, Execution, MineSettings, Models, SelectSettings
from synood_cli.stages.caption import caption
from synood_cli.stages.mine_labels import mine_labels
from synood_cli.stages.run import Run
from synood_cli.stages.select import select
from synood_cli.store.store import Artifact, Store
from synood_cli.store.workspace import Workspace

if TYPE_CHECKING:
    from checkpoints import Checkpoints


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(Workspace.create(tmp_path / "ws"), write=True) as store:
        yield store


@pytest.fixture
def make_run(store: Store) -> Callable[..., Run]:
    def make(**options: Any) -> Run:
        execution = Execution(device="cpu", batch_size=options.pop("batch_size", 4), workers=1)
        values: dict[str, Any] = {"store": store, "execution": execution, "progress": Silent(), "seed": 0, **options}
        return Run(**values)

    return make


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of four JPEGs, the classes that the tiny classifier knows."""
    root = tmp_path / "photos"
    for number, class_name in enumerate(("cat", "dog", "frog")):
        for index in range(4):
            photograph(root / class_name / f"{index}.jpg", 10 * number + index, detail=2 + 2 * index, quality=80)
    return root


@pytest.fixture
def models(checkpoints: Checkpoints) -> Models:
    """The tiny CLIP, inpainter and classifier."""
    folders = {"clip": checkpoints.clip, "inpainter": checkpoints.inpainter, "classifier": checkpoints.classifier}
    return Models(**{role: str(folder) for role, folder in folders.items()})


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    """Thirty-seven nouns, among them three that name a class, and twenty adjectives."""
    nouns = ["Cat", "dogs", "FROG", *(f"thing {number}" for number in range(34))]
    adjectives = [f"quality {number}" for number in range(20)]
    path = tmp_path / "candidates.txt"
    path.write_text("\n".join([*nouns, *(f"adj,{word}" for word in adjectives)]))
    return path


@pytest.fixture
def selection(make_run: Callable[..., Run], photos: Path) -> Artifact:
    return select(make_run(), SelectSettings(per_class=3), photos)


@pytest.fixture
def head(make_run: Callable[..., Run], models: Models, selection: Artifact, candidates: Path) -> Artifact:
    """A NegLabel head: 18 for 37 nouns, of which three name a class, and 10 of the 20 adjectives, in 4 groups."""
    return mine_labels(make_run(), MineSettings(share=0.5, groups=4), models, selection, candidates)


@pytest.fixture
def captions(make_run: Callable[..., Run], store: Store, selection: Artifact, tmp_path: Path) -> Artifact:
    """The same caption for every selected photograph."""
    names = [store.image(row["image_id"])["name"] for row in store.rows(selection, "selected_images")]
    file = tmp_path / "captions.jsonl"
    file.write_text("".join(json.dumps({"image": name, "elements": ["grass"]}) + "\n" for name in names))
    return caption(make_run(), CaptionSettings(), Models(), selection, file)


@pytest.fixture
def synthetic(store: Store, selection: Artifact) -> Artifact:
    """One other picture for each selected photograph, with the rows that `synthesize` writes."""
    return redraw(store, selection)
