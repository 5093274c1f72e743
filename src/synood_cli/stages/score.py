"""Score images with a head (Eq. 2). Needs CLIP's image tower only: labels come as features in the head.

Two ways lead to the same rows. `score` keeps those of one image set in the workspace, as an artifact that answers when
it is asked again. `stages.stream` gives them one after another, of any number of images, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from synood_cli.config import ScoreSettings
from synood_cli.data.identity import Identity
from synood_cli.data.image_sets import images_fingerprint, set_fingerprint
from synood_cli.data.known_files import untouched
from synood_cli.data.sources import find_images
from synood_cli.errors import UsageError
from synood_cli.records import AnyImage
from synood_cli.stages.embed import BATCHES_PER_JOB
from synood_cli.stages.heads import Detections, head_and_clip
from synood_cli.stages.run import Run, batches, complete
from synood_cli.stages.score_rows import COLUMNS, Row, decision
from synood_cli.store.heads import HeadInfo
from synood_cli.store.store import Artifact, Store


class Scored(NamedTuple):
    """What became of a job: detections of the images that could be read, (reason or None) of each image, and what each
    image that is a file was when it was read."""

    detections: Detections
    problems: list[str | None]
    identities: list[Identity | None]


CHANGED = "it changed while it was read"
"""Why a file has no row: what was scored and what is there may be two images."""

NOT_FINITE_SCORE = "its score is not a finite number"


def chosen_threshold(info: HeadInfo, settings: ScoreSettings, name: str) -> float:
    """η: the one that is given, the one at the TPR that is given, or that of the head called `name`.

    Raises UsageError for two, and for a TPR where the head keeps no calibration scores.
    """
    if settings.tpr is None:
        return info.threshold if settings.threshold is None else settings.threshold
    if settings.threshold is not None:
        raise UsageError("--threshold and --tpr both set the threshold", hint="give one of them")
    if not info.calibration.scores:
        raise UsageError(
            f"{name} keeps no calibration scores to take a threshold at {settings.tpr:g} TPR from",
            hint=f"synood calibrate {name} FOLDER makes a head that does",
        )
    import torch

    from synood_cli.method.boundary import threshold_at_tpr

    return threshold_at_tpr(torch.tensor(info.calibration.scores, dtype=torch.float64), settings.tpr)


def score(run: Run, settings: ScoreSettings, head: Artifact, source: Path, data_root: Path | None = None) -> Artifact:
    """S of every image of the set at `source` (see find_images), whether it reaches the head's threshold, and its
    nearest labels. Images are stored batch by batch; one that cannot be read is a failure. `--limit` takes the first
    so many.

    Another threshold reads the same scores otherwise (`score_rows`): it is no part of the artifact's identity.
    """
    found = find_images(source, data_root=data_root)
    run.passed_over.add(found.strays)
    images = found.images[: run.limit]
    info, spec = head_and_clip(run, head)
    chosen_threshold(info, settings, head.name)
    draft = run.begin(
        "scores",
        "score",
        items=len(images),
        settings=settings.model_dump(exclude={"threshold", "tpr"}),
        inputs={"head": head},
        models={"clip": spec},
        digests={"folder": set_fingerprint(found, images_fingerprint(images))},
        seeded=False,
    )
    if draft.artifact.reused:
        return draft.artifact
    for name, reason in found.problems:
        draft.fail(name, reason)
    draft.note({"threshold": info.threshold, "method": info.method, "folder": str(found.place)})
    finished = draft.keys("scores", "position")
    run.progress.start("score", len(images), len(finished))
    places = [untouched(image.place) for image in images]
    planned = batches(range(len(images)), run.execution.batch_size)
    # A batch that was interrupted is scored again as a whole, so that every image has its place in its batch.
    todo = [batch for batch in planned if any(position not in finished for position in batch)]
    parts = [list(chain.from_iterable(group)) for group in batches(todo, BATCHES_PER_JOB)]
    jobs = ([places[position] for position in part] for part in parts)
    options = {"head": head.folder, "spec": spec, "execution": run.execution, "precision": settings.precision}
    for part, scored in zip(parts, run.runner.map("score", options, jobs), strict=True):
        readable = [position for position, problem in zip(part, scored.problems, strict=True) if problem is None]
        for position, problem in zip(part, scored.problems, strict=True):
            if problem is not None and position not in finished:
                draft.fail(images[position].name, problem)
        found_rows = detection_rows(info, images, readable, scored.detections, info.threshold)
        rows = [row for row in found_rows if row["position"] not in finished]
        draft.commit({"scores": [{"method": info.method, "head": head.name, **row} for row in rows]}, done=len(rows))
        run.progress.advance(sum(position not in finished for position in part))
    return complete(draft, "images")


def score_rows(store: Store, artifact: Artifact, threshold: float) -> list[Row]:
    """One row an image of a scores artifact, with the COLUMNS, decided by `threshold`; what could not be scored comes
    last, with its reason as `error`."""
    errors = dict(store.failures(artifact))
    rows = []
    for row in store.rows(artifact, "scores"):
        known = {
            "path": row["item"],
            "decision": decision(row["score"], threshold),
            "error": errors.pop(row["item"], None),
        }
        rows.append({column: known[column] if column in known else row[column] for column in COLUMNS})
    return rows + [dict.fromkeys(COLUMNS) | {"path": item, "error": reason} for item, reason in errors.items()]


def detection_rows(
    info: HeadInfo, images: Sequence[AnyImage], positions: Sequence[int], found: Detections, threshold: float
) -> list[dict[str, Any]]:
    """The rows of table `scores` for the images at `positions`."""
    described = described_rows(info, found, threshold)
    return [
        {"position": position, "item": images[position].name, **row}
        for position, row in zip(positions, described, strict=True)
    ]


def described_rows(info: HeadInfo, found: Detections, threshold: float) -> list[dict[str, Any]]:
    """What the head says of each image, in words: score, decision, predicted_class, nearest_negative,
    nearest_similarity."""
    return [
        {
            "score": value,
            "decision": decision(value, threshold),
            "predicted_class": info.ind_labels[predicted].text,
            "nearest_negative": info.negative_labels[nearest].text,
            "nearest_similarity": similarity,
        }
        for value, predicted, nearest, similarity in zip(
            found.scores.tolist(),
            found.predicted.tolist(),
            found.nearest_negative.tolist(),
            found.nearest_similarity.tolist(),
            strict=True,
        )
    ]
