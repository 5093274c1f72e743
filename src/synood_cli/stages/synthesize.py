"""Synthesize (Eqs. 4-10): redraw each image towards its surroundings, steered to the boundary of the classifier."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from synood_cli.config import Models, SynthesizeSettings
from synood_cli.data.encoding import Encoding
from synood_cli.errors import ItemError, SynoodError, UsageError
from synood_cli.method.seeds import image_seed
from synood_cli.models.noise_schedule import check_steps
from synood_cli.models.revisions import resolve_revision
from synood_cli.records import Place
from synood_cli.stages.heads import with_ancestors
from synood_cli.stages.run import Run, batches, complete
from synood_cli.stages.selected import SelectedImage, class_folders, selected_images
from synood_cli.store.draft import Draft
from synood_cli.store.heads import HeadInfo
from synood_cli.store.store import Artifact


class Prompt(NamedTuple):
    """What the diffusion is asked for; `elements` and `template` as in SynthesisJob."""

    text: str
    elements: tuple[str, ...] = ()
    template: str = ""


class SynthesisJob(NamedTuple):
    """One image to redraw. `elements` and `template` allow a shorter prompt where the text encoder reads less; a
    negative label as prompt has none."""

    image_id: int
    place: Place
    prompt: str
    elements: tuple[str, ...]
    template: str
    seed: int
    boundary: float


class Iteration(NamedTuple):
    """One forward pass of Eqs. 4-7; `gradient_norm` is None where no gradient was taken."""

    iteration: int
    score: float
    loss: float
    gradient_norm: float | None
    top1: int
    top1_name: str | None
    top1_probability: float
    kept: bool


class Synthesized(NamedTuple):
    """One finished image: its file's bytes, and how it came about."""

    content: bytes
    encoding: Encoding
    width: int
    height: int
    prompt: str
    trajectory: list[Iteration]
    seconds: float


def synthesize(
    run: Run, settings: SynthesizeSettings, models: Models, captions: Artifact, head: Artifact | None = None
) -> Artifact:
    """Redraw every captioned image. Each image has its own seed and is stored when it is finished, so a killed run
    goes on where it stopped and gives what an undisturbed one gives, bit for bit at the same batch size.

    With source `text2img` nothing is redrawn: in the place of each captioned image comes a picture of a negative label
    of `head`, from pure noise over all steps. The trained heads have the labels of the first one that they were made
    from, so whichever of them is given, it is the same question. Raises UsageError without a head for that source, or
    with one for another.
    """
    _check_head(settings, head)
    selection = run.store.inputs(captions)["selection"]
    captioned = {row["image_id"]: row for row in run.store.rows(captions, "prompts")}
    selected = selected_images(run.store, selection)
    images = [image for image in selected if image.image_id in captioned][: run.limit]
    inputs = {"captions": captions, "selection": selection}  # which sets the boundary and names the classes
    if head is not None:
        inputs["head"] = with_ancestors(run.store, head)[0]
        settings = settings.model_copy(update={"strength": 1.0})  # there is no photograph to keep some of
    specs = {
        role: resolve_revision(spec, run.store.file_digest)
        for role, spec in (("inpainter", models.inpainter_spec()), ("classifier", models.classifier_spec()))
    }
    check_steps(specs["inpainter"], settings.steps)
    draft = run.begin(
        "synthetic",
        "synthesize",
        items=len(images),
        settings=settings.model_dump(),
        inputs=inputs,
        models=specs,
    )
    if draft.artifact.reused:
        return draft.artifact
    if not images:
        raise SynoodError(f"{captions.name} has no prompts", hint=f"synood show {captions.name} --failures")
    options: dict[str, Any] = {
        "settings": settings,
        "execution": run.execution,
        "inpainter": specs["inpainter"],
        "classifier": specs["classifier"],
        "classes": class_folders(run.store, selection),
    }
    boundary = _boundary(run, draft, settings, selected, options)
    finished = draft.keys("synthetic_images")
    run.progress.start("synthesize", len(images), len(finished))
    if head is None:
        prompts = {image.image_id: _prompt(captioned[image.image_id], captions) for image in images}
    else:
        drawn = _label_prompts(HeadInfo.read(inputs["head"].folder), len(images), run.seed)
        prompts = dict(zip((image.image_id for image in images), drawn, strict=True))
    planned = batches(images, run.execution.batch_size)
    # A batch that was interrupted is done again as a whole: an image's last digits depend on the size of its batch.
    todo = [batch for batch in planned if any(image.image_id not in finished for image in batch)]
    jobs = ([_job(image, prompts[image.image_id], run.seed, boundary) for image in batch] for batch in todo)
    for batch, made in zip(todo, run.runner.map("synthesize", options, jobs), strict=True):
        for image, result in zip(batch, made, strict=True):
            if image.image_id not in finished:
                _store(run, draft, image, result, boundary)
    return complete(draft, "images")


def _check_head(settings: SynthesizeSettings, head: Artifact | None) -> None:
    if settings.source == "text2img" and head is None:
        raise UsageError(
            "--source text2img draws its prompts from a head's negative labels, and no head was given",
            hint="run `synood mine-labels` first",
        )
    if settings.source != "text2img" and head is not None:
        raise UsageError(f"--source {settings.source} reads no head", hint="--head belongs to --source text2img")


def _prompt(caption: dict[str, Any], captions: Artifact) -> Prompt:
    """The prompt of a caption."""
    return Prompt(caption["prompt"], tuple(json.loads(caption["elements"])), captions.settings["template"])


def _label_prompts(info: HeadInfo, count: int, seed: int) -> list[Prompt]:
    """`count` negative labels, each in its own template, drawn without replacement as long as there are enough."""
    import torch

    from synood_cli.method.negative_labels import draw_labels

    drawn = draw_labels(count, len(info.negative_labels), torch.Generator().manual_seed(seed))
    labels = [info.negative_labels[position] for position in drawn]
    return [Prompt(info.templates[label.part_of_speech].replace("{}", label.text)) for label in labels]


def _boundary(
    run: Run, draft: Draft, settings: SynthesizeSettings, selected: Sequence[SelectedImage], options: dict[str, Any]
) -> float:
    """m_out of Eq. 7: the given number, or the score that `boundary_tpr` of the selected images reach under g."""
    if settings.boundary != "auto":
        draft.note({"boundary": settings.boundary})
        return settings.boundary
    notes = draft.artifact.notes
    if "boundary" in notes and (notes["boundary_images"] == len(selected) or draft.artifact.items_done):
        return float(notes["boundary"])
    run.progress.start("boundary", len(selected))
    scores: list[float] = []
    jobs = ([image.place for image in batch] for batch in batches(selected, run.execution.batch_size))
    for batch_scores in run.runner.map("synthesize", options, jobs, method="score_photographs"):
        scores.extend(score for score in batch_scores if score is not None)
        run.progress.advance(len(batch_scores))
    if not scores:
        raise SynoodError(
            f"none of the {len(selected)} selected images can be read and scored by the classifier",
            hint="are they where `synood select` found them? If so, try --precision fp32",
        )
    import torch

    from synood_cli.method.boundary import score_at_tpr

    boundary = score_at_tpr(torch.tensor(scores), settings.boundary_tpr)
    draft.note({"boundary": boundary, "boundary_images": len(scores), "boundary_tpr": settings.boundary_tpr})
    return boundary


def _job(image: SelectedImage, prompt: Prompt, run_seed: int, boundary: float) -> SynthesisJob:
    return SynthesisJob(image.image_id, image.place, *prompt, image_seed(run_seed, image.sha256), boundary)


def _store(run: Run, draft: Draft, image: SelectedImage, result: Synthesized | ItemError, boundary: float) -> None:
    run.progress.advance()
    if isinstance(result, ItemError):
        draft.fail(image.name, result.message)
        return
    path = f"images/{_folder_name(image.class_name)}/{_file_name(image)}{result.encoding.extension}"
    digest = draft.write_file(path, result.content)
    kept = next(step for step in result.trajectory if step.kept)
    row = {
        "image_id": image.image_id,
        "path": path,
        "sha256": digest,
        "bytes": len(result.content),
        "width": result.width,
        "height": result.height,
        "format": result.encoding.format,
        "quality": result.encoding.quality,
        "prompt": result.prompt,
        "seed": image_seed(run.seed, image.sha256),
        "kept_iteration": kept.iteration,
        "score": kept.score,
        "boundary": boundary,
        "seconds": result.seconds,
    }
    steps = [{"image_id": image.image_id, **step._asdict()} for step in result.trajectory]
    draft.commit({"synthetic_images": [row], "iterations": steps}, [path], done=1)


def _folder_name(class_name: str) -> str:
    """The class name where every file system takes it, else with underscores."""
    return re.sub(r"[^\w .-]", "_", class_name).strip(". ") or "class"


def _file_name(image: SelectedImage) -> str:
    """Of the photograph's content and name: two copies of one photograph do not overwrite each other."""
    return hashlib.sha256(image.sha256.encode() + os.fsencode(image.name)).hexdigest()[:20]
