"""Fine-tune the text features of the negative labels nearest to the synthetic images (Eqs. 13-14)."""

from __future__ import annotations

from synood_cli.config import TrainLabelsSettings
from synood_cli.stages.heads import Trained, improved, store_head, training_inputs, training_material, training_rows
from synood_cli.stages.run import Run
from synood_cli.store.heads import Calibration, Head
from synood_cli.store.store import Artifact


def train_labels(run: Run, settings: TrainLabelsSettings, head: Artifact, synthetic: Artifact) -> Artifact:
    """A head like `head` in which the features of Y*-, the negative labels nearest to a synthetic image (Eq. 11),
    are learned; the other labels stay as they are, bit for bit, and so does a projection.

    Assignment and training see F without the projection (Table 5, "separate without δ"); the threshold is set anew
    with it, on all selected images.
    """
    info, spec, selection = training_inputs(run.store, head, synthetic)
    draft = run.begin(
        "head",
        "train-labels",
        items=synthetic.items_done,
        settings=settings.model_dump(),
        inputs={"head": head, "synthetic": synthetic, "selection": selection},
        models={"clip": spec},
    )
    if draft.artifact.reused:
        return draft.artifact
    material = training_material(run, draft, head, synthetic, settings.precision)
    run.progress.start("tune the labels", 1)
    options = {"settings": settings, "execution": run.execution, "seed": run.seed}
    trained: Trained = next(run.runner.map("train-labels", options, [material.job]))
    run.progress.advance()
    images = len(material.job.calibration.positions)
    calibration = Calibration(images=images, source=selection.name, tpr=settings.tpr, trained_on=info.projection)
    assigned = set(trained.assigned)
    labels = tuple(
        label.model_copy(update={"tuned": True}) if position in assigned else label
        for position, label in enumerate(info.negative_labels)
    )
    tensors = {**Head.read(head.folder).tensors, **trained.tensors}
    better = Head(improved(info, trained, calibration, negative_labels=labels), tensors)
    notes = {
        "images": len(material.image_ids),
        "assigned_labels": len(assigned),
        "features": material.features,
    }
    return store_head(draft, better, training_rows(material, info, trained, settings.epochs), notes)
