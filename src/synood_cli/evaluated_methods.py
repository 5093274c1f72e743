"""The methods that `eval` compares, by name, with the settings of those that have their own and their sources."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from synood_cli.records import Record

ZeroShot = Literal["mcm", "head", "eq2", "adaneg"]
Baseline = Literal[
    "MSP", "MaxLogit", "Energy", "ODIN", "GradNorm", "ViM", "KNN", "DICE", "ReAct", "GEN", "RMDS", "ASH-S", "ASH-B"
]  # fmt: skip
FITTED: tuple[Baseline, ...] = ("ViM", "KNN", "DICE", "ReAct", "RMDS")
"""Baselines that are fitted on in-distribution images."""
VARIANTS: dict[str, tuple[str, ...]] = {"ash": ("ASH-S", "ASH-B")}
"""Names that stand for several methods."""
BASELINE_RULES = 2
"""Counts the changes of what the baselines compute: part of an evaluation's identity."""
ADANEG_RULES = 2
"""The same for AdaNeg."""


def named(said: object, known: tuple[str, ...]) -> object:
    """What a list setting means: "a,B" and ["a", "b"] are both the known names a and b, each once; "all" is all, and
    "ash" all of its variants that are known."""
    parts = [said] if isinstance(said, str) else said
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        return said
    words = [word.strip() for part in parts for word in part.split(",")]
    spelled = {name.casefold(): name for name in known}
    several = {"all": known} | {family: names for family, names in VARIANTS.items() if set(names) <= set(known)}
    named = [several.get(word.casefold(), (spelled.get(word.casefold(), word),)) for word in words if word]
    return tuple(dict.fromkeys(name for names in named for name in names))


class AdaNegSettings(Record):
    """AdaNeg (Zhang & Zhang, NeurIPS 2024): the values of its public code for ImageNet."""

    memory: int = Field(9, ge=1, description="Test images remembered per label, beside its text.")
    threshold: float = Field(0.5, gt=0, lt=1, description="Score that parts InD from OOD among the images to remember.")
    gap: float = Field(0.5, ge=0, le=1, description="Share of either side of the threshold that is not remembered.")
    weight: float = Field(0.1, ge=0, description="λ: weight of NegLabel's score beside that of the proxies.")
    beta: float = Field(
        5.0,
        ge=0,
        description="β: sharpness of the sample-adaptive proxies (the public code rounds the paper's 5.5 down); "
        "0 = task-adaptive ones.",
    )
    groups: int = Field(5, ge=0, description="Groups of negative labels in both scores; 0 = no groups.")
    batch: int = Field(256, ge=1, description="Images of the stream that are remembered before they are scored.")


class BaselineSettings(Record):
    """The baselines on the classifier g, with the values of their papers for ImageNet."""

    odin_temperature: float = Field(1000.0, gt=0, description="T of ODIN (Liang et al., ICLR 2018).")
    odin_step: float = Field(0.0014, ge=0, description="ε of ODIN, on pixels in [0, 1] (Liang et al., ICLR 2018).")
    vim_dimension: int | None = Field(
        None,
        ge=1,
        description="Principal dimensions of ViM; none = 1000 of 2048 or more features, 512 of 768, else half.",
    )
    knn_k: int = Field(50, ge=1, description="k of KNN (OpenOOD v1.5), at most the images that it is fitted on.")
    dice_sparsity: float = Field(0.7, ge=0, le=1, description="p of DICE on ImageNet (Sun & Li, ECCV 2022).")
    react_percentile: float = Field(0.9, ge=0, le=1, description="p of ReAct (Sun et al., NeurIPS 2021).")
    ash_percentile: float = Field(
        0.9, ge=0, lt=1, description="Pruned fraction of ASH-S (Djurisic et al., ICLR 2023) and ASH-B (OpenOOD v1.5)."
    )
