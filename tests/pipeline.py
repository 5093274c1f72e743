"""What tests of the stages need: progress that can interrupt, and small photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from synood_cli.stages.selected import selected_images
from synood_cli.store.draft import Draft
from synood_cli.store.store import Artifact, Store


class Silent:
    """Progress that nobody sees; it interrupts the run after `stop_after` finished items, as Ctrl-C does."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.finished = 0
        self.started: list[tuple[str, int | None, int]] = []

    def start(self, what: str, total: int | None, done: int = 0) -> None:
        self.started.append((what, total, done))

    def advance(self, items: int = 1) -> None:
        self.finished += items
        if self.stop_after is not None and self.finished >= self.stop_after:
            raise KeyboardInterrupt


def photograph(path: Path, seed: int, size: tuple[int, int] = (48, 40), detail: int = 8, **options: Any) -> Path:
    """A picture of random patches of `detail` × `detail` pixels: the smaller, the more bytes per pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    width, height = size
    patches = random.integers(0, 256, (height // detail + 1, width // detail + 1, 3), dtype=np.uint8)
    pixels = patches.repeat(detail, axis=0).repeat(detail, axis=1)[:height, :width]
    Image.fromarray(pixels).save(path, **options)
    return path


def redraw(store: Store, selection: Artifact, broken: int | None = None) -> Artifact:
    """A synthetic artifact of random pictures, one a selected photograph; the file of number `broken` is no picture."""
    draft = Draft.begin(
        store, "synthetic", "synthesize", settings={}, inputs={"selection": selection}, models={}, seed=0
    )
    for number, image in enumerate(selected_images(store, selection)):
        path = f"images/{image.class_name}/{number}.png"
        content = photograph(draft.folder / path, 1000 + number, detail=4).read_bytes()
        content = b"no picture" if number == broken else content
        row = {
            "image_id": image.image_id,
            "path": path,
            "sha256": draft.write_file(path, content),
            "bytes": len(content),
            "width": 48,
            "height": 40,
            "format": "PNG",
            "prompt": "grass",
            "seed": 0,
            "kept_iteration": 1,
            "score": 0.0,
            "boundary": 0.0,
            "seconds": 0.0,
        }
        draft.commit({"synthetic_images": [row]}, [path], done=1)
    return draft.complete()
