"""Sweep: make, evaluate and compare many variants of the pipeline; what they share is made once.

A cell is a chain of the ordinary stages in the ordinary workspace, so the store's identity gives reuse and resuming: an
interrupted sweep that is run again finds what it has made.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from synood_cli.config import Models
from synood_cli.errors import SynoodError
from synood_cli.metrics.conventions import AVERAGE
from synood_cli.stages.evaluate import evaluate
from synood_cli.stages.mine_labels import mine_labels
from synood_cli.stages.run import Planned, Run, complete
from synood_cli.stages.sweep_file import STAGES, Cell, SweepFile
from synood_cli.stages.synthesize import synthesize
from synood_cli.stages.train_labels import train_labels
from synood_cli.stages.train_proj import train_projection
from synood_cli.store.files import sha256_bytes
from synood_cli.store.store import Artifact, canonical_json


class Sources(NamedTuple):
    """What every cell starts from and is evaluated on."""

    captions: Artifact
    ind: Path
    ood: Mapping[str, Path]
    candidates: str | None = None


class Step(NamedTuple):
    """One stage of a cell. Equal steps are the same question, so cells that share a step share its artifact.

    `projection`: the settings of train-proj that the joint strategy takes.
    """

    stage: str
    settings: Any
    models: Models
    seed: int
    inputs: tuple[tuple[str, Step], ...] = ()
    limit: int | None = None
    projection: Any = None


class PlannedStep(NamedTuple):
    """What would become of a step: make, resume, reuse, share (an earlier cell makes it) or fail; the artifact, or
    why it fails."""

    stage: str
    action: str
    artifact: str


class Spread(NamedTuple):
    """Mean over n seeds, and the standard deviation with n - 1 (None for one seed) and with n in the denominator."""

    mean: float
    deviation: float | None
    population_deviation: float


class SummaryRow(NamedTuple):
    """One variant on one OOD set, or on average, over its seeds."""

    variant: str
    m: int | None
    dataset: str
    seeds: int
    auroc: Spread
    fpr95: Spread


def sweep(run: Run, file: SweepFile, cells: Sequence[Cell], sources: Sources) -> Artifact:
    """An artifact with one row a cell and OOD set. A cell that fails is a failure of the artifact, and the sweep goes
    on. Raises SynoodError when all fail.
    """
    maker = _Maker(run, sources)
    made: dict[str, tuple[Cell, Step, Artifact]] = {}
    failed: dict[str, str] = {}
    for number, (cell, step) in enumerate(_last_steps(cells, sources.captions.items_done), start=1):
        try:
            made[cell.label] = cell, step, maker.artifact(step)
        except SynoodError as error:
            failed[cell.label] = error.message
        run.progress.start(f"cell {number} of {len(cells)}, {cell.label}", 1)
        run.progress.advance()
    draft = run.begin(
        "sweep",
        "sweep",
        items=len(cells),
        settings={"file": file.model_dump(mode="json", by_alias=True, exclude_defaults=True)},
        inputs={label: evaluation for label, (_, _, evaluation) in made.items()},
        digests={"failures": sha256_bytes(canonical_json(failed).encode())},
        seeded=False,
    )
    if draft.artifact.reused:
        return draft.artifact
    for label, reason in failed.items():
        draft.fail(label, reason)
    rows = [row for cell, step, evaluation in made.values() for row in _rows(maker, cell, step, evaluation)]
    draft.commit({"sweep_rows": [{"position": position, **row} for position, row in enumerate(rows)]}, done=len(made))
    return complete(draft, "cells")


def plan(run: Run, cells: Sequence[Cell], sources: Sources) -> list[tuple[Cell, list[PlannedStep]]]:
    """What `sweep` would make and reuse, cell by cell, in its order."""
    maker = _Maker(run, sources)
    planned: dict[Step, PlannedStep] = {}
    found = []
    for cell, last in _last_steps(cells, sources.captions.items_done):
        steps = []
        for step in _chain(last):
            again = step in planned
            state = planned.setdefault(step, maker.plan(step, planned))
            shared = again and state.action in ("make", "resume")
            steps.append(state._replace(action="share") if shared else state)
        found.append((cell, steps))
    return found


def summary(rows: Sequence[Mapping[str, Any]]) -> list[SummaryRow]:
    """Mean and standard deviation over seeds of each variant, number of images and data set, in the rows' order."""
    groups: dict[tuple[str, int | None, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["variant"], row["m"], row["dataset"]), []).append(row)
    return [
        SummaryRow(*group, len(found), *(_spread([row[metric] for row in found]) for metric in ("auroc", "fpr95")))
        for group, found in groups.items()
    ]


def _spread(values: Sequence[float]) -> Spread:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, statistics.pstdev(values))


def _last_steps(cells: Sequence[Cell], captioned: int) -> Iterator[tuple[Cell, Step]]:
    """Each cell with its last step. Images are synthesized for the largest m, and the first m of them trained on: the
    synthesis of fewer gives the same ones. All of them is no limit, so that what was made without one is reused. The
    control is trained on as many selected images as there would be pairs.
    """
    most = max((cell.m for cell in cells if cell.m is not None), default=captioned)
    for cell in cells:
        models = cell.config.models({})
        settings: dict[str, Any] = {stage: cell.config.settings(stage, None, {}) for stage in STAGES}
        head = mined = Step("mine-labels", settings["mine-labels"], models, cell.seed)
        drawn = settings["synthesize"].source == "text2img"
        labels = (("head", mined),) if drawn else ()
        synthetic = Step(
            "synthesize", settings["synthesize"], models, cell.seed, labels, most if most < captioned else None
        )
        for stage in cell.train:
            control = stage == "train-proj" and settings[stage].images == "ind"
            joint = stage == "train-labels" and settings[stage].strategy == "joint"
            inputs = (("head", head), *(() if control else (("synthetic", synthetic),)))
            m = captioned if cell.m is None else cell.m
            limit = m if control or m < captioned else None
            projection = settings["train-proj"] if joint else None
            head = Step(stage, settings[stage], models, cell.seed, inputs, limit, projection)
        yield cell, Step("eval", settings["eval"], models, cell.seed, (("head", head),))


def _chain(step: Step) -> list[Step]:
    """`step` after all that it needs, each once."""
    return list(dict.fromkeys([below for _, above in step.inputs for below in _chain(above)] + [step]))


class _Maker:
    """Makes steps, each once; one that has failed fails for every cell that needs it."""

    def __init__(self, run: Run, sources: Sources) -> None:
        self.run = run
        self._sources = sources
        self._made: dict[Step, Artifact | SynoodError] = {}

    def artifact(self, step: Step) -> Artifact:
        if step not in self._made:
            try:
                self._made[step] = self._make(step, {role: self.artifact(above) for role, above in step.inputs})
            except SynoodError as error:
                self._made[step] = error
        found = self._made[step]
        if isinstance(found, SynoodError):
            raise found
        return found

    def plan(self, step: Step, planned: Mapping[Step, PlannedStep]) -> PlannedStep:
        """What would become of `step` (the run is a dry one), given what becomes of its inputs."""
        inputs = {role: planned[above] for role, above in step.inputs}
        if failing := next((above for above in inputs.values() if above.action == "fail"), None):
            return PlannedStep(step.stage, "fail", failing.artifact)
        if any(above.action != "reuse" for above in inputs.values()):
            return PlannedStep(step.stage, "make", "")
        try:
            self._make(step, {role: self.run.store.get(above.artifact) for role, above in inputs.items()})
        except Planned as answer:
            action = answer.plan["action"]
            return PlannedStep(step.stage, action, "" if action == "make" else answer.plan["artifact"])
        except SynoodError as error:
            return PlannedStep(step.stage, "fail", error.message)
        raise AssertionError(f"{step.stage} did work on a dry run")

    def _make(self, step: Step, inputs: Mapping[str, Artifact]) -> Artifact:
        run = replace(self.run, seed=step.seed, limit=step.limit)
        settings, sources = step.settings, self._sources
        match step.stage:
            case "mine-labels":
                selection = run.store.inputs(sources.captions)["selection"]
                listed = {"candidates": sources.candidates} if sources.candidates else {}
                return mine_labels(run, settings.model_copy(update=listed), step.models, selection)
            case "synthesize":
                return synthesize(run, settings, step.models, sources.captions, inputs.get("head"))
            case "train-proj":
                return train_projection(run, settings, inputs["head"], inputs.get("synthetic"))
            case "train-labels":
                return train_labels(run, settings, inputs["head"], inputs["synthetic"], step.projection)
            case "eval":
                return evaluate(run, settings, [inputs["head"]], sources.ind, sources.ood)
        raise AssertionError(f"no stage of a sweep: {step.stage}")


def _rows(maker: _Maker, cell: Cell, last: Step, evaluation: Artifact) -> list[dict[str, Any]]:
    """The rows of a cell: what its evaluation says of its head, the average last."""
    steps = {step.stage: maker.artifact(step) for step in _chain(last)}
    head = maker.artifact(dict(last.inputs)["head"])
    store = maker.run.store
    named = {
        "variant": cell.variant,
        "m": cell.m,
        "seed": cell.seed,
        "method": head.notes["method"],
        "head": head.name,
        "synthetic": steps["synthesize"].name if "synthesize" in steps else None,
        "eval": evaluation.name,
    }
    taken = ("dataset", "auroc", "fpr95", "fpr95_positive", "ind_accuracy")
    # A head of equal content has been evaluated perhaps, under its own name: the answer is the same.
    found = [
        {**named, **{key: row[key] for key in taken}}
        for row in store.rows(evaluation, "metrics")
        if row["head"] and row["method"] == named["method"]
    ]
    return sorted(found, key=lambda row: row["dataset"] == AVERAGE)
