"""The identity of an artifact: which question it answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from synood_cli.records import ModelSpec
from synood_cli.store.store import canonical_json

_OF_PIXELS = (
    *("select", "caption", "synthesize", "mine-labels", "train-proj", "train-labels", "calibrate", "eval", "score"),
    *("embed-images", "classify-images"),
)
"""The stages whose answer hangs on what a picture's file decodes to, be it by way of features."""

ALGORITHMS: Final = dict.fromkeys(_OF_PIXELS, 2)
"""By stage, the number of what it computes, where that has changed; 1 elsewhere. Raise a stage's number when the same
question gets another answer: what an earlier synood made is then made anew, not reused.

2: which pixels a TIFF of deep, signed or inverted samples has.
"""


def question_of(
    stage: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    models: Mapping[str, ModelSpec],
    seed: int,
) -> str:
    """Canonical JSON of (stage, its algorithm's number, settings, input digests, model revisions, seed). The tool's
    version is recorded, but not here.
    """
    question = {
        "stage": stage,
        "settings": dict(settings),
        "inputs": dict(inputs),
        "models": {role: spec.identity() for role, spec in models.items()},
        "seed": seed,
    }
    if stage in ALGORITHMS:
        question["algorithm"] = ALGORITHMS[stage]
    return canonical_json(question)


def identity_of(question: str) -> str:
    """Hash of the question's text: the same question has the same identity."""
    return hashlib.sha256(question.encode()).hexdigest()
