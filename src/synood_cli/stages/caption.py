"""Caption (Eq. 3): name what surrounds the main object of each selected image, as a prompt for the inpainting model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synood_cli.config import CaptionSettings, Models
from synood_cli.data.captions_file import Caption, CaptionsFile
from synood_cli.data.vocabulary import default_vocabulary, read_vocabulary
from synood_cli.data.wordnet import synonyms_of
from synood_cli.errors import ItemError, UsageError
from synood_cli.models.revisions import resolve_revision
from synood_cli.records import Description, ImageFile, ModelSpec, Place
from synood_cli.stages.class_names import label_text
from synood_cli.stages.run import Run, batches, complete
from synood_cli.stages.selected import SelectedImage, selected_images, unchanged
from synood_cli.store.draft import Draft
from synood_cli.store.files import sha256_bytes
from synood_cli.store.store import Artifact, Store


class CaptionJob(NamedTuple):
    """One image to describe; `given` is its caption where it was made elsewhere."""

    place: Place
    class_label: str
    synonyms: tuple[str, ...]
    given: Description | None = None


class Prompt(NamedTuple):
    """What became of one image: the raw answer, the elements that fit, the prompt and its length in tokens, the seconds
    it took, and whether the answer was cut off."""

    raw_answer: str
    elements: list[str]
    prompt: str
    tokens: int
    seconds: float
    cut: bool = False


def caption(
    run: Run,
    settings: CaptionSettings,
    models: Models,
    selection: Artifact,
    captions: Path | None = None,
    vocabulary: Path | None = None,
    key_env: str | None = None,
) -> Artifact:
    """Describe each selected image, drop the main object, and keep what the diffusion text encoder can read.

    The descriptions come from the captioner that `models` names, or from the JSONL file `captions`. `vocabulary` is
    a file of elements for the captioner clip-tags; `key_env` the environment variable with the key that a captioning
    server is sent. An image without a usable description is a failure.
    """
    for template, placeholder in ((settings.template, "{elements}"), (settings.tag_template, "{}")):
        if placeholder not in template:
            raise UsageError(f"the prompt template {template!r} has no {placeholder}", hint=f"add {placeholder} to it")
    if key_env is not None and models.captioner_spec().url is None:
        raise UsageError("a key is sent to a captioning server alone", hint="name the server: --captioner-url URL")
    images = selected_images(run.store, selection, run.limit)
    file = CaptionsFile(captions) if captions else None
    words = _vocabulary(models, file, vocabulary)
    specs = _specs(run, models) if file is None else {}
    given = _given(run.store, images, file) if file is not None else {}
    wrong = [f"{captions}, line {number}: {reason}" for number, reason in file.problems] if file is not None else []
    source = (
        {"captions": _captions_digest(images, given, wrong)}
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
        todo = _with_captions(draft, todo, given, captions)
        draft.note({"warnings": wrong})
    run.progress.start("caption", len(images), len(images) - len(todo))
    options: dict[str, Any] = {"settings": settings, "execution": run.execution, "specs": specs, "vocabulary": words}
    options["key_env"] = key_env
    size = run.execution.concurrency if models.captioner_url else run.execution.batch_size
    local = "captioner" in specs and specs["captioner"].adapter == "transformers"
    todo = unchanged(draft, todo)
    planned = _planned(images, todo, size, whole=local)
    _describe(run, draft, planned, {image.image_id for image in todo}, given, options)
    if cut := run.store.get(draft.artifact.name).notes.get("cut"):
        warning = f"{cut} of the answers were cut off at {settings.max_new_tokens} tokens, and lost their last element"
        draft.note({"warnings": [f"{warning}; --max-new-tokens allows longer ones"]})
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


def _given(store: Store, images: Sequence[SelectedImage], file: CaptionsFile) -> dict[int, Caption]:
    """What the file says about each image, by image id: under the place where it was selected, else under the one
    where it lies now (it may have been moved or renamed since)."""
    given = {}
    for image in images:
        selected = ImageFile(Path(store.image(image.image_id)["root"]), image.name, image.class_name)
        moved = ImageFile(image.path.parent, str(image.path), image.class_name)
        caption = file.find(selected) or (file.find(moved) if image.path != selected.path else None)
        if caption is not None:
            given[image.image_id] = caption
    return given


def _captions_digest(images: Sequence[SelectedImage], given: dict[int, Caption], wrong: Sequence[str]) -> str:
    """Of what the file says about the selected images, and of what is wrong with its lines; other lines and the order
    of lines do not matter."""
    said = [[image.sha256, image.name, given.get(image.image_id)] for image in images]
    told = [[*key, found and found[:2]] for *key, found in said]
    return sha256_bytes(json.dumps([told, wrong] if wrong else told).encode())


def _with_captions(
    draft: Draft, images: Sequence[SelectedImage], given: dict[int, Caption], path: Path | None
) -> list[SelectedImage]:
    captioned = []
    for image in images:
        if image.image_id in given:
            captioned.append(image)
        else:
            draft.fail(image.name, f"no caption in {path}")
    return captioned


def _planned(
    images: Sequence[SelectedImage], todo: Sequence[SelectedImage], size: int, *, whole: bool
) -> list[Sequence[SelectedImage]]:
    """Batches of what is to be captioned. With `whole`, they are those that hold some of it among the batches of all
    images: what a model answers may depend on the prompts beside it, so a batch that was interrupted is asked again."""
    if not whole:
        return list(batches(todo, size))
    missing = {image.image_id for image in todo}
    return [batch for batch in batches(images, size) if any(image.image_id in missing for image in batch)]


def _describe(
    run: Run,
    draft: Draft,
    planned: Sequence[Sequence[SelectedImage]],
    wanted: set[int],
    given: dict[int, Caption],
    options: dict[str, Any],
) -> None:
    spec: ModelSpec | None = options["specs"].get("captioner")
    jobs = ([_job(image, given.get(image.image_id)) for image in batch] for batch in planned)
    results: Iterator[list[Prompt | ItemError]] = run.runner.map("caption", options, jobs)
    for batch, prompts in zip(planned, results, strict=True):
        rows = []
        found = [(image, prompt) for image, prompt in zip(batch, prompts, strict=True) if image.image_id in wanted]
        for image, prompt in found:
            if isinstance(prompt, ItemError):
                draft.fail(image.name, prompt.message)
                continue
            row = {**prompt._asdict(), "elements": json.dumps(prompt.elements, ensure_ascii=False)}
            del row["cut"]
            made_by = {"model": spec.name if spec else "file", "revision": spec.revision if spec else None}
            rows.append({"image_id": image.image_id, **row, **made_by})
        if cut := sum(isinstance(prompt, Prompt) and prompt.cut for _, prompt in found):
            draft.note({"cut": cut + run.store.get(draft.artifact.name).notes.get("cut", 0)})
        draft.commit({"prompts": rows}, done=len(rows))
        run.progress.advance(len(found))


def _job(image: SelectedImage, found: Caption | None) -> CaptionJob:
    label = label_text(image.class_name)
    given = Description(found.text, found.elements) if found else None
    return CaptionJob(image.place, label, tuple(synonyms_of(label)), given)
