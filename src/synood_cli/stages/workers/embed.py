"""Runs CLIP's towers over images and texts, and the classifier over images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from synood_cli.config import Execution
from synood_cli.data.images import decoded_picture
from synood_cli.errors import ItemError, ModelError
from synood_cli.models.build import build_classifier, build_encoder
from synood_cli.models.equal_batches import in_equal_batches, rows_at_once
from synood_cli.models.loading import choose_device
from synood_cli.models.protocols import ImageTextEncoder, ImageTower
from synood_cli.records import ModelSpec, Place, Precision, printable
from synood_cli.stages.embed import NOT_FINITE, Embedded

In = TypeVar("In")
Out = TypeVar("Out")


class Encoded(NamedTuple):
    """Features (rows, D), float32 on the device, of the places that could be read; of each place the reason or None,
    and the SHA-256 (hex) of what was read or None."""

    features: Tensor
    problems: list[str | None]
    digests: list[str | None]


class Batch(NamedTuple):
    """Prepared images (B, 3, h, w), one a place: all zeros where it cannot be read, so that the others keep their rows;
    no rows where none can. Of each place the reason or None, and the SHA-256 (hex) of what was read or None."""

    images: Tensor
    problems: list[str | None]
    digests: list[str | None]


class _Prepared(NamedTuple):
    pixels: Tensor
    sha256: str


class ImageReader:
    """Reads image files for a model; threads decode them while it runs."""

    def __init__(self, tower: ImageTower, device: str, execution: Execution) -> None:
        self.tower = tower
        self.device = device
        self._batch_size = execution.batch_size
        self._rows = rows_at_once(device, execution.batch_size)
        self._pool = ThreadPoolExecutor(execution.workers)

    def encode(self, places: Sequence[Place]) -> Encoded:
        """F(x) of the images that can be read."""
        features: list[Tensor] = [torch.empty(0, self.tower.width, device=self.device)]
        problems: list[str | None] = []
        digests: list[str | None] = []
        for prepared, reasons, found in self.batches(places):
            problems += reasons
            digests += found
            if len(prepared):
                encoded = in_equal_batches(self.tower.encode_images, prepared, self._rows)
                features.append(encoded[torch.tensor([reason is None for reason in reasons], device=self.device)])
        return Encoded(*finite_rows(torch.cat(features), problems), digests)

    def batches(self, places: Sequence[Place]) -> Iterator[Batch]:
        """The images of each batch of places."""
        prepared = ahead(self._pool, self._prepare, places, 2 * self._batch_size)
        while batch := list(islice(prepared, self._batch_size)):
            reasons = [image.message if isinstance(image, ItemError) else None for image in batch]
            digests = [image.sha256 if isinstance(image, _Prepared) else None for image in batch]
            pixels = [image.pixels if isinstance(image, _Prepared) else None for image in batch]
            yield Batch(stacked(pixels), reasons, digests)

    def _prepare(self, place: Place) -> _Prepared | ItemError:
        try:
            with decoded_picture(place, self.tower.prepared_bytes) as picture:
                return _Prepared(self.tower.prepare(picture.image), picture.sha256)
        except ItemError as error:
            return error


class ClassifierWorker(ImageReader):
    """Holds a classifier g."""

    def __init__(self, spec: ModelSpec, execution: Execution, precision: Precision) -> None:
        device = choose_device(execution.device)
        super().__init__(build_classifier(spec, device, precision), device, execution)

    def images(self, places: Sequence[Place]) -> Embedded:
        """What g's last layer is given for the images that can be read, and why the others cannot."""
        found = self.encode(places)
        return Embedded(found.features.cpu().numpy(), found.problems, {"width": self.tower.width}, found.digests)


class EmbeddingWorker(ImageReader):
    """Holds a CLIP."""

    def __init__(self, spec: ModelSpec, execution: Execution, precision: Precision) -> None:
        device = choose_device(execution.device)
        self.encoder = build_encoder(spec, device, precision)
        super().__init__(self.encoder, device, execution)

    def images(self, places: Sequence[Place]) -> Embedded:
        """F(x), before normalisation, of the images that can be read, and why the others cannot."""
        found = self.encode(places)
        facts = clip_description(self.encoder)
        return Embedded(found.features.cpu().numpy(), found.problems, facts, found.digests)

    def texts(self, texts: Sequence[str]) -> Embedded:
        """H(y) of each text, before normalisation."""
        features = self.encoder.encode_texts(texts)
        if not features.isfinite().all():
            broken = texts[int((~features.isfinite().all(dim=1)).nonzero()[0])]
            raise ModelError(
                f"the features that {self.encoder.spec.name} gives to {printable(broken)!r} are not finite numbers",
                hint="try --precision fp32, or other weights",
            )
        nothing: list[str | None] = [None] * len(texts)
        return Embedded(features.cpu().numpy(), nothing, clip_description(self.encoder), nothing)


def stacked(images: Sequence[Tensor | None]) -> Tensor:
    """(B, …) of B images of one shape: zeros where there is none, and no rows at all where there is no image."""
    found = [image for image in images if image is not None]
    if not found:
        return torch.empty(0)
    return torch.stack([torch.zeros_like(found[0]) if image is None else image for image in images])


def finite_rows(features: Tensor, problems: list[str | None]) -> tuple[Tensor, list[str | None]]:
    """The rows that are numbers, and NOT_FINITE as the problem of the others. `problems` has a None for each row."""
    finite = features.isfinite().all(dim=1)
    verdicts = iter(finite.tolist())
    return features[finite], [problem or (None if next(verdicts) else NOT_FINITE) for problem in problems]


def clip_description(encoder: ImageTextEncoder) -> dict[str, Any]:
    """What a head records of its CLIP, beside the name; and its size."""
    return {
        "parameters": encoder.parameters,
        "quick_gelu": encoder.quick_gelu,
        "preprocessing": encoder.preprocessing,
        "width": encoder.width,
        "logit_scale": encoder.logit_scale,
    }


def ahead(pool: ThreadPoolExecutor, function: Callable[[In], Out], items: Iterable[In], count: int) -> Iterator[Out]:
    """function(item) for each item, in order, computed in the pool up to `count` items ahead of the reader: while
    the model works on a batch the next one is decoded, and no more than that lies in memory."""
    pending: deque[Future[Out]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
