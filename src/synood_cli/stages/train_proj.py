"""Train the projection on CLIP's image side (Eqs. 11-12)."""

from __future__ import annotations

from synood_cli.config import TrainProjectionSettings
from synood_cli.stages.heads import Trained, improved, store_head, training_inputs, training_material, training_rows
from synood_cli.stages.run import Run
from synood_cli.store.heads import Calibration, Head
from synood_cli.store.store import Artifact


def train_projection(run: Run, settings: TrainProjectionSettings, head: Artifact, synthetic: Artifact) -> Artifact:
    """A head like `head` with a new projection: trained to pull each synthetic image to its nearest negative label
    (Eq. 11) and the selected image that it was made from to its class (Eq. 12). Its threshold is set anew, on all
    selected images. A projection that `head` has already is not used.
    """
    info, spec, selection = training_inputs(run.store, head, synthetic)
    draft = run.begin(
        "head",
        "train-proj",
        items=synthetic.items_done,
        settings=settings.model_dump(),
        inputs={"head": head, "synthetic": synthetic, "selection": selection},
        models={"clip": spec},
    )
    if draft.artifact.reused:
        return draft.artifact
    material = training_material(run, draft, head, synthetic, settings.precision)
    run.progress.start("train the projection", 1)
    options = {"settings": settings, "execution": run.execution, "seed": run.seed}
    trained: Trained = next(run.runner.map("train-proj", options, [material.job]))
    run.progress.advance()
    images = len(material.job.calibration.positions)
    calibration = Calibration(images=images, source=selection.name, tpr=settings.tpr, trained_on=True)
    before = Head.read(head.folder).tensors
    tensors = {name: before[name] for name in ("ind_features", "negative_features")}
    better = Head(improved(info, trained, calibration, projection=True), {**tensors, **trained.tensors})
    notes = {
        "pairs": len(material.image_ids),
        "assigned_labels": len(set(trained.assigned)),
        "features": material.features,
    }
    return store_head(draft, better, training_rows(material, info, trained, settings.epochs), notes)
