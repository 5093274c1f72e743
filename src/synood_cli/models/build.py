"""From a ModelSpec to a model: adapters by name, imported only when asked for."""

from __future__ import annotations

from collections.abc import Sequence

from synood_cli.errors import UsageError
from synood_cli.models.protocols import Captioner, Classifier, ImageTextEncoder, Inpainter
from synood_cli.records import ModelSpec, Precision
from synood_cli.registry import Registry

ENCODERS = Registry("CLIP adapter", {"open_clip": "synood_cli.models.open_clip_encoder:OpenClipEncoder"})
INPAINTERS = Registry("inpainter adapter", {"diffusers": "synood_cli.models.diffusers_inpainter:DiffusersInpainter"})
CLASSIFIERS = Registry("classifier adapter", {"timm": "synood_cli.models.timm_classifier:TimmClassifier"})
CAPTIONERS = Registry(
    "captioner adapter",
    {
        "transformers": "synood_cli.models.transformers_captioner:TransformersCaptioner",
        "openai-server": "synood_cli.models.openai_server:OpenAiServerCaptioner",
        "clip-tags": "synood_cli.models.clip_tags:ClipTags",
    },
)


def build_encoder(spec: ModelSpec, device: str, precision: Precision) -> ImageTextEncoder:
    """The CLIP that `spec` names. Raises UsageError for an unknown adapter, ModelError when it cannot be loaded."""
    encoder: ImageTextEncoder = ENCODERS.load(spec.adapter)(spec, device, precision)
    return encoder


def build_inpainter(
    spec: ModelSpec,
    device: str,
    precision: Precision,
    *,
    resolution: int | None = None,
    text_to_image: bool = False,
) -> Inpainter:
    """The inpainting pipeline that `spec` names, at its native resolution unless told otherwise; with `text_to_image`,
    a plain text-to-image pipeline will do. Raises likewise."""
    adapter = INPAINTERS.load(spec.adapter)
    inpainter: Inpainter = adapter(spec, device, precision, resolution=resolution, text_to_image=text_to_image)
    return inpainter


def build_classifier(spec: ModelSpec, device: str, precision: Precision) -> Classifier:
    """The classifier g that `spec` names. Raises likewise."""
    classifier: Classifier = CLASSIFIERS.load(spec.adapter)(spec, device, precision)
    return classifier


def build_captioner(
    spec: ModelSpec,
    device: str,
    precision: Precision,
    *,
    instruction: str,
    max_new_tokens: int,
    concurrency: int,
    timeout: float,
    attempts: int,
    backoff: float,
    key_env: str | None,
    encoder: ImageTextEncoder | None,
    vocabulary: Sequence[str],
    tag_template: str,
    top: int,
    z_score: float,
    class_similarity: float,
) -> Captioner:
    """The captioner that `spec` names; each adapter takes of the settings what it knows. Raises likewise.

    `encoder` and `vocabulary` are for "clip-tags", which raises UsageError without an encoder.
    """
    adapter = CAPTIONERS.load(spec.adapter)
    captioner: Captioner
    if spec.adapter == "clip-tags":
        if encoder is None:
            raise UsageError("clip-tags captions with a CLIP, and none was given")
        captioner = adapter(
            spec,
            encoder,
            vocabulary,
            template=tag_template,
            top=top,
            z_score=z_score,
            class_similarity=class_similarity,
        )
    elif spec.adapter == "openai-server":
        captioner = adapter(
            spec,
            instruction=instruction,
            max_new_tokens=max_new_tokens,
            concurrency=concurrency,
            timeout=timeout,
            attempts=attempts,
            backoff=backoff,
            key_env=key_env,
        )
    else:
        captioner = adapter(spec, device, precision, instruction=instruction, max_new_tokens=max_new_tokens)
    return captioner
