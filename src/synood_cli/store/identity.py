"""The identity of an artifact: which question it answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from synood_cli.records import ModelSpec
from synood_cli.store.store import canonical_json


def question_of(
    stage: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    models: Mapping[str, ModelSpec],
    seed: int,
) -> str:
    """Canonical JSON of (stage, settings, input digests, model revisions, seed). The tool's version is
    recorded, but not here: a stage whose meaning changes changes its settings.
    """
    question = {
        "stage": stage,
        "settings": dict(settings),
        "inputs": dict(inputs),
        "models": {role: spec.identity() for role, spec in models.items()},
        "seed": seed,
    }
    return canonical_json(question)


def identity_of(question: str) -> str:
    """Hash of the question's text: the same question has the same identity."""
    return hashlib.sha256(question.encode()).hexdigest()
