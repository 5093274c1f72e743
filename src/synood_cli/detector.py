"""The Python door: a head with its CLIP, ready to judge images.

Images may be paths, Pillow images, arrays or tensors, one or many. Scores are S of Eq. 2, in [0, 1]: higher = more
in-distribution. `predict` alone follows pytorch-ood's opposite convention, and says so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from synood_cli.config import Execution, ScoreSettings
from synood_cli.data.images import as_upright_rgb, prepared, read_image, upright_rgb
from synood_cli.errors import ItemError, ModelError, UsageError
from synood_cli.head_address import find_head
from synood_cli.models.build import build_encoder
from synood_cli.models.equal_batches import in_equal_batches, rows_at_once
from synood_cli.models.loading import choose_device
from synood_cli.models.protocols import ImageTextEncoder
from synood_cli.records import Precision, printable
from synood_cli.stages.embed import NOT_FINITE
from synood_cli.stages.heads import Detections, require_clip
from synood_cli.stages.score import chosen_threshold, described_rows
from synood_cli.stages.workers.embed import ahead, clip_description
from synood_cli.stages.workers.torch_head import TorchHead
from synood_cli.store.heads import Head, HeadInfo
from synood_cli.store.workspace import Workspace

if TYPE_CHECKING:
    from synood_cli.models.pytorch_ood_detector import SynoodDetector

Picture: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor
"""One image: a path; a Pillow image; an array (H, W, C) or (H, W); a tensor (C, H, W). C is 1, 3 (RGB) or 4 (RGBA);
values are uint8, or floats in [0, 1]."""

Pictures: TypeAlias = Iterable[Picture] | NDArray[Any] | Tensor
"""Many images: any iterable of them, an array (B, H, W, C), a tensor (B, C, H, W)."""


class Detection(NamedTuple):
    """What a head says of one image; the fields are the columns of `synood score`."""

    score: float
    """S (Eq. 2), in [0, 1]; higher = more in-distribution."""
    decision: Literal["ind", "ood"]
    """ind iff the score reaches the threshold."""
    predicted_class: str
    """The nearest in-distribution label."""
    nearest_negative: str
    """The nearest negative label."""
    nearest_similarity: float
    """Cosine similarity to it."""


class Transform:
    """From one image to what CLIP sees: (3, H, W), float32, on the CPU. Holds no model: it travels to the workers of a
    DataLoader cheaply."""

    def __init__(self, preprocess: Callable[[Image.Image], Tensor], prepared_bytes: Callable[[int, int], int]) -> None:
        self._preprocess = preprocess
        self._prepared_bytes = prepared_bytes

    def __call__(self, image: Picture) -> Tensor:
        """Read, turned upright, made RGB, and prepared as CLIP's library does it. Raises ItemError for a file that
        cannot be read or prepared, UsageError for what is no image."""
        return prepared(as_rgb(image), self._preprocess, self._prepared_bytes)


class Detector:
    """A head with its CLIP.

    >>> from synood_cli import Detector
    >>> detector = Detector.from_pretrained("./head", device="cpu")
    >>> [found] = detector.detect("photos/penguin.png")
    >>> found.decision, found.predicted_class
    ('ind', 'penguin')
    >>> detector.score(["photos/penguin.png", "photos/airplane.png"]).round(2)
    array([1., 0.])

    `detector(batch)` gives outlier scores of prepared images, as pytorch-ood's detectors do, and `as_pytorch_ood` gives
    one of that library's own detectors.
    """

    requires_fit = False
    """For pytorch-ood: nothing is to be fitted."""

    def __init__(
        self, head: Head, encoder: ImageTextEncoder, *, threshold: float, device: str, execution: Execution
    ) -> None:
        self.info: HeadInfo = head.info
        """What the head says of itself."""
        self.threshold = threshold
        """η: an image is in-distribution iff its score reaches it. May be set."""
        self.device = device
        self.transform = Transform(encoder.transform, encoder.transform_bytes)
        """Prepares one image for `predict`, in a torch Dataset for instance."""
        self._encoder = encoder
        self._head = TorchHead.of(head, device)
        self._batch_size = execution.batch_size
        self._pool = ThreadPoolExecutor(execution.workers)

    @classmethod
    def from_pretrained(
        cls,
        head: str | os.PathLike[str] | None = None,
        *,
        workspace: str | os.PathLike[str] | None = None,
        clip: str | os.PathLike[str] | None = None,
        trust_clip: bool = False,
        device: str = "auto",
        precision: Precision = "fp32",
        threshold: float | None = None,
        tpr: float | None = None,
        **execution: Any,
    ) -> Detector:
        """The head at `head`: a folder (`./head`); an artifact (`head@3`, None for the newest) of the `workspace`,
        found as on the command line if unsaid; or one on the hub (`user/repository[@revision]`), which is fetched.

        clip: where the head's CLIP lies, if not where the head says, or its name again. trust_clip: load the CLIP of a
        head from elsewhere although it is not a known one; which one it is goes to the log. threshold, tpr: another η,
        as for `synood score`. execution: fields of `config.Execution`, such as batch_size and workers. Raises
        UsageError for an address that means nothing, StoreError for a damaged head, ModelError when its CLIP is missing
        or is another one."""
        given = head if isinstance(head, str | None) else str(Path(head).absolute())
        place = Workspace.found(Path(workspace) if workspace else None)
        found = find_head(given, place, Path(clip) if clip else None, trust_clip=trust_clip)
        folder, name, info, spec, about_clip = found
        if about_clip:
            logging.getLogger(__name__).warning(about_clip)
        settings = ScoreSettings(threshold=threshold, tpr=tpr, precision=precision)
        chosen = choose_device(device)
        threshold_ = chosen_threshold(info, settings, name)
        encoder = build_encoder(spec, chosen, precision)
        require_clip(info, name, clip_description(encoder))
        return cls(
            Head.read(folder),
            encoder,
            threshold=threshold_,
            device=chosen,
            execution=Execution(device=device, **execution),
        )

    def score(self, images: Picture | Pictures) -> NDArray[np.float64]:
        """S of each image (Eq. 2), higher = more in-distribution: (B,); of a single image (1,)."""
        return np.concatenate([np.empty(0), *(found.scores for found in self._batches(images))])

    def detect(self, images: Picture | Pictures) -> list[Detection]:
        """Score, decision, predicted class and nearest negative label of each image; of a single one, a list of one."""
        return list(self.stream(images))

    def stream(self, images: Picture | Pictures) -> Iterator[Detection]:
        """As `detect`, one after another while `images` is read: of any number, in the memory of a few batches."""
        for found in self._batches(images):
            yield from (Detection(**row) for row in described_rows(self.info, found, self.threshold))

    def predict(self, x: Tensor) -> Tensor:
        """-S of prepared images, (B, 3, H, W) from `transform` → (B,) on the CPU: pytorch-ood's outlier score, which is
        **higher = more out-of-distribution**. An image is OOD iff this exceeds `-threshold`. Raises UsageError for what
        is no batch of prepared images, ModelError for an image that cannot be scored."""
        return -self._ind_scores(self._encoded(x))

    __call__ = predict

    def fit(self, *_: object, **__: object) -> Detector:
        """Does nothing: a head is made by `synood mine-labels` and the trainings. For code that fits every detector."""
        return self

    def as_pytorch_ood(self) -> SynoodDetector:
        """The same as a `pytorch_ood.api.FeaturesDetector`, which that library's benchmarks take. Raises UsageError
        where pytorch-ood is not installed."""
        if not find_spec("pytorch_ood"):
            raise UsageError("pytorch-ood is not installed", hint="pip install 'synood[baselines]'")
        from synood_cli.models.pytorch_ood_detector import SynoodDetector

        return SynoodDetector(self._encoded, self._ind_scores)

    def _batches(self, images: Picture | Pictures) -> Iterator[Detections]:
        prepared = ahead(self._pool, self.transform, _many(images), 2 * self._batch_size)
        while batch := list(islice(prepared, self._batch_size)):
            yield self._detected(torch.stack(batch))

    def _detected(self, prepared: Tensor) -> Detections:
        return self._head.detect(self._finite(self._features(prepared)))

    def _encoded(self, x: Tensor) -> Tensor:
        """F(x) of prepared images: (B, 3, H, W) → (B, D). Raises UsageError for a batch of another type or shape, which
        CLIP would refuse in its own words or, worse, take."""
        size = self._encoder.preprocessing["size"]
        height, width = size if isinstance(size, list | tuple) else (size, size)
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.shape[1:] != (3, height, width):
            found = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise UsageError(
                f"this detector takes batches of shape (B, 3, {height}, {width}), and got {found}",
                hint="prepare images with `detector.transform`, or give them to `score` as they are",
            )
        return self._features(x)

    def _features(self, prepared: Tensor) -> Tensor:
        rows = rows_at_once(self.device, self._batch_size)
        return in_equal_batches(self._encoder.encode_images, prepared, rows)

    def _ind_scores(self, features: Tensor) -> Tensor:
        """S of F(x): (B, D) → (B,) on the CPU."""
        return torch.from_numpy(self._head.detect(self._finite(features)).scores)

    def _finite(self, features: Tensor) -> Tensor:
        if not features.isfinite().all():
            raise ModelError(f"an image cannot be scored: {NOT_FINITE}")
        return features


def as_rgb(image: Picture) -> Image.Image:
    """Any picture as an 8-bit RGB image, upright. A float becomes the nearest of 256 levels.

    Raises ItemError for a file that cannot be read, UsageError for another type, shape or range.
    """
    if isinstance(image, str | os.PathLike):
        try:
            return read_image(Path(image))
        except ItemError as error:
            raise ItemError(f"{printable(os.fspath(image))}: {error.message}") from error
    if isinstance(image, Image.Image):
        return as_upright_rgb(image)
    if isinstance(image, Tensor):
        values = image.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # numpy has no bfloat16
        return _from_array((values.permute(1, 2, 0) if values.ndim == 3 else values).numpy())
    if isinstance(image, np.ndarray):
        return _from_array(image)
    raise UsageError(
        f"{type(image).__name__} is no image",
        hint="give a path, a Pillow image, an array (H, W, C), a tensor (C, H, W)",
    )


def _from_array(pixels: NDArray[Any]) -> Image.Image:
    levels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if not (levels.ndim == 2 or (levels.ndim == 3 and levels.shape[2] in (3, 4))) or levels.size == 0:
        raise UsageError(
            f"an image cannot have the shape {pixels.shape}",
            hint="arrays are (H, W, C), tensors (C, H, W); C is 1, 3 or 4",
        )
    if np.issubdtype(levels.dtype, np.floating):
        if not (levels >= 0).all() or not (levels <= 1).all():  # NaN is neither
            raise UsageError(
                "floating-point pixels lie in [0, 1], and these do not",
                hint="images that are prepared already (by `transform`) go to `predict`",
            )
        levels = (levels.astype(np.float32) * 255).round().astype(np.uint8)
    if levels.dtype != np.uint8:
        raise UsageError(f"pixels of type {levels.dtype}", hint="give uint8, or floats in [0, 1]")
    return upright_rgb(Image.fromarray(np.ascontiguousarray(levels)))


def _many(images: Picture | Pictures) -> Iterable[Picture]:
    if isinstance(images, np.ndarray | Tensor):
        return [images] if images.ndim in (2, 3) else images
    return [images] if isinstance(images, str | os.PathLike | Image.Image) else images
