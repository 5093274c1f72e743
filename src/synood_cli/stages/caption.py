"""Caption (Eq. 3): name what surrounds the main object of each selected image, as a prompt for the inpainting model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synood_cli.config import CaptionSettings, Models
from synood_cli.data.captions_file import CaptionsFile
from synood_cli.data.folders import class_text
from synood_cli.data.vocabulary import default_vocabulary, read_vocabulary
from synood_cli.data.wordnet import synonyms_of
from synood_cli.errors import ItemError, UsageError
from synood_cli.models.revisions import resolve_revision
from synood_cli.records import Description, ImageFile, ModelSpec
from synood_cli.stages.run import Run, batches, complete
from synood_cli.stages.selected import SelectedImage, selected_images
from synood_cli.store.draft import Draft
from synood_cli.store.files import sha256_bytes
from synood_cli.store.store import Artifact


class CaptionJob(NamedTuple):
    """One image to describe; `given` is its caption where it was made elsewhere."""

    path: Path
    class_label: str
    synonyms: tuple[str, ...]
    given: Description | None = None


class Prompt(NamedTuple):
    """What became of one image: the raw answer, the elements that fit, the prompt and its length in tokens."""

    raw_answer: str
    elements: list[str]
    prompt: str
    tokens: int
    seconds: float


def caption(
    run: Run,
    settings: CaptionSettings,
    models: Models,
    selection: Artifact,
    captions: Path | None = None,
    vocabulary: Path | None = None,
) -> Artifact:
    """Describe each selected image, drop the main object, and keep what the diffusion text encoder can read.

    The descriptions come from the captioner that `models` names, or from the JSONL file `captions`. `vocabulary` is
    a file of elements for the captioner clip-tags. An image without a usable description is a failure.
    """
    for template, placeholder in ((settings.template, "{elements}"), (settings.tag_template, "{}")):
        if placeholder not in template:
            raise UsageError(f"the prompt template {template!r} has no {placeholder}", hint=f"add {placeholder} to it")
    images = selected_images(run.store, selection, run.limit)
    file = CaptionsFile(captions) if captions else None
    words = _vocabulary(models, file, vocabulary)
    specs = _specs(run, models) if file is None else {}
    source = (
        {"captions": _captions_digest(images, file)}
        if file is not None
        else {"vocabulary": sha256_bytes("\n".join(words).encode())}
    )
    draft = run.begin(
        "captions",
        "caption",
        items=len(images),
        settings=settings.model_dump(),
        inputs={"selection": selection},
        models=specs,
        digests=source,
        seeded=False,
    )
    if draft.artifact.reused:
        return draft.artifact
    finished = draft.keys("prompts")
    todo = [image for image in images if image.image_id not in finished]
    if file is not None:
        todo = _with_captions(draft, todo, file, captions)
        draft.note({"warnings": [f"{captions}, line {number}: {reason}" for number, reason in file.problems]})
    run.progress.start("caption", len(images), len(images) - len(todo))
    options: dict[str, Any] = {"settings": settings, "execution": run.execution, "specs": specs, "vocabulary": words}
    size = run.execution.concurrency if models.captioner_url else run.execution.batch_size
    _describe(run, draft, todo, file, options, size)
    return complete(draft, "images")


def _vocabulary(models: Models, file: CaptionsFile | None, vocabulary: Path | None) -> list[str]:
    if vocabulary:
        return read_vocabulary(vocabulary)
    return default_vocabulary() if file is None and models.captioner == "clip-tags" else []


def _specs(run: Run, models: Models) -> dict[str, ModelSpec]:
    specs = {"captioner": models.captioner_spec()}
    if specs["captioner"].adapter == "clip-tags":
        specs["clip"] = models.clip_spec()
    return {role: resolve_revision(spec, run.store.file_digest) for role, spec in specs.items()}


def _captions_digest(images: Sequence[SelectedImage], file: CaptionsFile) -> str:
    """Of what the file says about the selected images: other lines and the order of lines do not matter."""
    said = [[image.sha256, image.name, file.find(_image_file(image))] for image in images]
    return sha256_bytes(json.dumps([[*key, found and found[:2]] for *key, found in said]).encode())


def _with_captions(
    draft: Draft, images: Sequence[SelectedImage], file: CaptionsFile, path: Path | None
) -> list[SelectedImage]:
    captioned = []
    for image in images:
        if file.find(_image_file(image)):
            captioned.append(image)
        else:
            draft.fail(image.name, f"no caption in {path}")
    return captioned


def _image_file(image: SelectedImage) -> ImageFile:
    root = Path(str(image.path).removesuffix(image.name))
    return ImageFile(root, image.name, image.class_name)


def _describe(
    run: Run,
    draft: Draft,
    images: Sequence[SelectedImage],
    file: CaptionsFile | None,
    options: dict[str, Any],
    size: int,
) -> None:
    spec: ModelSpec | None = options["specs"].get("captioner")
    done = batches(images, size)
    jobs = ([_job(image, file) for image in batch] for batch in batches(images, size))
    results: Iterator[list[Prompt | ItemError]] = run.runner.map("caption", options, jobs)
    for batch, prompts in zip(done, results, strict=True):
        rows = []
        for image, prompt in zip(batch, prompts, strict=True):
            if isinstance(prompt, ItemError):
                draft.fail(image.name, prompt.message)
                continue
            row = prompt._asdict() | {"elements": json.dumps(prompt.elements, ensure_ascii=False)}
            made_by = {"model": spec.name if spec else "file", "revision": spec.revision if spec else None}
            rows.append({"image_id": image.image_id, **row, **made_by})
        draft.commit({"prompts": rows}, done=len(rows))
        run.progress.advance(len(batch))


def _job(image: SelectedImage, file: CaptionsFile | None) -> CaptionJob:
    label = class_text(image.class_name)
    found = None if file is None else file.find(_image_file(image))
    given = Description(found.text, found.elements) if found else None
    return CaptionJob(image.path, label, tuple(synonyms_of(label)), given)
