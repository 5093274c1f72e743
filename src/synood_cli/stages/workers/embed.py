"""Runs CLIP's towers over images and texts, and the classifier over images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

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


class ImageReader:
    """Reads image files for a model; threads decode them while it runs."""

    def __init__(self, tower: ImageTower, device: str, execution: Execution) -> None:
        self.tower = tower
        self.device = device
        self._batch_size = execution.batch_size
        self._rows = rows_at_once(device, execution.batch_size)
        self._pool = ThreadPoolExecutor(execution.workers)

    def encode(self, places: Sequence[Place]) -> tuple[Tensor, list[str | None]]:
        """(features (rows, D) float32 on the device, reason or None of each place)."""
        features: list[Tensor] = [torch.empty(0, self.tower.width, device=self.device)]
        problems: list[str | None] = []
        for prepared, reasons in self.batches(places):
            problems += reasons
            if len(prepared):
                encoded = in_equal_batches(self.tower.encode_images, prepared, self._rows)
                features.append(encoded[torch.tensor([reason is None for reason in reasons], device=self.device)])
        return finite_rows(torch.cat(features), problems)

    def batches(self, places: Sequence[Place]) -> Iterator[tuple[Tensor, list[str | None]]]:
        """The images of each batch of places, and the reason or None of each of them. An image that cannot be read
        is all zeros, so that the others keep their rows; without any that can, there are no rows."""
        prepared = ahead(self._pool, self._prepare, places, 2 * self._batch_size)
        while batch := list(islice(prepared, self._batch_size)):
            images = [image for image in batch if isinstance(image, Tensor)]
            rows = [image if isinstance(image, Tensor) else torch.zeros_like(images[0]) for image in batch if images]
            reasons = [image.message if isinstance(image, ItemError) else None for image in batch]
            yield torch.stack(rows) if rows else torch.empty(0), reasons

    def _prepare(self, place: Place) -> Tensor | ItemError:
        try:
            with decoded_picture(place, self.tower.prepared_bytes) as picture:
                return self.tower.prepare(picture.image)
        except ItemError as error:
            return error


class ClassifierWorker(ImageReader):
    """Holds a classifier g."""

    def __init__(self, spec: ModelSpec, execution: Execution, precision: Precision) -> None:
        device = choose_device(execution.device)
        super().__init__(build_classifier(spec, device, precision), device, execution)

    def images(self, places: Sequence[Place]) -> Embedded:
        """What g's last layer is given for the images that can be read, and why the others cannot."""
        features, problems = self.encode(places)
        return Embedded(features.cpu().numpy(), problems, {"width": self.tower.width})


class EmbeddingWorker(ImageReader):
    """Holds a CLIP."""

    def __init__(self, spec: ModelSpec, execution: Execution, precision: Precision) -> None:
        device = choose_device(execution.device)
        self.encoder = build_encoder(spec, device, precision)
        super().__init__(self.encoder, device, execution)

    def images(self, places: Sequence[Place]) -> Embedded:
        """F(x), before normalisation, of the images that can be read, and why the others cannot."""
        features, problems = self.encode(places)
        return Embedded(features.cpu().numpy(), problems, clip_description(self.encoder))

    def texts(self, texts: Sequence[str]) -> Embedded:
        """H(y) of each text, before normalisation."""
        features = self.encoder.encode_texts(texts)
        if not features.isfinite().all():
            broken = texts[int((~features.isfinite().all(dim=1)).nonzero()[0])]
            raise ModelError(
                f"the features that {self.encoder.spec.name} gives to {printable(broken)!r} are not finite numbers",
                hint="try --precision fp32, or other weights",
            )
        return Embedded(features.cpu().numpy(), [None] * len(texts), clip_description(self.encoder))


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
