"""Select (Sec. 3.4): the most complex images of each in-distribution class."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from synood_cli.config import SelectSettings
from synood_cli.data.image_sets import ImageSet, images_fingerprint, set_fingerprint
from synood_cli.data.images import ImageHeader, complexity_bytes, image_header, read_picture
from synood_cli.data.sources import find_images
from synood_cli.errors import ItemError, UsageError
from synood_cli.method.complexity import complexity, top_complex
from synood_cli.records import ImageFile, printable
from synood_cli.stages.class_names import numbered_class
from synood_cli.stages.image_sets import labels_digest
from synood_cli.stages.run import Run, complete
from synood_cli.store.draft import Draft
from synood_cli.store.files import sha256_bytes
from synood_cli.store.store import Artifact

CHANGED = "has changed while photographs were selected; run the same command again"


class Measured(NamedTuple):
    """The complexity of one image, and what it was computed from."""

    image: ImageFile
    header: ImageHeader
    bytes: int
    how: str

    @property
    def complexity(self) -> float:
        return complexity(self.bytes, self.header.width, self.header.height)


def select(run: Run, settings: SelectSettings, photos: Path, data_root: Path | None = None) -> Artifact:
    """Rank the images of each class of `photos` (class folders, or a list file whose paths start from `data_root`) by
    bytes per pixel and keep the top `per_class`.

    An image that cannot be decoded is a failure and the next complex one takes its place. A class with fewer images
    than asked is kept as it is and noted. A finished class is stored before the next begins.
    """
    found = _photographs(photos, data_root)
    run.passed_over.add(found.strays)
    if settings.classes:
        found = found.renamed({name: numbered_class(name, settings.classes) for name in found.classes})
    images = found.files
    digests = {
        "photos": set_fingerprint(found, images_fingerprint(images)),
        "labels": labels_digest(images, {}),
        "root": sha256_bytes(os.fsencode(images[0].root)),  # later stages look for them there
    }
    draft = run.begin(
        "selection",
        "select",
        items=len(images),
        settings=settings.model_dump(),
        inputs={},
        digests=digests,
        seeded=False,
        keep_failures=True,
    )
    if draft.artifact.reused:
        return draft.artifact
    finished = draft.keys("selected_images", "class_name")
    draft.forget_failures(keep={image.name for image in images if image.class_name in finished})
    for name, reason in found.problems:
        draft.fail(name, reason)
    classes: dict[str, list[ImageFile]] = defaultdict(list)
    for image in images:
        classes[image.class_name].append(image)
    run.progress.start("select", len(images), sum(len(classes[name]) for name in finished & set(classes)))
    with ThreadPoolExecutor(run.execution.workers) as pool:
        for class_name, images in classes.items():
            if class_name not in finished:
                measured = pool.map(_measure, images)
                _store_class(run, draft, settings.per_class, zip(images, measured, strict=True))
    return _finish(run, draft, settings, classes)


def _photographs(place: Path, data_root: Path | None) -> ImageSet:
    """The images at `place` that have a class, each a file of its own: later stages find a photograph by its path."""
    found = find_images(place, data_root=data_root, labelled=True)
    shown = printable(str(place))
    if found.kind in ("tar", "dataset"):
        kind = "in a tar archive" if found.kind == "tar" else "in a dataset on disk"
        raise UsageError(
            f"the images of {shown} lie {kind}: photographs are selected from folders and list files",
            hint="write the images to a folder, those of each class in a folder of its own",
        )
    images = [image for image in found.files if image.class_name]
    others = [(image.name, "has no class: it is out of distribution") for image in found.files if not image.class_name]
    if not images:
        raise UsageError(f"{shown} has no image with a class", hint="in-distribution labels count from 0")
    return ImageSet(found.place, found.kind, images, [*found.problems, *others], found.strays)


def _measure(image: ImageFile) -> Measured | ItemError:
    try:
        header = image_header(image.path)
        size, how = complexity_bytes(image.path, header)
    except ItemError as error:
        return error
    return Measured(image, header, size, how)


def _store_class(
    run: Run, draft: Draft, per_class: int, measured: Iterable[tuple[ImageFile, Measured | ItemError]]
) -> None:
    found: dict[str, Measured] = {}
    for image, result in measured:
        run.progress.advance()
        if isinstance(result, ItemError):
            draft.fail(image.name, result.message)
        else:
            found[image.name] = result
    ranked = top_complex([(name, result.complexity) for name, result in found.items()], len(found))
    chosen: list[Measured] = []
    rows_of_images: list[dict[str, object]] = []
    for name, _ in ranked:
        if len(chosen) == per_class:
            break
        try:
            rows_of_images.append(_image_row(found[name]))
        except ItemError as error:
            draft.fail(name, error.message)
        else:
            chosen.append(found[name])
    ids = run.store.add_images(rows_of_images)
    rows = [
        {
            "image_id": image_id,
            "class_name": result.image.class_name,
            "rank": rank,
            "complexity": result.complexity,
            "complexity_bytes": result.bytes,
            "measured": result.how,
        }
        for rank, (image_id, result) in enumerate(zip(ids, chosen, strict=True), start=1)
    ]
    draft.commit({"selected_images": rows}, done=len(rows))


def _image_row(measured: Measured) -> dict[str, object]:
    """The row of `images`. The image is decoded: a header may be whole where the pixels are cut off. Raises ItemError
    where it cannot be, and where it is another than was measured."""
    image, header = measured.image, measured.header
    read = read_picture(image.path)
    if read.bytes != header.bytes:
        raise ItemError(CHANGED)
    return {
        "sha256": read.sha256,
        "root": str(image.root),
        "name": image.name,
        "class_name": image.class_name,
        "width": header.width,
        "height": header.height,
        "bytes": header.bytes,
        "format": header.format,
    }


def _finish(run: Run, draft: Draft, settings: SelectSettings, classes: dict[str, list[ImageFile]]) -> Artifact:
    query = "select class_name, count(*) from selected_images where artifact_id = ? group by class_name"
    counts = {os.fsdecode(name): count for name, count in run.store.db.execute(query, [draft.artifact.id]).fetchall()}
    empty = [name for name in classes if not counts.get(name)]
    short = {name: count for name, count in counts.items() if count < settings.per_class}
    warnings = [f"class {printable(name)} has no usable image and is left out" for name in empty]
    if short:
        smallest = min(short, key=lambda name: short[name])
        warnings.append(
            f"{len(short)} of {len(classes)} classes have fewer than {settings.per_class} images; "
            f"the smallest is {printable(smallest)} with {short[smallest]}"
        )
    draft.note({"classes": len(counts), "warnings": warnings})
    return complete(draft, "images")
