"""The baselines of an evaluation: scores of the classifier g, through pytorch-ood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synood_cli.config import EvalSettings
from synood_cli.data.folders import class_text
from synood_cli.data.known_files import untouched
from synood_cli.errors import UsageError
from synood_cli.evaluated_methods import FITTED, Baseline
from synood_cli.metrics.conventions import IND
from synood_cli.records import ModelSpec, Place
from synood_cli.stages.contenders import EmbeddedSet, Entrant, Predictions, prediction_rows
from synood_cli.stages.embed import Rows, embed_images, positions, selected_items, surface_failures
from synood_cli.stages.heads import selection_digest
from synood_cli.stages.run import Run
from synood_cli.stages.selected import class_folders, selected_images
from synood_cli.store.draft import Draft
from synood_cli.store.store import Artifact


class Fitting(NamedTuple):
    """In-distribution images that baselines are fitted on: their features, and the positions of their classes."""

    images: Rows
    labels: list[int]


class BaselineJob(NamedTuple):
    """A data set: its features, and where the same images lie, for what works on pixels."""

    images: Rows
    places: list[Place]


class BaselineScores(NamedTuple):
    """(B,) scores of each baseline that could give them, why the others could not, and g's predicted classes."""

    scores: dict[Baseline, NDArray[np.float64]]
    problems: dict[Baseline, str]
    predicted: NDArray[np.int64]


class Plan(NamedTuple):
    """The classifier, the class folders of its logits, in order, and the selection to fit on; None where nothing is."""

    spec: ModelSpec
    classes: list[str]
    selection: Artifact | None


def require_library() -> None:
    """Raise UsageError where pytorch-ood, or the scikit-learn that its KNN needs, is not installed."""
    missing = [
        name for name, module in (("pytorch-ood", "pytorch_ood"), ("scikit-learn", "sklearn")) if not find_spec(module)
    ]
    if missing:
        raise UsageError(
            f"--baselines needs {' and '.join(missing)}, which is not installed",
            hint="pip install 'synood[baselines]'",
        )


def plan_baselines(
    run: Run, settings: EvalSettings, spec: ModelSpec, selection: Artifact | None, known: Sequence[str]
) -> Plan:
    """What the baselines of `settings` need. Those that are fitted take `selection`, else the newest; the classes are
    the selection's, or, where nothing is fitted, `known`."""
    if not set(settings.baselines) & set(FITTED):
        return Plan(spec, list(known), None)
    selection = selection or run.store.newest("selection")
    return Plan(spec, class_folders(run.store, selection), selection)


def fitting_images(run: Run, draft: Draft, plan: Plan, settings: EvalSettings) -> Fitting | None:
    """The selection, embedded by g; its images that cannot be read become failures of `draft`."""
    if plan.selection is None:
        return None
    images = selected_images(run.store, plan.selection)
    features = embed_images(
        run,
        plan.spec,
        selected_items(images),
        digest=selection_digest(images),
        precision=settings.precision,
        what=plan.selection.name,
        role="classifier",
    )
    surface_failures(draft, [features], of=plan.selection.name)
    row_of = positions(run.store, features)
    place = {name: number for number, name in enumerate(plan.classes)}
    read = [image for image in images if image.name in row_of]
    return Fitting(
        Rows(features.folder, [row_of[image.name] for image in read]), [place[image.class_name] for image in read]
    )


def score_baselines(
    run: Run,
    draft: Draft,
    plan: Plan,
    fitting: Fitting | None,
    sets: Mapping[str, EmbeddedSet],
    settings: EvalSettings,
) -> list[Entrant]:
    """Fit, then score all data sets (IND among them) with each baseline and keep every score in table `scores`.

    A baseline that cannot be fitted, or has no score for an image, is a failure of the artifact and has no row.
    """
    options = {
        "spec": plan.spec,
        "execution": run.execution,
        "precision": settings.precision,
        "names": settings.baselines,
        "settings": settings.baseline,
        "classes": plan.classes,
        "fitting": fitting,
    }
    found: dict[str, BaselineScores] = {}
    for dataset, images in sets.items():
        job = BaselineJob(images.rows, [untouched(images.files[position].place) for position in images.readable])
        found[dataset] = next(run.runner.map("baselines", options, [job]))
        run.progress.advance()
    problems = {name: reason for scored in found.values() for name, reason in scored.problems.items()}
    for name, reason in problems.items():
        draft.fail(f"baseline {name}", reason)
    class_of = {name: place for place, name in enumerate(plan.classes)}
    labelled = all(image.class_name in class_of for image in sets[IND].files)
    ind_accuracy = sets[IND].labelled(found[IND].predicted, class_of if labelled else {})
    entrants = []
    for name in (name for name in settings.baselines if name not in problems):
        entrant = Entrant(name, model=plan.spec.name, ind_accuracy=ind_accuracy)
        for dataset, scored in found.items():
            said = Predictions(scored.scores[name], scored.predicted)
            rows = prediction_rows(entrant, dataset, sets[dataset], said, lambda place: class_text(plan.classes[place]))
            draft.commit({"scores": rows})
        entrants.append(entrant)
    return entrants
