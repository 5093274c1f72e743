"""The images of a selection, as the later stages take them up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from synood_cli.data.known_files import CHANGED, KnownFile
from synood_cli.records import composed
from synood_cli.store.draft import Draft
from synood_cli.store.store import Artifact, Store


class SelectedImage(NamedTuple):
    """One photograph of a selection. `rank` 1 is the most complex of its class."""

    image_id: int
    sha256: str
    path: Path
    name: str
    class_name: str
    rank: int
    bytes: int

    @property
    def place(self) -> KnownFile:
        """Where it is read, as long as it is what was selected."""
        return KnownFile(self.path, self.sha256)

    def changed(self) -> bool:
        """Whether another file lies at `path` by now, as far as its size tells; one that is gone has not changed."""
        return self.path.is_file() and self.path.stat().st_size != self.bytes


def selected_images(store: Store, selection: Artifact, limit: int | None = None) -> list[SelectedImage]:
    """The selected photographs by rank, then class: any first part of them covers the classes evenly.

    `limit` keeps the first so many.
    """
    chosen = []
    for row in store.rows(selection, "selected_images"):
        image = store.image(row["image_id"])
        chosen.append(
            SelectedImage(
                row["image_id"],
                image["sha256"],
                image["path"],
                image["name"],
                composed(row["class_name"]),
                row["rank"],
                image["bytes"],
            )
        )
    chosen.sort(key=lambda image: (image.rank, image.class_name, image.name))
    return chosen[:limit]


def unchanged(draft: Draft, images: Sequence[SelectedImage]) -> list[SelectedImage]:
    """The images that are still what was selected; the others become failures of `draft`."""
    for image in images:
        if image.changed():
            draft.fail(image.name, CHANGED)
    return [image for image in images if not image.changed()]


def class_folders(store: Store, selection: Artifact) -> list[str]:
    """Names of the class folders of a selection, sorted: the order of the InD labels and of g's logits."""
    return sorted({composed(row["class_name"]) for row in store.rows(selection, "selected_images")})
