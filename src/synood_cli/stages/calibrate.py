"""Calibrate: the threshold of a head, from in-distribution images that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synood_cli.config import CalibrateSettings
from synood_cli.data.image_sets import images_fingerprint, set_fingerprint
from synood_cli.data.sources import find_images
from synood_cli.metrics.binomial import clopper_pearson
from synood_cli.records import printable
from synood_cli.stages.embed import Rows, embed_images, folder_items, spread, surface_failures
from synood_cli.stages.heads import head_and_clip, require_clip, store_head
from synood_cli.stages.run import Run
from synood_cli.store.heads import Calibration, Head
from synood_cli.store.store import Artifact


class CalibrationJob(NamedTuple):
    """A head and the embedded images that its threshold is to be set on."""

    head: Path
    images: Rows


class Calibrated(NamedTuple):
    """S of the images, ascending, (N,), and η."""

    scores: NDArray[np.float64]
    threshold: float


def calibrate(
    run: Run, settings: CalibrateSettings, head: Artifact, source: Path, data_root: Path | None = None
) -> Artifact:
    """A head like `head` with the threshold that a share `tpr` of the images of the set at `source` (see find_images)
    reach (see threshold_at_tpr), all of which must be in-distribution. It records the share that really does, its exact
    binomial interval, and all the scores, so that thresholds for other TPRs follow. `--limit` takes so many images,
    evenly.

    The interval holds for images drawn like these, and new to the head: not for those that it was trained on.
    """
    found = find_images(source, data_root=data_root)
    run.passed_over.add(found.strays)
    images = list(spread(found.images, run.limit))
    info, spec = head_and_clip(run, head)
    digest = images_fingerprint(images)
    draft = run.begin(
        "head",
        "calibrate",
        items=len(images),
        settings=settings.model_dump(),
        inputs={"head": head},
        models={"clip": spec},
        digests={"folder": set_fingerprint(found, digest)},
        seeded=False,
    )
    if draft.artifact.reused:
        return draft.artifact
    for name, reason in found.problems:
        draft.fail(name, reason)
    features = embed_images(
        run, spec, folder_items(images), digest=digest, precision=settings.precision, what=source.name
    )
    surface_failures(draft, [features])
    require_clip(info, head.name, features.notes["clip"])
    job = CalibrationJob(head.folder, Rows(features.folder, list(range(features.items_done))))
    options = {"execution": run.execution, "tpr": settings.tpr}
    calibrated: Calibrated = next(run.runner.map("calibrate", options, [job]))
    count = len(calibrated.scores)
    reached = int((calibrated.scores >= calibrated.threshold).sum())
    interval = clopper_pearson(reached, count, settings.level)
    calibration = Calibration(
        images=count,
        source=printable(found.place.name),
        tpr=settings.tpr,
        trained_on=False,
        achieved=reached / count,
        low=interval.low,
        high=interval.high,
        level=settings.level,
        scores=tuple(calibrated.scores.tolist()),
    )
    before = Head.read(head.folder)
    update = {"threshold": calibrated.threshold, "calibration": calibration}
    update["publication"] = None  # what was published is the head before
    better = before.info.model_copy(update=update)
    notes = {
        "folder": str(found.place),
        "features": [features.name],
        "calibration": calibration.model_dump(exclude={"scores"}),
        "threshold_before": info.threshold,
    }
    return store_head(draft, Head(better, before.tensors), {}, notes)
