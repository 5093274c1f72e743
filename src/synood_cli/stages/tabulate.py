"""The tables of an evaluation, from the scores that are kept: no model is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synood_cli.config import EvalSettings
from synood_cli.errors import UsageError
from synood_cli.metrics.bootstrap import Draws, Interval, SetScores, paired_draws, percentile_interval
from synood_cli.metrics.conventions import AVERAGE, IND, MCM, ind_beside
from synood_cli.metrics.detection import Metric, aupr_in, aupr_out, auroc, fpr_at_tpr
from synood_cli.records import printable
from synood_cli.stages.contenders import Entrant
from synood_cli.stages.image_sets import average_name
from synood_cli.stages.run import Run
from synood_cli.store.store import Artifact, Store, loaded_name, stored_name

Row = dict[str, Any]

UNCERTAIN = ("auroc", "fpr95")
"""Metrics that are given intervals, and that methods are compared by."""

TABLE_SETTINGS = ("against", "tpr", "positive", "bootstrap", "level")
"""Settings that the tables depend on, beside the scores."""


def recompute(run: Run, settings: EvalSettings, evaluation: Artifact) -> Artifact:
    """The tables of `evaluation` under other `TABLE_SETTINGS`, from the scores that it kept: nothing is embedded or
    scored. They are read where they are, in the evaluation that computed them."""
    if run.limit is not None:
        raise UsageError("--limit is for images, and a table is computed anew from scores", hint="leave it out")
    scored = run.store.ancestor(evaluation, "eval") or evaluation
    entrants = entrants_of(run.store, scored)
    reference(entrants, settings.against)
    draft = run.begin(
        "eval",
        "eval",
        items=scored.items_done,
        settings=settings.model_dump(include=set(TABLE_SETTINGS)),
        inputs={"eval": scored},
    )
    if draft.artifact.reused:
        return draft.artifact
    groups = (scored.notes.get("suite") or {}).get("groups", {})
    draft.commit(dict(tables(run.store, scored, entrants, settings, run.seed, groups)._asdict()))
    draft.note({name: value for name, value in scored.notes.items() if name != "features"})
    return draft.complete(done=scored.items_done)


def entrants_of(store: Store, evaluation: Artifact) -> list[Entrant]:
    """The methods of an evaluation, in the order in which they were scored."""
    rows = store.rows(evaluation, "metrics")
    found: dict[tuple[str, str], Entrant] = {}
    for row in rows:
        known = (row["method"], row["head"], row["model"], bool(row["adapts"]))
        entrant = found.setdefault(known[:2], Entrant(*known))
        if not entrant.adapts:
            found[known[:2]] = entrant._replace(ind_accuracy=row["ind_accuracy"])
        elif row["ind_accuracy"] is not None and not row["dataset"].startswith(AVERAGE):
            beside = {**entrant.accuracies, row["dataset"]: row["ind_accuracy"]}
            found[known[:2]] = entrant._replace(accuracies=beside)
    order: list[list[str]] = evaluation.notes.get("methods", [])
    places = {tuple(name): place for place, name in enumerate(order)}
    return sorted(found.values(), key=lambda entrant: places.get(entrant[:2], len(places)))


def reference(entrants: Sequence[Entrant], wanted: str | None) -> Entrant:
    """The method that the others are compared with: `wanted` is the name of a method or of a head, or both as
    "METHOD head@N"; by default the first on a head. Of several that fit, the first; a head alone means no MCM, which
    takes next to nothing of it. Raises UsageError where none fits.
    """
    on_heads = [entrant for entrant in entrants if entrant.head and entrant.method != MCM]
    if wanted is None:
        return (on_heads or entrants)[0]
    name = wanted.casefold()
    fitting = [entrant for entrant in entrants if f"{entrant.method} {entrant.head}".casefold() == name]
    fitting += [entrant for entrant in entrants if entrant.method.casefold() == name]
    fitting += [entrant for entrant in on_heads if entrant.head.casefold() == name]
    if fitting:
        return fitting[0]
    known = ", ".join(printable(f"{entrant.method} {entrant.head}".strip()) for entrant in entrants)
    raise UsageError(f"--against {wanted!r}: no method or head of this evaluation", hint=f"its methods: {known}")


def own_reference(entrant: Entrant, against: Entrant, entrants: Sequence[Entrant], mcm: Mapping[str, str]) -> Entrant:
    """What `entrant` is compared with where the others are compared with `against`. Between a head and MCM that is on
    the head's own CLIP and label texts: `mcm` has, by head, the head that its MCM is named by.
    """
    if against.method == MCM:
        if entrant.method == MCM:
            return entrant
        own = mcm.get(entrant.head, against.head)
        return next((other for other in entrants if other[:2] == (MCM, own)), against)
    if entrant.method == MCM and against.head and mcm.get(against.head, entrant.head) != entrant.head:
        group = [other for other in entrants if other.method != MCM and mcm.get(other.head) == entrant.head]
        alike = [other for other in group if other.method == against.method]
        return next(iter([*alike, *group]), against)
    return against


class Tables(NamedTuple):
    """Rows of the tables `metrics` and `differences`."""

    metrics: list[Row]
    differences: list[Row]


def tables(
    store: Store,
    scored: Artifact,
    entrants: Sequence[Entrant],
    settings: EvalSettings,
    seed: int,
    groups: Mapping[str, Sequence[str]],
) -> Tables:
    """Every method on the images that all of them have a score for: one row a method and OOD set, the average of each
    group of sets, and that of all; and how each differs from the reference, by draws of the same images."""
    datasets = [loaded_name(row[0]) for row in store.db.execute(_DATASETS, [scored.id])]
    ood = [name for name in datasets if name != IND and not name.startswith(f"{IND}:")]
    sets = dict(zip(ood, _common_scores(store, scored, entrants, ood), strict=True))
    metrics = _metrics(settings)
    values = np.array(
        [
            [[metric(pair.ind[place], pair.ood[place]) for metric in metrics.values()] for pair in sets.values()]
            for place in range(len(entrants))
        ]
    )
    averages = {average_name(group): [ood.index(name) for name in names] for group, names in groups.items()}
    averages[AVERAGE] = list(range(len(ood)))
    values = _with_averages(values, 1, averages)
    draws: Draws | None = None
    if settings.bootstrap:
        draws = paired_draws(sets, {name: metrics[name] for name in UNCERTAIN}, settings.bootstrap, seed)
        draws = _with_averages(draws, 2, averages)
    against, mcm = reference(entrants, settings.against), scored.notes.get("mcm", {})
    counts = [np.shape(pair.ood)[1] for pair in sets.values()]
    columns = [(name, [place]) for place, name in enumerate(ood)] + [*averages.items()]
    found = Tables([], [])
    for place, entrant in enumerate(entrants):
        other = entrants.index(own_reference(entrant, against, entrants, mcm))
        named = {"method": entrant.method, "head": entrant.head}
        for column, (dataset, members) in enumerate(columns):
            own = None if draws is None else draws[:, place, column]
            found.metrics.append(
                {
                    **named,
                    "dataset": dataset,
                    "model": entrant.model,
                    "adapts": entrant.adapts,
                    **dict(zip(metrics, values[place, column].tolist(), strict=True)),
                    **_ends(own, settings.level),
                    "fpr95_positive": settings.positive,
                    "ind_accuracy": _accuracy(entrant, [ood[place] for place in members]),
                    "ind_images": np.shape(sets[ood[0]].ind)[1],
                    "ood_images": sum(counts[place] for place in members),
                }
            )
            if place == other:
                continue
            difference = dict(zip(metrics, (values[place] - values[other])[column].tolist(), strict=True))
            apart = None if own is None or draws is None else own - draws[:, other, column]
            found.differences.append(
                {
                    **named,
                    "against_method": entrants[other].method,
                    "against_head": entrants[other].head,
                    "dataset": dataset,
                    **{name: difference[name] for name in UNCERTAIN},
                    **_ends(apart, settings.level),
                }
            )
    return found


def _accuracy(entrant: Entrant, sets: Sequence[str]) -> float | None:
    """That of `entrant`, which is the mean over the OOD `sets` where it depends on them."""
    if not entrant.adapts:
        return entrant.ind_accuracy
    beside = [entrant.accuracies[name] for name in sets if name in entrant.accuracies]
    return sum(beside) / len(beside) if beside else None


def _with_averages(values: Draws, axis: int, averages: Mapping[str, Sequence[int]]) -> Draws:
    """`values` with the mean over the members of each average behind the OOD sets, which lie along `axis`."""
    means = [values.take(members, axis=axis).mean(axis=axis, keepdims=True) for members in averages.values()]
    return np.concatenate([values, *means], axis=axis)


def _metrics(settings: EvalSettings) -> dict[str, Metric]:
    other: Literal["ind", "ood"] = "ood" if settings.positive == "ind" else "ind"
    return {
        "auroc": auroc,
        "fpr95": partial(fpr_at_tpr, tpr=settings.tpr, positive=settings.positive),
        "fpr95_other": partial(fpr_at_tpr, tpr=settings.tpr, positive=other),
        "aupr_in": aupr_in,
        "aupr_out": aupr_out,
    }


def _ends(draws: NDArray[np.float64] | None, level: float) -> Row:
    """Columns NAME_low and NAME_high of (samples, metrics) draws; None without, and for a set of a single image."""
    ends = [None] * len(UNCERTAIN) if draws is None else [percentile_interval(each, level) for each in draws.T]
    pairs: list[tuple[str, Interval | None]] = list(zip(UNCERTAIN, ends, strict=True))
    return {
        f"{name}_{end}": None if interval is None else getattr(interval, end)
        for name, interval in pairs
        for end in ("low", "high")
    }


_DATASETS = "select distinct dataset from scores where artifact_id = ? order by dataset"


def _common_scores(store: Store, scored: Artifact, entrants: Sequence[Entrant], ood: Sequence[str]) -> list[SetScores]:
    """(methods, images) scores of the InD images and of each OOD set, on the images that every method has a score
    for. A model at low precision may have none for an image that another can embed."""
    ind = {
        name: [_scores(store, scored, entrant, ind_beside(name) if entrant.adapts else IND) for entrant in entrants]
        for name in ood
    }
    outside = {name: [_scores(store, scored, entrant, name) for entrant in entrants] for name in ood}
    shared = _shared([found for each in ind.values() for found in each])
    return [SetScores(_picked(ind[name], shared), _picked(outside[name], _shared(outside[name]))) for name in ood]


class _Scores(NamedTuple):
    positions: NDArray[np.int64]
    scores: NDArray[np.float64]


def _scores(store: Store, scored: Artifact, entrant: Entrant, dataset: str) -> _Scores:
    query = """select position, score from scores where artifact_id = ? and dataset = ? and method = ? and head = ?
               and score is not null order by position"""
    values = [scored.id, stored_name(dataset), entrant.method, entrant.head]
    rows = store.db.execute(query, values).fetchall()
    return _Scores(np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float64))


def _shared(found: Sequence[_Scores]) -> NDArray[np.int64]:
    positions: NDArray[np.int64] = reduce(np.intersect1d, [each.positions for each in found])
    return positions


def _picked(found: Sequence[_Scores], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.stack([each.scores[np.searchsorted(each.positions, positions)] for each in found])
