"""Training a head: what the projection (Eqs. 11-12) and the label features (Eqs. 13-14) have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from synood_cli.config import TrainLabelsSettings, TrainProjectionSettings
from synood_cli.data.known_files import KnownFile
from synood_cli.errors import StoreError, SynoodError, UsageError
from synood_cli.records import ModelSpec, Precision, printable
from synood_cli.stages.clip_trust import is_foreign
from synood_cli.stages.embed import Features, Item, Rows, embed_images, positions, surface_failures
from synood_cli.stages.heads import embed_selection, head_and_clip, require_clip, require_labels, store_head
from synood_cli.stages.label_features import EmbeddedLabels, embed_labels
from synood_cli.stages.prompts import templates_of
from synood_cli.stages.run import Run
from synood_cli.stages.selected import class_folders, selected_images
from synood_cli.store.draft import Draft
from synood_cli.store.heads import Calibration, Head, HeadInfo, current_versions
from synood_cli.store.store import Artifact

OF_PROJECTION = {"learning_rate", "weight_decay", "final_learning_rate", "cosine_per"}
"""The settings of `train-proj` that count where a projection is learned together with the labels."""


class TrainingJob(NamedTuple):
    """What a training works on: m pairs of a synthetic image and the selected image that it was made from, in the
    same order, the position of each pair's InD label, and the images that the threshold is set on.

    `synthetic` is None where the selected images alone are trained on. `labels`: the negative labels in their prompts,
    by part of speech, each with its places in the head; None where training starts from features of unit length.
    """

    head: Path
    synthetic: Rows | None
    ind: Rows
    ind_labels: list[int]
    calibration: Rows
    labels: list[tuple[EmbeddedLabels, list[int]]] | None = None


class Trained(NamedTuple):
    """A better head: tensors that are new, the negative label of each synthetic image with its similarity (Eq. 11),
    the loss of every step, the steps of an epoch, and the threshold."""

    tensors: dict[str, Features]
    assigned: list[int]
    similarity: list[float]
    losses: list[float]
    steps_per_epoch: int
    threshold: float


class Inputs(NamedTuple):
    """What a training starts from; the selection is the one that the synthetic images were made from, without them
    the one that the head was."""

    head: Artifact
    info: HeadInfo
    spec: ModelSpec
    synthetic: Artifact | None
    selection: Artifact


DAMAGED = "is not what was synthesized any more; `synood verify` names every such file"
"""Why a synthetic image with other content is not trained on."""


class Material(NamedTuple):
    """A training job, the photographs that its pairs stand for, and the names of the features it reads."""

    job: TrainingJob
    image_ids: list[int]
    features: list[str]


def train(
    run: Run,
    stage: str,
    settings: TrainProjectionSettings | TrainLabelsSettings,
    head: Artifact,
    synthetic: Artifact | None,
    better: Callable[[HeadInfo, Trained], HeadInfo],
    projection: TrainProjectionSettings | None = None,
) -> Artifact:
    """A head like `head` with the tensors that the worker of `stage` learns on the pairs of `synthetic` (the first
    `--limit` by rank), described by `better`; its threshold is set anew, on all selected images.

    `projection`: settings of a projection that the worker learns along (OF_PROJECTION). Images that cannot be read
    become failures, and their pairs are left out. Raises ModelError when the head's CLIP has changed, UsageError when
    the head lacks a class of the selection, SynoodError when no pair is left.
    """
    inputs = _inputs(run, head, synthetic)
    made_from = {"head": head, "selection": inputs.selection} | ({"synthetic": synthetic} if synthetic else {})
    along = {"projection": projection.identity(OF_PROJECTION)} if projection else {}
    draft = run.begin(
        "head",
        stage,
        items=(synthetic or inputs.selection).items_done,
        settings={**settings.identity(), **along},
        inputs=made_from,
        models={"clip": inputs.spec},
    )
    if draft.artifact.reused:
        return draft.artifact
    raw = isinstance(settings, TrainLabelsSettings) and settings.label_length == "raw"
    material = _material(run, draft, inputs, settings.precision, raw)
    run.progress.start(stage, 1)
    options: dict[str, Any] = {"settings": settings, "execution": run.execution, "seed": run.seed}
    options |= {"projection": projection} if projection else {}
    trained: Trained = next(run.runner.map(stage, options, [material.job]))
    run.progress.advance()
    described = better(inputs.info, trained)
    calibration = Calibration(
        images=len(material.job.calibration.positions),
        source=inputs.selection.name,
        tpr=settings.tpr,
        trained_on=described.projection,
    )
    update = {"threshold": trained.threshold, "calibration": calibration, "versions": current_versions()}
    update["publication"] = None  # what was published is the head before
    tensors = {**Head.read(head.folder).tensors, **trained.tensors}
    notes = {
        "images": len(material.image_ids),
        "assigned_labels": len(set(trained.assigned)),
        "features": material.features,
    }
    made = Head(described.model_copy(update=update), tensors)
    return store_head(draft, made, _rows(material, inputs, trained), notes)


def _inputs(run: Run, head: Artifact, synthetic: Artifact | None) -> Inputs:
    info, spec = head_and_clip(run, head)
    source = synthetic or head
    selection = run.store.ancestor(source, "selection")
    if selection is None and is_foreign(run.store, head):
        raise UsageError(
            f"{head.name} was made elsewhere, so the images that it was made from are not in this workspace",
            hint="train it on synthetic images, which say what they were made from: --images both",
        )
    if selection is None:
        raise StoreError(f"{source.name} does not say which selection it was made from", hint="synood verify")
    require_labels(head, info, class_folders(run.store, selection))
    return Inputs(head, info, spec, synthetic, selection)


def _material(run: Run, draft: Draft, inputs: Inputs, precision: Precision, raw: bool) -> Material:
    """The images or pairs to train on, embedded with the head's CLIP; where labels are learned from the `raw` features
    of its text tower, the head's negative labels too."""
    store, spec, selection = run.store, inputs.spec, inputs.selection
    images = selected_images(store, selection)
    ind = embed_selection(run, spec, selection, precision)
    require_clip(inputs.info, inputs.head.name, ind.notes["clip"])
    ind_rows = positions(store, ind)
    readable = {image.image_id for image in images if image.name in ind_rows}
    features, synthetic_rows = [ind], dict[int, int]()
    if inputs.synthetic is not None:
        synthetic = inputs.synthetic
        rows = list(store.rows(synthetic, "synthetic_images"))
        made = {row["image_id"]: row["path"] for row in rows}
        places = {row["image_id"]: KnownFile(synthetic.folder / row["path"], row["sha256"], DAMAGED) for row in rows}
        images = [image for image in images if image.image_id in made]
        redrawn = [Item(places[i.image_id], made[i.image_id], i.class_name) for i in images]
        syn = embed_images(run, spec, redrawn, digest=synthetic.digest or "", precision=precision, what=synthetic.name)
        features.append(syn)
        row_of = positions(store, syn)
        synthetic_rows = {i.image_id: row_of[made[i.image_id]] for i in images if made[i.image_id] in row_of}
        readable &= synthetic_rows.keys()
    surface_failures(draft, features)
    images = [image for image in images[: run.limit] if image.image_id in readable]
    if not images:
        together = " together with the photograph that it was made from" if inputs.synthetic else ""
        raise SynoodError(
            f"no image of {(inputs.synthetic or selection).name} can be read{together}",
            hint=f"synood show {draft.artifact.name} --failures",
        )
    classes = inputs.info.labelled(class_folders(store, selection))
    labels, texts = _negative_labels(run, inputs, precision) if raw else (None, [])
    job = TrainingJob(
        inputs.head.folder,
        Rows(features[1].folder, [synthetic_rows[i.image_id] for i in images]) if inputs.synthetic else None,
        Rows(ind.folder, [ind_rows[image.name] for image in images]),
        [classes[image.class_name] for image in images],
        Rows(ind.folder, sorted(ind_rows.values())),
        labels,
    )
    return Material(job, [image.image_id for image in images], [made.name for made in (*features, *texts)])


def _negative_labels(
    run: Run, inputs: Inputs, precision: Precision
) -> tuple[list[tuple[EmbeddedLabels, list[int]]], list[Artifact]]:
    """The head's negative labels in their prompts, by part of speech, and the features artifacts that hold them."""
    info, labels, made = inputs.info, [], []
    for kind in dict.fromkeys(label.part_of_speech for label in info.negative_labels):
        if kind not in info.templates:
            raise StoreError(
                f"{inputs.head.name} does not say in which prompt its labels ({printable(kind)}) were embedded",
                hint="--label-length unit starts from the features that it has",
            )
        places = [place for place, label in enumerate(info.negative_labels) if label.part_of_speech == kind]
        texts = [info.negative_labels[place].text for place in places]
        templates = templates_of(info.templates[kind])
        embedded, features = embed_labels(run, inputs.spec, templates, texts, precision, "negative labels")
        labels.append((embedded, places))
        made.append(features)
    return labels, made


def _rows(material: Material, inputs: Inputs, trained: Trained) -> dict[str, list[dict[str, Any]]]:
    """The rows of tables `assignments` (none without synthetic images) and `training_steps`."""
    image_ids = material.image_ids if inputs.synthetic else []
    return {
        "assignments": [
            {"image_id": image_id, "label": inputs.info.negative_labels[label].text, "similarity": similarity}
            for image_id, label, similarity in zip(image_ids, trained.assigned, trained.similarity, strict=True)
        ],
        "training_steps": [
            {"step": step, "epoch": (step - 1) // trained.steps_per_epoch + 1, "loss": loss}
            for step, loss in enumerate(trained.losses, start=1)
        ],
    }
