"""Describes images and turns the answers into prompts that the diffusion text encoder can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from synood_cli.config import CaptionSettings, Execution
from synood_cli.data.images import decoded_picture
from synood_cli.errors import ItemError
from synood_cli.method.answers import final_answer, is_refusal
from synood_cli.method.elements import fit_prompt, parse_elements, remove_main_object
from synood_cli.models.build import build_captioner, build_encoder
from synood_cli.models.clip_tokens import count_clip_tokens
from synood_cli.models.loading import choose_device
from synood_cli.models.protocols import Captioner
from synood_cli.records import Description, ModelSpec, printable
from synood_cli.stages.caption import CaptionJob, Prompt

_MORE = "--max-new-tokens allows more than {} tokens"


class CaptionWorker:
    """Holds the captioner, where one is asked for; without one, the jobs bring their descriptions."""

    def __init__(
        self,
        settings: CaptionSettings,
        execution: Execution,
        specs: dict[str, ModelSpec],
        vocabulary: Sequence[str],
        key_env: str | None = None,
    ) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(execution.workers)
        self._captioner = _captioner(settings, execution, specs, vocabulary, key_env) if specs else None
        self._count: Callable[[str], int] = count_clip_tokens
        self._prepared_bytes = self._captioner.prepared_bytes if self._captioner else None

    def __call__(self, batch: Sequence[CaptionJob]) -> list[Prompt | ItemError]:
        """One prompt a job, in order, or why there is none."""
        described = self._describe(batch)
        return [_prompt(job, answer, self._settings, self._count) for job, answer in zip(batch, described, strict=True)]

    def _describe(self, batch: Sequence[CaptionJob]) -> list[Description | Exception]:
        if self._captioner is None:
            return [job.given or ItemError("no caption") for job in batch]
        opened = list(self._pool.map(self._open, batch))
        images = [image for image in opened if isinstance(image, Image.Image)]
        labels = [job.class_label for job, image in zip(batch, opened, strict=True) if isinstance(image, Image.Image)]
        answers = iter(self._captioner.describe(images, labels) if images else [])
        return [next(answers) if isinstance(image, Image.Image) else image for image in opened]

    def _open(self, job: CaptionJob) -> Image.Image | ItemError:
        try:
            with decoded_picture(job.place, self._prepared_bytes) as picture:
                return picture.image
        except ItemError as error:
            return error


def _captioner(
    settings: CaptionSettings,
    execution: Execution,
    specs: dict[str, ModelSpec],
    vocabulary: Sequence[str],
    key_env: str | None,
) -> Captioner:
    device = choose_device(execution.device)
    encoder = build_encoder(specs["clip"], device, settings.precision) if "clip" in specs else None
    return build_captioner(
        specs["captioner"],
        device,
        settings.precision,
        instruction=settings.instruction,
        max_new_tokens=settings.max_new_tokens,
        concurrency=execution.concurrency,
        timeout=execution.timeout,
        attempts=execution.retries + 1,
        backoff=execution.backoff,
        key_env=key_env,
        encoder=encoder,
        vocabulary=vocabulary,
        tag_template=settings.tag_template,
        top=settings.tags,
        z_score=settings.tag_z_score,
        class_similarity=settings.tag_class_similarity,
    )


def _prompt(
    job: CaptionJob, answer: Description | Exception, settings: CaptionSettings, count: Callable[[str], int]
) -> Prompt | ItemError:
    if isinstance(answer, ItemError):
        return answer
    if isinstance(answer, Exception):
        raise answer
    try:
        elements = answer.elements if answer.elements is not None else _elements(answer, settings.max_new_tokens)
    except ItemError as error:
        return error
    kept = remove_main_object(elements, job.class_label, job.synonyms)
    if not kept:
        what = "names nothing" if not elements else f"names only the main object ({job.class_label})"
        return ItemError(f"the description {what}: {answer.raw[:200]!r}")
    try:
        prompt, kept, tokens = fit_prompt(kept, settings.template, count, settings.max_tokens)
    except ItemError as error:
        return error
    return Prompt(answer.raw, kept, prompt, tokens, answer.seconds, answer.cut)


def _elements(answer: Description, longest: int) -> list[str]:
    """What the answer names; of one that was cut off, without the last. Raises ItemError for a refusal, and for an
    answer that holds none."""
    text = final_answer(answer.raw)
    if is_refusal(text):
        raise ItemError(f"the model refused: {printable(text[:200])}")
    if not text and answer.raw.strip():
        raise ItemError(
            "the model reasoned and gave no answer; " + _MORE.format(longest)
            if answer.cut
            else f"the model reasoned and gave no answer: {printable(answer.raw.strip()[:200])}"
        )
    elements = parse_elements(text)
    if not answer.cut:
        return elements
    if len(elements) < 2:
        raise ItemError(f"the answer was cut off before its first element was whole; {_MORE.format(longest)}")
    return elements[:-1]
