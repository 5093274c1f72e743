"""Who takes part in an evaluation: scores on a head, by the names that its table gives them, and what each says of the
images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from synood_cli.config import EvalSettings
from synood_cli.errors import UsageError
from synood_cli.evaluated_methods import AdaNegSettings, ZeroShot
from synood_cli.metrics.conventions import IND, MCM, ind_beside
from synood_cli.metrics.detection import accuracy
from synood_cli.records import AnyImage, ModelSpec, printable
from synood_cli.stages.embed import Rows, positions
from synood_cli.stages.heads import Detections, head_and_clip
from synood_cli.stages.run import Run
from synood_cli.stages.score import detection_rows
from synood_cli.store.draft import Draft
from synood_cli.store.heads import HeadInfo
from synood_cli.store.store import Artifact, Store, canonical_json

MCM_TEMPERATURE = 1.0
"""τ of MCM's softmax over cosine similarities (Ming et al., NeurIPS 2022); part of that method, not of a head."""

STREAMS = "streams.safetensors"
"""The order in which each adapting method saw the images: by head and OOD set, places of the InD images (0 to n - 1)
and, from n on, of the OOD images, among those that could be read."""


class EvaluationJob(NamedTuple):
    """A head and the embedded images that it is to score."""

    head: Path
    images: Rows


class StreamJob(NamedTuple):
    """A head and a stream of embedded images, InD and OOD, to score in the given order."""

    head: Path
    ind: Rows
    ood: Rows
    order: list[int]
    settings: AdaNegSettings


class Predictions(NamedTuple):
    """Scores of B images, and the position of their nearest InD label. Each (B,)."""

    scores: NDArray[np.floating[Any]]
    predicted: NDArray[np.int64]


class Entrant(NamedTuple):
    """A method as the tables name it: on a head, or on a classifier (`model`), or, as MCM where all heads have one CLIP
    and one set of label texts, on neither. `ind_accuracy` is that of its class predictions on labelled InD images."""

    method: str
    head: str = ""
    model: str = ""
    adapts: bool = False
    ind_accuracy: float | None = None
    accuracies: Mapping[str, float] = MappingProxyType({})
    """The same beside each OOD set, of a method that adapts: its predictions depend on what they are mixed with."""


class Contender(NamedTuple):
    """A score on a head. `mcm`: the head that MCM on this one's CLIP and label texts is named by, '' where MCM is the
    same for all heads."""

    score: ZeroShot
    head: Artifact
    info: HeadInfo
    spec: ModelSpec
    mcm: str = ""

    @property
    def entrant(self) -> Entrant:
        """The score as the tables name it."""
        names = {
            "mcm": Entrant(MCM, self.mcm),
            "head": Entrant(self.info.method, self.head.name),
            "eq2": Entrant(f"{self.info.method} (Eq. 2)", self.head.name),
            "adaneg": Entrant("AdaNeg", self.head.name, adapts=True),
        }
        return names[self.score]


class EmbeddedSet(NamedTuple):
    """Images of a data set that CLIP, or the classifier, has embedded: the files, the positions of those that could be
    read, and their features."""

    files: Sequence[AnyImage]
    readable: list[int]
    rows: Rows

    @classmethod
    def of(cls, store: Store, files: Sequence[AnyImage], features: Artifact) -> EmbeddedSet:
        """The set of `files` that `features` was made of."""
        row_of = positions(store, features)
        readable = [position for position, image in enumerate(files) if image.name in row_of]
        return cls(files, readable, Rows(features.folder, [row_of[files[position].name] for position in readable]))

    def labelled(self, predicted: NDArray[np.int64], class_of: Mapping[str, int]) -> float | None:
        """The share of the labelled images whose predicted class is theirs; None without labels."""
        classes = [self.files[position].class_name for position in self.readable]
        if not class_of or not all(classes):
            return None
        return accuracy(predicted, [class_of[name] for name in classes])


def contenders(run: Run, heads: Sequence[Artifact], settings: EvalSettings) -> list[Contender]:
    """MCM, once for each CLIP with its label texts, then what is asked for on each head, each head once.

    Of heads that share CLIP and label texts, MCM takes the one with the lowest number, so that the order in which they
    were named does not matter.
    """
    described = [(head, *head_and_clip(run, head)) for head in {head.name: head for head in heads}.values()]
    if not described:
        raise UsageError("there is no head to evaluate", hint="run `synood mine-labels` first")
    described.sort(key=lambda about: about[0].version)
    first: dict[str, str] = {}
    for head, info, spec in described:
        first.setdefault(_zero_shot(info, spec), head.name)
    alone = len(first) == 1
    mcm = {head.name: "" if alone else first[_zero_shot(info, spec)] for head, info, spec in described}
    takes_part = set(first.values()) if "mcm" in settings.method else set()
    found = [Contender("mcm", *about, mcm[about[0].name]) for about in described if about[0].name in takes_part]
    order = {head.name: place for place, head in reversed([*enumerate(heads)])}
    described.sort(key=lambda about: order[about[0].name])
    scores = [score for score in settings.method if score != "mcm"]
    return found + [Contender(score, *about, mcm[about[0].name]) for about in described for score in scores]


def _zero_shot(info: HeadInfo, spec: ModelSpec) -> str:
    """What MCM takes of a head: its CLIP, and the texts of its InD labels with their prompt."""
    texts = sorted([label.class_name, label.text] for label in info.ind_labels)
    return canonical_json([spec.identity(), info.ind_template, texts])


def score_contender(
    run: Run, draft: Draft, contender: Contender, sets: Mapping[str, EmbeddedSet], settings: EvalSettings
) -> Entrant:
    """Score all data sets (IND among them), keep every score in table `scores`, and return the entrant with its
    accuracy."""
    class_of = contender.info.labelled([image.class_name for image in sets[IND].files if image.class_name])
    if contender.score == "adaneg":
        streamed = _score_stream(run, draft, contender, sets, settings)
        beside = {dataset: sets[IND].labelled(predicted, class_of) for dataset, predicted in streamed.items()}
        return contender.entrant._replace(
            accuracies={name: found for name, found in beside.items() if found is not None}
        )
    predicted = _score_sets(run, draft, contender, sets)
    return contender.entrant._replace(ind_accuracy=sets[IND].labelled(predicted, class_of))


def prediction_rows(
    entrant: Entrant, dataset: str, images: EmbeddedSet, found: Predictions, text_of: Callable[[int], str]
) -> list[dict[str, Any]]:
    """The rows of table `scores` of a method without threshold and negative labels."""
    return [
        {
            "method": entrant.method,
            "head": entrant.head,
            "dataset": dataset,
            "position": position,
            "item": images.files[position].name,
            "score": value,
            "predicted_class": text_of(predicted),
        }
        for position, value, predicted in zip(
            images.readable, found.scores.tolist(), found.predicted.tolist(), strict=True
        )
    ]


def _score_sets(run: Run, draft: Draft, contender: Contender, sets: Mapping[str, EmbeddedSet]) -> NDArray[np.int64]:
    """A score that looks at one image at a time. Returns the predicted classes of the InD images."""
    methods = {"mcm": "mcm", "head": "__call__", "eq2": "ungrouped"}
    entrant, info = contender.entrant, contender.info
    predicted = np.empty(0, np.int64)
    for dataset, images in sets.items():
        job = EvaluationJob(contender.head.folder, images.rows)
        found = next(run.runner.map("evaluate", _options(run), [job], method=methods[contender.score]))
        if isinstance(found, Detections):
            named = {"method": entrant.method, "head": entrant.head, "dataset": dataset}
            detections = detection_rows(info, images.files, images.readable, found, info.threshold)
            rows = [{**named, **row} for row in detections]
            if contender.score == "eq2":  # the threshold is that of the grouped score
                rows = [row | {"decision": None} for row in rows]
        else:
            rows = prediction_rows(entrant, dataset, images, found, lambda place: info.ind_labels[place].text)
        draft.commit({"scores": rows})
        if dataset == IND:
            predicted = found.predicted
        run.progress.advance()
    return predicted


def _score_stream(
    run: Run, draft: Draft, contender: Contender, sets: Mapping[str, EmbeddedSet], settings: EvalSettings
) -> dict[str, NDArray[np.int64]]:
    """AdaNeg on each OOD set mixed with all InD images, in a drawn order, which is kept; the memory starts empty.
    Returns the predicted classes of the InD images beside each."""
    entrant, info, ind = contender.entrant, contender.info, sets[IND]
    known = dict(draft.store.get(draft.artifact.name).notes.get("streams", {}))
    orders: dict[str, NDArray[np.int32]] = {}
    predicted: dict[str, NDArray[np.int64]] = {}
    run.progress.advance()  # the InD images are scored with each OOD set
    for dataset, images in sets.items():
        if dataset == IND:
            continue
        order = stream_order(len(ind.readable), len(images.readable), run.seed, dataset)
        job = StreamJob(contender.head.folder, ind.rows, images.rows, order.tolist(), settings.adaneg)
        inside, outside = next(run.runner.map("evaluate", _options(run), [job], method="stream"))
        for name, part, found in ((ind_beside(dataset), ind, inside), (dataset, images, outside)):
            rows = prediction_rows(entrant, name, part, found, lambda place: info.ind_labels[place].text)
            draft.commit({"scores": rows})
        key = f"{contender.head.name}:{printable(dataset)}"
        orders[key] = order.astype(np.int32)
        known[key] = {"ind": len(ind.readable), "ood": len(images.readable), "batch": settings.adaneg.batch}
        predicted[dataset] = inside.predicted
        run.progress.advance()
    path = f"{contender.head.name.replace('@', '-')}-{STREAMS}"
    draft.write_file(path, save(orders))
    draft.commit({}, [path])
    draft.note({"streams": known})
    return predicted


def stream_order(ind: int, ood: int, seed: int, dataset: str) -> NDArray[np.int64]:
    """A shuffle of `ind` + `ood` places, the InD images' first, drawn with the run's seed for this data set."""
    name = int.from_bytes(sha256(dataset.encode("utf-8", "surrogateescape")).digest()[:8], "big")
    return np.random.default_rng([seed, name]).permutation(ind + ood)


def _options(run: Run) -> dict[str, Any]:
    return {"execution": run.execution, "mcm_temperature": MCM_TEMPERATURE}
