"""Redraws batches of images with an inpainting pipeline under a classifier's gradient (Eqs. 4-10)."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from synood_cli.config import Execution, SynthesizeSettings
from synood_cli.data.encoding import Encoding, describe_encoding, encode
from synood_cli.data.folders import class_text
from synood_cli.data.images import decoded_picture
from synood_cli.errors import ItemError, ModelError, SynoodError
from synood_cli.method.elements import fit_prompt
from synood_cli.method.losses import LOSSES, OodLoss
from synood_cli.method.seeds import image_noise
from synood_cli.method.synthesis import SynthesisResult, synthesize
from synood_cli.models.build import build_classifier, build_inpainter
from synood_cli.models.loading import choose_device
from synood_cli.models.protocols import Classifier
from synood_cli.records import ModelSpec, Place, composed
from synood_cli.stages.synthesize import Iteration, SynthesisJob, Synthesized
from synood_cli.stages.workers.embed import stacked


class InDistributionClassifier:
    """g over the InD classes: the classifier's logits, restricted to these classes and in their order."""

    def __init__(self, classifier: Classifier, classes: Sequence[str]) -> None:
        self._classifier = classifier
        self._columns = class_columns(classifier, classes)
        self.classes = [class_text(folder) for folder in classes]

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] → (B, C), differentiable."""
        logits = self._classifier.logits(pixels)
        return logits if self._columns is None else logits[:, self._columns]


def class_columns(classifier: Classifier, folders: Sequence[str]) -> list[int] | None:
    """The logits that belong to the class `folders`, in their order; None = all of them as they come.

    A classifier with class names must know every class (it may know more): by the WordNet id that the folder's name
    begins with, or by a name or alias equal to its label text. One without must have as many classes, which are then
    taken to be in sorted order. Raises ModelError otherwise, and where two logits fit one class or two classes one
    logit.
    """
    name, aliases = classifier.spec.name, classifier.class_aliases
    classes = [class_text(folder) for folder in folders]
    if classifier.class_names is None or aliases is None:
        if classifier.num_classes != len(classes):
            raise ModelError(
                f"the classifier {name} has {classifier.num_classes} classes and no names for them, "
                f"the selection has {len(classes)} classes",
                hint="give a classifier of exactly these classes, or one whose config.json has label_names",
            )
        return None
    known: dict[str, list[int]] = {}
    for column, names in enumerate(aliases):
        for alias in {_plain(alias) for alias in names}:
            known.setdefault(alias, []).append(column)
    ids = [_WORDNET_ID.match(folder) for folder in folders]
    found = [
        known.get(found_id.group() if found_id else "") or known.get(_plain(label), [])
        for found_id, label in zip(ids, classes, strict=True)
    ]
    missing = [label for label, columns in zip(classes, found, strict=True) if not columns]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ModelError(
            f"the classifier {name} does not know {len(missing)} of {len(classes)} classes: "
            f"{', '.join(missing[:5])}{more}",
            hint=f"its classes are {', '.join(classifier.class_names[:5])}, …: name the class folders alike, "
            "or give another classifier",
        )
    owner: dict[int, str] = {}
    for label, columns in zip(classes, found, strict=True):
        if len(columns) > 1:
            meanings = [classifier.class_names[column] for column in columns]
            raise ModelError(
                f"{label!r} may mean several classes of the classifier {name}: {' and '.join(meanings)}",
                hint=f"begin the name of its class folder with {' or '.join(meanings)}",
            )
        if columns[0] in owner:
            raise ModelError(
                f"{owner[columns[0]]!r} and {label!r} are one class of the classifier {name}",
                hint="put their images into one folder, then `synood select` again",
            )
        owner[columns[0]] = label
    return list(owner)


_WORDNET_ID = re.compile(r"n\d{8}")


def _plain(label: str) -> str:
    return " ".join(composed(label).replace("_", " ").lower().split())


class _Pixels:
    """Reads photographs as square pixels in [0, 1] of the pipeline's resolution."""

    def __init__(self, resolution: int, workers: int) -> None:
        self._resolution = resolution
        self._pool = ThreadPoolExecutor(workers)

    def read(self, places: Sequence[Place]) -> list[Tensor | ItemError]:
        """(3, R, R) float32 on the CPU for each place, or why not."""
        return list(self._pool.map(self._one, places))

    def _one(self, place: Place) -> Tensor | ItemError:
        side = self._resolution
        try:
            # Pillow scales the rows first, which are as many as the picture has.
            with decoded_picture(place, lambda _, height: 4 * side * (height + side)) as picture:
                square = picture.image.resize((side, side), Image.Resampling.BICUBIC)
        except ItemError as error:
            return error
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255


def ood_loss(settings: SynthesizeSettings) -> OodLoss:
    """The loss and score that the settings name."""
    return LOSSES[settings.loss](settings.temperature)


class _Prepared(NamedTuple):
    """What a job asks of the pipeline: pixels (3, R, R), a prompt that it can read, and how to write the result."""

    pixels: Tensor
    prompt: str
    encoding: Encoding


def _places(batch: Sequence[SynthesisJob]) -> list[Place]:
    return [job.place for job in batch]


class SynthesisWorker:
    """Holds the inpainting pipeline and g."""

    def __init__(
        self,
        settings: SynthesizeSettings,
        execution: Execution,
        inpainter: ModelSpec,
        classifier: ModelSpec,
        classes: Sequence[str],
    ) -> None:
        device = choose_device(execution.device)
        self._settings = settings
        self._execution = execution
        self._device = device
        self._g = InDistributionClassifier(build_classifier(classifier, device, settings.precision), classes)
        self._inpainter = build_inpainter(
            inpainter,
            device,
            settings.precision,
            resolution=settings.resolution,
            text_to_image=settings.source == "text2img",
        )
        self._pixels = _Pixels(self._inpainter.resolution, execution.workers)

    @torch.no_grad()
    def score_photographs(self, batch: Sequence[Place]) -> list[float | None]:
        """The score under g of each photograph, read and sized as the synthetic images are; None for one that cannot
        be read, or whose score is not finite (the synthesis will say why)."""
        found = [image if isinstance(image, Tensor) else None for image in self._pixels.read(batch)]
        pixels = stacked(found)
        if not len(pixels):
            return [None] * len(batch)
        scores = ood_loss(self._settings).score(self._g.logits(pixels)).tolist()
        return [
            score if image is not None and math.isfinite(score) else None
            for image, score in zip(found, scores, strict=True)
        ]

    def __call__(self, batch: Sequence[SynthesisJob]) -> list[Synthesized | ItemError]:
        """One synthetic image a job, in order, or why there is none. A job that cannot be done keeps its row in the
        batch, black and without a prompt, so that the others come out as they would beside it."""
        started = time.perf_counter()
        ready = [self._prepared(job, read) for job, read in zip(batch, self._pixels.read(_places(batch)), strict=True)]
        pixels = stacked([None if isinstance(job, ItemError) else job.pixels for job in ready])
        if not len(pixels):
            return [job for job in ready if isinstance(job, ItemError)]
        prompts = ["" if isinstance(job, ItemError) else job.prompt for job in ready]
        result = self._synthesize(batch, pixels, prompts)
        seconds = (time.perf_counter() - started) / len(batch)
        return [
            job if isinstance(job, ItemError) else self._finished(result, row, job.prompt, job.encoding, seconds)
            for row, job in enumerate(ready)
        ]

    def _prepared(self, job: SynthesisJob, pixels: Tensor | ItemError) -> _Prepared | ItemError:
        if isinstance(pixels, ItemError):
            return pixels
        try:
            return _Prepared(pixels, self._readable(job), describe_encoding(job.place))
        except ItemError as error:
            return error

    def _readable(self, job: SynthesisJob) -> str:
        """The prompt, cut by whole elements to what this pipeline's text encoder reads. Raises ItemError for a label
        that is longer."""
        if self._inpainter.count_tokens(job.prompt) <= self._inpainter.max_tokens:
            return job.prompt
        count, longest = self._inpainter.count_tokens, self._inpainter.max_tokens
        if not job.elements:
            raise ItemError(f"the prompt {job.prompt!r} is longer than {longest} tokens")
        return fit_prompt(list(job.elements), job.template, count, longest)[0]

    def _synthesize(self, batch: Sequence[SynthesisJob], pixels: Tensor, prompts: Sequence[str]) -> SynthesisResult:
        settings, inpainter = self._settings, self._inpainter
        try:
            noise = torch.stack([image_noise(job.seed, inpainter.latent_shape()) for job in batch]).to(self._device)
            denoise = partial(
                inpainter.denoise,
                prompts=inpainter.encode_prompts(prompts),
                steps=settings.steps,
                strength=settings.strength,
                guidance_scale=settings.guidance_scale,
                scheduler=settings.scheduler,
            )
            if settings.source == "text2img":  # no photograph in it: ᾱ_T = 0 makes pure noise of Eq. 4
                z_in, alpha_bar = torch.zeros_like(noise), torch.zeros(())
            else:
                z_in = inpainter.encode_images(pixels.to(self._device))
                alpha_bar = inpainter.alpha_bar(settings.steps, settings.strength, settings.scheduler)
            return synthesize(
                z_in,
                noise,
                denoise=denoise,
                decoder_input=inpainter.decoder_input,
                decode=inpainter.decode,
                logits=self._g.logits,
                loss=ood_loss(settings),
                boundary=batch[0].boundary,
                alpha_bar=alpha_bar,
                iterations=settings.iterations,
                step_size=settings.step_size if settings.source == "gradient" else 0.0,
                chunk_size=self._execution.gradient_chunk,
                keep=settings.keep,
            )
        except torch.OutOfMemoryError as error:
            raise SynoodError(
                f"out of memory on {self._device} with {len(batch)} images at once",
                hint="what was finished is kept: run again with a smaller --batch-size or --gradient-chunk",
            ) from error

    def _finished(
        self, result: SynthesisResult, row: int, prompt: str, encoding: Encoding, seconds: float
    ) -> Synthesized | ItemError:
        pixels = result.pixels[row]
        for number, step in enumerate(result.trajectory, start=1):
            values = {"score": step.score, "loss": step.loss, "gradient": step.gradient_norm}
            for name, value in values.items():
                if value is not None and not value[row].isfinite():
                    reason = f"the {name} of iteration {number} is not a finite number"
                    return ItemError(f"{reason}; try --precision fp32, or a smaller --step-size")
        if not pixels.isfinite().all():
            return ItemError("the decoder painted values that are not finite numbers; try --precision fp32")
        levels = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        content = encode(Image.fromarray(levels), encoding)
        height, width = levels.shape[:2]
        trajectory = []
        for number, step in enumerate(result.trajectory, start=1):
            top1 = int(step.top1[row])
            trajectory.append(
                Iteration(
                    number,
                    float(step.score[row]),
                    float(step.loss[row]),
                    None if step.gradient_norm is None else float(step.gradient_norm[row]),
                    top1,
                    self._g.classes[top1],
                    float(step.top1_probability[row]),
                    bool(step.kept[row]),
                )
            )
        return Synthesized(content, encoding, width, height, prompt, trajectory, seconds)
