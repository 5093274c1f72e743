"""Every default of the product, once, with its source. `synood.toml` overrides them: settings_file.py.

"Sec." and "Eq." are the SynOOD paper's (arXiv 2507.10225); "release" is the authors' public code. A stage's settings
are part of its artifact's identity; `Execution` (device, batch size, …) changes speed only and is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field

from synood_cli.errors import UsageError
from synood_cli.evaluated_methods import AdaNegSettings, Baseline, BaselineSettings, ZeroShot, named
from synood_cli.records import ModelSpec, Precision, Record, local

Recipe = Literal["paper", "release"]
ClassList = Literal["imagenet-1k", "cifar-10", "cifar-100"]
FeatureType = Literal["float16", "float32"]
Loss = Literal["energy", "centred-energy", "msp", "maxlogit", "gen"]
Strategy = Literal["separate", "separate-with-projection", "joint"]
CosinePer = Literal["step", "epoch"]
CandidateList = Literal["neglabel", "csp", "wordnet"]
"""Candidates that come with synood: the NegLabel paper's, those of CSP's public code, all of WordNet."""

LOWEST_TEMPERATURE = 1e-4
HIGHEST_TEMPERATURE = 1e4
"""Bounds of τ in Eq. 2. Below, the rounding of a cosine in float32 moves cos/τ by more than 1e-3; above, all scores are
equal."""


class Settings(Record):
    """Settings of one stage. `release` holds what the authors' code does differently from the paper."""

    release: ClassVar[dict[str, Any]] = {}
    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that an earlier version did not have; their defaults are what it did."""

    @classmethod
    def of_recipe(cls, recipe: str, said: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG003
        """What the recipe has in the place of the defaults, where `said` is what else is known of the settings."""
        return cls.release if recipe == "release" else {}

    def identity(self, include: Set[str] | None = None) -> dict[str, Any]:
        """The settings (of them, `include`) as an artifact's identity has them: without what is `later` and at its
        default, so that the artifacts of earlier versions are found."""
        unchanged = {name for name in self.later if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(include=set(include) if include else None, exclude=unchanged)


class SelectSettings(Settings):
    """Sec. 3.4: the most complex images of each class."""

    per_class: int = Field(50, ge=1, description="Images kept per class, most complex first (paper).")
    classes: ClassList | None = Field(
        None, description="What class numbers (of list files, or as folder names) stand for; none = numbers stay."
    )


class CaptionSettings(Settings):
    """Eq. 3: what surrounds the main object."""

    template: str = Field(
        "A photo only remain {elements}.", description="Diffusion prompt; {elements} is the parsed list (release)."
    )
    instruction: str = Field(
        "List the elements of this image except the {class_name}, separated by commas. "
        "Name only things that are visible, one or two words each, and do not mention the {class_name}.",
        description="Question p_in put to the multimodal model; {class_name} is the image's class (Eq. 3).",
    )
    max_new_tokens: int = Field(96, ge=1, description="Longest answer of the multimodal model, in tokens.")
    max_tokens: int = Field(
        77, ge=4, description="Longest prompt, in tokens of the diffusion text encoder, begin and end included (CLIP)."
    )
    tags: int = Field(6, ge=1, description="Most elements that clip-tags names per image.")
    tag_template: str = Field("a photo with {}", description="Prompt with which clip-tags looks for an element.")
    tag_z_score: float = Field(1.0, description="clip-tags names elements this many deviations above the mean.")
    tag_class_similarity: float = Field(
        0.9, gt=0, le=1, description="clip-tags drops elements this similar to the class name."
    )
    precision: Precision = Field("fp32", description="Arithmetic of the captioner.")


class SynthesizeSettings(Settings):
    """Eqs. 4-10: redraw each image towards its surroundings, at the boundary."""

    resolution: int | None = Field(
        None, ge=8, description="Side of the synthetic images in pixels; none = the pipeline's own (512 for SD 2)."
    )
    iterations: int = Field(3, ge=1, description="Forward passes; the noise moves between them (paper).")
    steps: int = Field(20, ge=1, description="Scheduler steps of a whole diffusion (paper).")
    strength: float = Field(0.6, gt=0, le=1, description="Share of the steps that is run (paper): 12 of 20.")
    guidance_scale: float = Field(8.0, ge=1, description="Classifier-free guidance (release).")
    step_size: float = Field(10.0, ge=0, description="rρ of Eq. 10, on the sum of the per-image losses.")
    loss: Loss = Field("energy", description="OOD loss on the classifier's logits: Eq. 7, or another score.")
    temperature: float = Field(1.0, gt=0, description="τ of the energy S_E = τ·logsumexp(g/τ).")
    boundary: Literal["auto"] | float = Field(
        "auto", description="m_out of Eq. 7; auto = the score that --boundary-tpr of the selected images reach."
    )
    boundary_tpr: float = Field(0.95, gt=0, le=1, description="Share of InD images above the automatic boundary.")
    keep: Literal["last", "best"] = Field(
        "last", description="Iterate to save: the last (release), or the nearest to the boundary on its OOD side."
    )
    scheduler: Literal["ddim", "pndm"] = Field("ddim", description="Sampler: DDIM (Eq. 5) or PNDM (release).")
    source: Literal["gradient", "plain", "text2img"] = Field(
        "gradient",
        description="gradient = Eqs. 4-10; plain = the same images without the gradient; text2img = negative labels "
        "as prompts, from pure noise over all steps (Table 4).",
    )
    precision: Precision = Field("fp32", description="Arithmetic of UNet, VAE and classifier; latents stay fp32.")

    release: ClassVar[dict[str, Any]] = {
        "scheduler": "pndm",
        "loss": "centred-energy",
        "boundary": 5.0,
        "step_size": 5.0,  # rρ = 10 on the mean over batches of 2, as a sum over images
    }


CSP_TEMPLATES = (
    "a close-up photo of the nice {}.|a photo with the nice {}.|a good photo with the nice {}.|a photo of the nice {}.|"
    "{}|the {}|the good {}|the nice {}"
)
"""Prompts of nouns and InD labels in CSP's public code."""


class MineSettings(Settings):
    """NegMining (NegLabel, ICLR 2024) and the first head."""

    percentile: float = Field(0.95, gt=0, le=1, description="Percentile of the similarity to all InD labels.")
    share: float = Field(0.15, gt=0, le=1, description="Share of the candidates kept, least similar first.")
    candidates: str = Field(
        "neglabel",
        min_length=1,
        description="Candidates: neglabel = the paper's 70,000 words, csp = those of CSP's code (recipe release with "
        "--pool csp), wordnet = all its nouns and adjectives; or a FILE, one noun,word or adj,word per line.",
    )
    pool: Literal["neglabel", "csp"] = Field(
        "neglabel", description="Candidates: as they are (NegLabel), or every adjective with a superclass (CSP)."
    )
    csp_similarity: float = Field(
        0.95, gt=0, le=1, description="CSP drops candidates more similar than this to any InD label (CSP's release)."
    )
    csp_template: str = Field(
        "a nice photo of {}",
        description="CSP's prompt of an adjective with its superclass (recipe release: the four of CSP's code).",
    )
    average: Literal["unit", "raw"] = Field(
        "unit",
        description="What several templates average: features of unit length (CLIP), or raw ones (recipe release with "
        "--pool csp).",
    )
    ind_template: str = Field(
        "the nice {}", description="Prompt of an InD label; several with | between them, or openai-80, are averaged."
    )
    noun_template: str = Field("the nice {}", description="Prompt of a candidate noun.")
    adjective_template: str = Field("This is a {} photo", description="Prompt of a candidate adjective.")
    temperature: float = Field(0.01, ge=LOWEST_TEMPERATURE, le=HIGHEST_TEMPERATURE, description="τ of Eq. 2.")
    groups: int = Field(100, ge=0, description="Groups of negative labels that Eq. 2 averages over; 0 = no groups.")
    tpr: float = Field(0.95, gt=0, le=1, description="Share of the selected images that the head's threshold keeps.")
    precision: Precision = Field("fp32", description="Arithmetic of CLIP.")

    release: ClassVar[dict[str, Any]] = {"ind_template": "a nice {}"}
    release_of_csp: ClassVar[dict[str, Any]] = {
        "candidates": "csp",
        "ind_template": CSP_TEMPLATES,
        "noun_template": CSP_TEMPLATES,
        "csp_template": "{}|a nice photo of {}|a good photo of {}|a close-up photo of {}",
        "average": "raw",
    }
    """CSP's public code (Chen et al., NeurIPS 2024)."""
    later: ClassVar[frozenset[str]] = frozenset({"average"})

    @classmethod
    def of_recipe(cls, recipe: str, said: Mapping[str, Any]) -> dict[str, Any]:
        """As the base class, but the release of the CSP pool is CSP's."""
        release = cls.release_of_csp if said.get("pool") == "csp" else cls.release
        return release if recipe == "release" else {}


class TrainProjectionSettings(Settings):
    """Eqs. 11-12: the projection on CLIP's image side (Adam)."""

    images: Literal["both", "ind"] = Field(
        "both", description="Images to train on: selected and synthetic ones, or as a control the selected ones alone."
    )
    epochs: int = Field(3, ge=1, description="Passes over the pairs (paper).")
    steps: int | None = Field(None, ge=1, description="Training steps in all, in the place of the epochs.")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate (paper).")
    weight_decay: float = Field(1e-5, ge=0, description="Adam's weight decay (paper).")
    batch_size: int = Field(128, ge=1, description="Pairs per step (paper).")
    final_learning_rate: float | None = Field(None, gt=0, description="Cosine decay ends here; none = constant.")
    cosine_per: CosinePer = Field("step", description="Cosine decay moves the rate after every step, or every epoch.")
    tpr: float = Field(0.95, gt=0, le=1, description="Share of the selected images that the head's threshold keeps.")
    precision: Precision = Field("fp32", description="Arithmetic of CLIP.")

    release: ClassVar[dict[str, Any]] = {"final_learning_rate": 1e-5, "cosine_per": "epoch"}
    later: ClassVar[frozenset[str]] = frozenset({"cosine_per"})


class TrainLabelsSettings(Settings):
    """Eqs. 13-14: fine-tune the text features of the negative labels nearest to the synthetic images (SGD)."""

    strategy: Strategy = Field(
        "separate",
        description="Table 5: labels alone, seen without or with the head's projection; or joint, labels and a new "
        "projection at once, by the optimiser's settings in [train-proj].",
    )
    epochs: int = Field(5, ge=1, description="Passes over the synthetic images (paper).")
    steps: int | None = Field(None, ge=1, description="Training steps in all, in the place of the epochs.")
    learning_rate: float = Field(2e-3, gt=0, description="SGD's learning rate (paper).")
    momentum: float = Field(0.0, ge=0, lt=1, description="SGD's momentum.")
    weight_decay: float = Field(0.0, ge=0, description="SGD's weight decay.")
    cosine: bool = Field(False, description="Cosine decay of the learning rate to zero.")
    cosine_per: CosinePer = Field("step", description="Cosine decay moves the rate after every step, or every epoch.")
    label_length: Literal["unit", "raw"] = Field(
        "unit",
        description="Length of the label features that training starts from: 1, or raw, the text encoder's own l, "
        "where each step turns a label by 1/l² as much.",
    )
    batch_size: int = Field(128, ge=1, description="Images per step (release).")
    loss: Literal["text-to-image", "image-to-text"] = Field(
        "text-to-image", description="Eq. 14 (denominator over images), or the release's cross-entropy over labels."
    )
    tpr: float = Field(0.95, gt=0, le=1, description="Share of the selected images that the head's threshold keeps.")
    precision: Precision = Field("fp32", description="Arithmetic of CLIP.")

    release: ClassVar[dict[str, Any]] = {
        "learning_rate": 2e-2,
        "momentum": 0.9,
        "weight_decay": 1e-5,
        "cosine": True,
        "cosine_per": "epoch",
        "label_length": "raw",
        "loss": "image-to-text",
    }
    later: ClassVar[frozenset[str]] = frozenset({"cosine_per", "label_length"})


class EvalSettings(Settings):
    """Section 4: AUROC and FPR95 with bootstrap intervals, of every method on the same images."""

    method: Annotated[
        tuple[ZeroShot, ...], BeforeValidator(lambda said: named(said, get_args(ZeroShot))), Field(min_length=1)
    ] = Field(
        ("mcm", "head"),
        description="Scores: mcm, head (each head's own), eq2 (without groups), adaneg (adapts to the test images); "
        "or all. A comma list, or repeated.",
    )
    baselines: Annotated[tuple[Baseline, ...], BeforeValidator(lambda said: named(said, get_args(Baseline)))] = Field(
        (),
        description=f"Baselines on the classifier: {', '.join(get_args(Baseline))}; or all. A comma list, or repeated.",
    )
    against: str | None = Field(
        None, min_length=1, description="Method or head that the others are compared with; none = the first head's own."
    )
    tpr: float = Field(0.95, gt=0, lt=1, description="True-positive rate of the FPR (FPR95).")
    positive: Literal["ind", "ood"] = Field(
        "ind", description="Positive class of the FPR: ind (MCM, NegLabel, SynOOD) or ood (OpenOOD v1.5)."
    )
    bootstrap: int = Field(200, ge=0, description="Bootstrap samples of the intervals; 0 = none.")
    level: float = Field(0.95, gt=0, lt=1, description="Level of the intervals.")
    timing: bool = Field(False, description="Measure the milliseconds per image that each head adds to NegLabel.")
    adaneg: AdaNegSettings = Field(AdaNegSettings(), description="AdaNeg's own settings; in synood.toml only.")
    baseline: BaselineSettings = Field(BaselineSettings(), description="The baselines' settings; in synood.toml only.")
    precision: Precision = Field("fp32", description="Arithmetic of CLIP and of the classifier.")


class ScoreSettings(Settings):
    """Score any images with a head."""

    threshold: float | None = Field(None, description="η: InD iff the score reaches it; none = the head's own.")
    tpr: float | None = Field(
        None, gt=0, le=1, description="η at this TPR on the images that the head was calibrated on; none = --threshold."
    )
    precision: Precision = Field("fp32", description="Arithmetic of CLIP.")


class CalibrateSettings(Settings):
    """The threshold of a head, from images that it has not seen."""

    tpr: float = Field(0.95, gt=0, le=1, description="Share of the images that the threshold keeps (TPR 95).")
    level: float = Field(0.95, gt=0, lt=1, description="Level of the exact interval of the achieved TPR.")
    precision: Precision = Field("fp32", description="Arithmetic of CLIP.")


class PushSettings(Settings):
    """How a head is published; not part of any identity."""

    features: FeatureType = Field(
        "float16",
        description="Type that the label features are stored in: rounding moves a cosine by 1e-5 and a score by 1e-3.",
    )
    license: str | None = Field(None, description="The hub's id of the head's licence; none = not stated.")


class Execution(Record):
    """How a stage runs. Changes speed and memory, and results by rounding only, so it is not part of an identity."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    batch_size: int = Field(16, ge=1, description="Images per batch.")
    workers: int = Field(2, ge=1, description="Threads that read and decode images.")
    gradient_chunk: int = Field(4, ge=1, description="Images decoded and differentiated at once.")
    concurrency: int = Field(8, ge=1, description="Requests in flight at a captioning server.")
    timeout: float = Field(
        120.0, gt=0, description="Seconds that a captioning server may take for an answer, to its last byte."
    )
    retries: int = Field(4, ge=0, description="Further tries of a failed request, with growing pauses.")
    backoff: float = Field(1.0, ge=0, description="Seconds before the first further try; doubles each time.")
    poll: float = Field(2.0, gt=0, description="Seconds between two looks at a folder that is watched.")


_NAMED_USER = re.compile(r"(?:\w+://)?[^/?#]*@")


class Models(Record):
    """The four models, by hub id or local folder; `playground` is the bundled miniature (but there is no captioner)."""

    clip: str = Field("ViT-B-16", min_length=1, description="open_clip model name, hub id or local folder.")
    pretrained: str | None = Field("openai", description="open_clip weight tag or file, for a plain model name.")
    captioner: str = Field(
        "llava-hf/llava-1.5-7b-hf",
        min_length=1,
        description="Image-text-to-text model, hub id or folder; or clip-tags.",
    )
    captioner_url: str | None = Field(
        None, min_length=1, description="OpenAI-compatible server that serves the captioner."
    )
    inpainter: str = Field(
        "sd2-community/stable-diffusion-2-inpainting",
        min_length=1,
        description="Stable Diffusion inpainting, hub id or folder.",
    )
    classifier: str = Field(
        "resnet50.tv2_in1k", min_length=1, description="timm classifier g over the InD classes, or folder."
    )

    def clip_spec(self) -> ModelSpec:
        name = _model(self.clip, "clip")
        built_in = "/" not in self.clip and name == self.clip
        weights = place(self.pretrained, there=Path.is_file) if built_in and self.pretrained else None
        return ModelSpec(adapter="open_clip", name=name, pretrained=weights)

    def captioner_spec(self) -> ModelSpec:
        if self.captioner == "clip-tags":  # asks no server, whatever synood.toml says of one
            return ModelSpec(adapter="clip-tags", name=self.captioner)
        if self.captioner_url:
            if _NAMED_USER.match(self.captioner_url):
                raise UsageError(
                    "the captioner's URL holds a user name or password, which messages and failures would repeat",
                    hint="put a key into an environment variable: --captioner-key-env NAME",
                )
            return ModelSpec(adapter="openai-server", name=self.captioner, url=self.captioner_url)
        return ModelSpec(adapter="transformers", name=place(self.captioner))

    def inpainter_spec(self) -> ModelSpec:
        return ModelSpec(adapter="diffusers", name=_model(self.inpainter, "inpainter"))

    def classifier_spec(self) -> ModelSpec:
        return ModelSpec(adapter="timm", name=_model(self.classifier, "classifier"))


PLAYGROUND = "playground"
"""In the place of a model's name, the bundled miniature of that kind. A folder that is called so is ./playground."""


def bundled(kind: str) -> Path:
    """The folder of the playground's model of that kind: clip, classifier or inpainter."""
    return Path(__file__).parent / "playground" / "models" / kind


def _model(name: str, kind: str) -> str:
    return str(bundled(kind)) if name == PLAYGROUND else place(name)


def place(name: str, folder: Path = Path(), there: Callable[[Path], bool] = Path.is_dir) -> str:
    """What is `there`, seen from `folder`, by its absolute path, so that a later command finds it from anywhere; a hub
    id or weight tag as it is."""
    path = None if name in ("", PLAYGROUND) else local(name, there, folder)
    return name if path is None else str(path.resolve())


STAGES: dict[str, type[Settings]] = {
    "select": SelectSettings,
    "caption": CaptionSettings,
    "synthesize": SynthesizeSettings,
    "mine-labels": MineSettings,
    "train-proj": TrainProjectionSettings,
    "train-labels": TrainLabelsSettings,
    "eval": EvalSettings,
    "score": ScoreSettings,
    "calibrate": CalibrateSettings,
}
