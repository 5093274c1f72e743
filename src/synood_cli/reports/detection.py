"""How well each method detects: the table of an evaluation, its score histograms and ROC curves."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from synood_cli.metrics.conventions import (
    AVERAGE,
    CONVENTIONS,
    IND,
    fpr_name,
    ind_beside,
    model_label,
    percentage,
    reference_name,
    table_place,
)
from synood_cli.reports.figures import HEADROOM, Plot, Values, linear_axis, plot, score_axis, steps
from synood_cli.store.store import Artifact, Store, stored_name

BINS = 40
ROC_POINTS = 200
CURVES = 8
"""ROC curves that can be told apart in one plot: the first methods of the table."""


class Cell(NamedTuple):
    """A share, the interval around it (None without bootstrap), and whether no other method does better; those that
    adapt to the test images do not compete."""

    value: float
    interval: tuple[float, float] | None
    best: bool


class MethodRow(NamedTuple):
    """One method, on a head or on a classifier (`model`): per dataset its AUROC and FPR, and its rows of table
    `metrics` for the rest. `adapts`: it learned from the test images."""

    method: str
    head: str
    model: str
    adapts: bool
    cells: list[tuple[Cell, Cell]]
    metrics: list[dict[str, Any]]


class OodSet(NamedTuple):
    """An OOD set, or the average: its name, folder and number of images."""

    name: str
    folder: str
    images: int


class Detection(NamedTuple):
    """An evaluation. `fpr` is the name of the FPR (FPR95), `positive` its convention in words, `reference` the one
    method that all differences are from, if it is one."""

    datasets: list[OodSet]
    rows: list[MethodRow]
    ind_folder: str
    ind_images: int
    level: float
    intervals: bool
    fpr: str
    positive: str
    convention: str
    other_convention: str
    adapting: bool
    differences: list[dict[str, Any]]
    reference: str | None
    histograms: list[Plot]
    curves: list[Plot]


def detection(store: Store, evaluation: Artifact) -> Detection | None:
    """What `evaluation` found out; None while it has found nothing."""
    found = list(store.rows(evaluation, "metrics"))
    if not found:
        return None
    by_method: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in sorted(found, key=table_place):
        by_method.setdefault((row["method"], row["head"]), {})[row["dataset"]] = row
    datasets = {row["dataset"] for row in found}
    averages = {name for name in datasets if name.startswith(AVERAGE)}
    names = sorted(datasets - averages)
    columns = [*names, *sorted(averages, reverse=True)] if len(names) > 1 else names
    first = next(iter(by_method.values()))
    folders = evaluation.notes.get("ood", {})
    tpr = float(evaluation.settings["tpr"])
    positive = first[names[0]]["fpr95_positive"]
    rows = [
        MethodRow(
            method,
            head,
            model_label(rows[columns[0]]["model"]),
            bool(rows[columns[0]]["adapts"]),
            [_cells(by_method, rows, name) for name in columns],
            [rows[name] for name in columns],
        )
        for (method, head), rows in by_method.items()
    ]
    place = {name: number for number, name in enumerate(by_method)}
    differences = [row for row in store.rows(evaluation, "differences") if row["dataset"] in columns]
    return Detection(
        datasets=[OodSet(name, folders.get(name, ""), first[name]["ood_images"]) for name in columns],
        rows=rows,
        ind_folder=evaluation.notes.get("ind", ""),
        ind_images=first[names[0]]["ind_images"],
        level=float(evaluation.settings["level"]),
        intervals=any(row["auroc_low"] is not None for row in found),
        fpr=fpr_name(tpr),
        positive=positive,
        convention=CONVENTIONS[positive].format(tpr=percentage(tpr)),
        other_convention=CONVENTIONS["ood" if positive == "ind" else "ind"].format(tpr=percentage(tpr)),
        adapting=any(row.adapts for row in rows),
        differences=sorted(
            differences, key=lambda row: (place[row["method"], row["head"]], columns.index(row["dataset"]))
        ),
        reference=reference_name(differences),
        **_plots(store, store.ancestor(evaluation, "eval") or evaluation, rows, names, tpr),
    )


def _cells(
    by_method: dict[tuple[str, str], dict[str, dict[str, Any]]], rows: dict[str, dict[str, Any]], dataset: str
) -> tuple[Cell, Cell]:
    row = rows[dataset]
    rivals = [other[dataset] for other in by_method.values() if not other[dataset]["adapts"]]
    competes = len(rivals) > 1 and not row["adapts"]
    best = {
        "auroc": max((other["auroc"] for other in rivals), default=None),
        "fpr95": min((other["fpr95"] for other in rivals), default=None),
    }

    def cell(metric: str) -> Cell:
        low, high = row[f"{metric}_low"], row[f"{metric}_high"]
        return Cell(row[metric], None if low is None else (low, high), competes and row[metric] == best[metric])

    return cell("auroc"), cell("fpr95")


def _plots(
    store: Store, evaluation: Artifact, methods: list[MethodRow], sets: list[str], tpr: float
) -> dict[str, list[Plot]]:
    """From the scores, which `evaluation` itself keeps."""
    heads = store.inputs(evaluation).values()
    thresholds = {made.name: made.notes.get("threshold") for made in heads}
    methods_of = {made.name: made.notes.get("method") for made in heads}
    histograms = []
    roc: dict[str, list[tuple[str, Values, Values]]] = {name: [] for name in sets}
    for row in methods:
        ood = {name: _scores(store, evaluation, row, name) for name in sets}
        beside = {name: _scores(store, evaluation, row, ind_beside(name) if row.adapts else IND) for name in sets}
        if not all(len(values) for values in (*ood.values(), *beside.values())):
            continue
        title = f"{row.method} ({row.head})" if row.head else row.method
        ind = np.concatenate(list(beside.values())) if row.adapts else beside[sets[0]]
        threshold = thresholds.get(row.head) if row.method == methods_of.get(row.head) else None
        histograms.append(_histogram(title, {IND: ind} | ood, threshold))
        for name in sets if len(roc[sets[0]]) < CURVES else ():
            roc[name].append((title, *roc_curve(beside[name], ood[name])))
    curves = [_roc_plot(name, lines, tpr) for name, lines in roc.items() if lines]
    return {"histograms": histograms, "curves": curves}


def _scores(store: Store, evaluation: Artifact, method: MethodRow, dataset: str) -> Values:
    query = "select score from scores where artifact_id = ? and dataset = ? and method = ? and head = ?"
    values = [evaluation.id, stored_name(dataset), method.method, method.head]
    cursor = store.db.execute(f"{query} and score is not null", values)
    return np.fromiter((row[0] for row in cursor), dtype=np.float64)


def _histogram(title: str, scores: dict[str, Values], threshold: float | None) -> Plot:
    x, placed = score_axis(np.concatenate(list(scores.values())))
    edges = np.linspace(x.low, x.high, BINS + 1)
    shares = {name: np.histogram(placed(values), edges)[0] / len(values) for name, values in scores.items()}
    y = linear_axis("share of the images", 0.0, HEADROOM * float(max(values.max() for values in shares.values())))
    verticals = [] if threshold is None else [(float(placed(np.array([threshold]))[0]), "η")]
    medians = ", ".join(f"{name} {np.median(values):.4g}" for name, values in scores.items())
    names = {IND: "in-distribution"} | {name: name for name in scores if name != IND}
    return plot(
        title,
        f"Histogram of the scores of {title}. Median scores: {medians}.",
        x,
        y,
        [(names[name], *steps(edges, values)) for name, values in shares.items()],
        verticals=verticals,
        filled=True,
    )


def roc_curve(ind: Values, ood: Values) -> tuple[Values, Values]:
    """(FPR, TPR) with in-distribution as positive: the shares of OOD and of InD images with S ≥ η, from η above all
    scores, (0, 0), to η below, (1, 1). Through all thresholds, or ROC_POINTS of them, evenly among the distinct scores.
    """
    thresholds = np.unique(np.concatenate([ind, ood]))[::-1]
    if len(thresholds) > ROC_POINTS:
        thresholds = thresholds[np.linspace(0, len(thresholds) - 1, ROC_POINTS).astype(int)]
    rates = [1 - np.searchsorted(np.sort(values), thresholds, side="left") / len(values) for values in (ood, ind)]
    false, true = (np.concatenate([[0.0], rate, [1.0]]) for rate in rates)
    return false, true


def _roc_plot(dataset: str, lines: list[tuple[str, Values, Values]], tpr: float) -> Plot:
    return plot(
        dataset,
        f"ROC curves of {len(lines)} methods on {dataset}; the table gives the areas under them.",
        linear_axis("OOD images accepted (FPR)", 0.0, 1.0),
        linear_axis("InD images accepted (TPR)", 0.0, 1.0),
        lines,
        horizontals=[(tpr, percentage(tpr))],
    )
