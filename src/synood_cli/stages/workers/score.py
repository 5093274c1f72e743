"""Scores batches of images with a head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synood_cli.config import Execution
from synood_cli.data.identity import Identity, settled, stamp_of
from synood_cli.records import ModelSpec, Place, Precision
from synood_cli.stages.heads import Detections, require_clip
from synood_cli.stages.score import CHANGED, NOT_FINITE_SCORE, Scored
from synood_cli.stages.workers.embed import EmbeddingWorker, clip_description
from synood_cli.stages.workers.torch_head import TorchHead
from synood_cli.store.heads import Head


class ScoringWorker:
    """Holds CLIP's image tower and a head."""

    def __init__(self, head: Path, spec: ModelSpec, execution: Execution, precision: Precision) -> None:
        self._clip = EmbeddingWorker(spec, execution, precision)
        read = Head.read(head)
        require_clip(read.info, head.name, clip_description(self._clip.encoder))
        self._head = TorchHead.of(read, self._clip.device)

    def __call__(self, places: Sequence[Place]) -> Scored:
        """Detections of the images that can be read, and why the others cannot; of each file, what it was."""
        before = [stamp_of(place) if isinstance(place, Path) else None for place in places]
        features, problems, digests = self._clip.encode(places)
        looked_at = zip(places, before, digests, strict=True)
        identities = [None if stamp is None else _identity(place, stamp, sha256) for place, stamp, sha256 in looked_at]
        found = self._head.detect(features)
        finite = np.isfinite(found.scores) & np.isfinite(found.nearest_similarity)
        verdicts = iter(finite.tolist())
        kept: list[bool] = []  # of the rows of `found`
        reasons: list[str | None] = []
        for problem, identity in zip(problems, identities, strict=True):
            reason = problem
            if problem is None:
                is_finite = next(verdicts)
                changed = identity is not None and identity.sha256 is None
                reason = CHANGED if changed else None if is_finite else NOT_FINITE_SCORE
                kept.append(reason is None)
            reasons.append(reason)
        return Scored(Detections(*(values[np.array(kept, dtype=bool)] for values in found)), reasons, identities)


def _identity(place: Place, before: str, sha256: str | None) -> Identity:
    """What the file at `place` was when it was read: `sha256` is that of the bytes that were decoded, None where there
    were none. It has no hash either where its stamp is not what it was `before`: it is to be read again."""
    assert isinstance(place, Path)
    if sha256 is None or stamp_of(place) != before:
        return Identity(None, before)
    return Identity(sha256, settled(before))
