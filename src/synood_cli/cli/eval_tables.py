"""The tables of an evaluation: aligned text for people, CSV for programs, Markdown and LaTeX for papers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from synood_cli.cli.output import Output
from synood_cli.csv_text import csv_header, csv_text, harmless
from synood_cli.metrics.conventions import (
    ADAPTS,
    AVERAGE,
    MCM,
    POSITIVE,
    fpr_name,
    model_label,
    percentage,
    reference_name,
    table_place,
)
from synood_cli.records import printable
from synood_cli.reports.published import TPR as PUBLISHED_TPR

if TYPE_CHECKING:
    from synood_cli.store.store import Artifact, Store

Row = dict[str, Any]


class Result(NamedTuple):
    """What an evaluation found out: the rows of its tables, and what its FPR means."""

    rows: list[Row]
    differences: list[Row]
    resources: list[Row]
    published: list[Row]
    tpr: float
    positive: str

    @property
    def fpr(self) -> str:
        return fpr_name(self.tpr)

    @property
    def convention(self) -> str:
        return f"FPR at {percentage(self.tpr)} TPR: {POSITIVE[self.positive]}."

    @property
    def datasets(self) -> list[str]:
        """The OOD sets, and the average where there are several."""
        names = list(dict.fromkeys(row["dataset"] for row in self.rows))
        sets = [name for name in names if not name.startswith(AVERAGE)]
        return names if len(sets) > 1 else sets

    def document(self) -> dict[str, list[Row]]:
        """Fields of the JSON document."""
        return {
            "rows": self.rows,
            "differences": self.differences,
            "resources": self.resources,
            "published": self.published,
        }


def read_result(store: Store, artifact: Artifact, published: list[Row]) -> Result:
    """The tables of `artifact`, in the order that every table has."""
    from synood_cli.metrics.bootstrap import Interval  # numpy comes with it, which a help page need not wait for

    rows = sorted((_plain(row) for row in store.rows(artifact, "metrics")), key=table_place)
    place = {(row["method"], row["head"], row["dataset"]): number for number, row in enumerate(rows)}
    differences = [_plain(row) for row in store.rows(artifact, "differences")]
    for row in differences:
        low = row["auroc_low"]
        for name in ("auroc", "fpr95"):
            ends = Interval(row[f"{name}_low"], row[f"{name}_high"])
            row[f"{name}_excludes_zero"] = None if low is None else ends.excludes_zero
    differences.sort(key=lambda row: place[row["method"], row["head"], row["dataset"]])
    for row in rows:
        row["adapts"] = bool(row["adapts"])
    clips: dict[str, str] = artifact.notes.get("clips", {})
    for row in rows:
        named = {clips[row["head"]]} if row["head"] in clips else set(clips.values()) if row["method"] == MCM else set()
        row["clip"] = named.pop() if len(named) == 1 else ""
    settings = artifact.settings
    return Result(
        rows, differences, artifact.notes.get("resources", []), published, settings["tpr"], settings["positive"]
    )


def show_result(output: Output, result: Result) -> None:
    """Percentages, as the papers print them, with the interval in brackets; the convention is in the title."""
    show_metrics(output, result)
    if result.differences:
        output.line("")
        _show_differences(output, result)
    if result.resources and any(row["added_parameters"] or row["milliseconds"] for row in result.resources):
        output.line("")
        show_resources(output, result.resources)
    if result.published:
        output.line("")
        columns = ["published", "backbone", "suite", "dataset", "AUROC", "FPR95", "positive", ADAPTS]
        cells = [
            (
                *(row[name] for name in ("method", "backbone", "suite", "dataset")),
                *(percent(row[name]) for name in ("auroc", "fpr95")),
                {"ind": "InD", "ood": "OOD"}[row["fpr95_positive"]],
                _mark(row),
            )
            for row in result.published
        ]
        output.table(columns, cells, title=f"Published, on that paper's images: {result.published[0]['source']}.")


def show_metrics(output: Output, result: Result) -> None:
    """One row a method and OOD set."""
    columns = ["method", "head", "dataset", "AUROC", result.fpr, "AUPR-In", "AUPR-Out", "InD accuracy", "InD", "OOD"]
    several_clips = len({row["clip"] for row in result.rows} - {""}) > 1
    more = ["clip"] * several_clips + [name for name in ("model", ADAPTS) if any(row[name] for row in result.rows)]
    cells = [
        (
            row["method"],
            row["head"],
            row["dataset"],
            percent(row["auroc"], row["auroc_low"], row["auroc_high"]),
            percent(row["fpr95"], row["fpr95_low"], row["fpr95_high"]),
            percent(row["aupr_in"]),
            percent(row["aupr_out"]),
            "" if row["ind_accuracy"] is None else percent(row["ind_accuracy"]),
            row["ind_images"],
            row["ood_images"],
            *(_mark(row) if name == ADAPTS else model_label(row[name]) for name in more),
        )
        for row in result.rows
    ]
    output.table([*columns, *more], cells, title=f"In percent. {result.convention}")


def _show_differences(output: Output, result: Result) -> None:
    columns = ["method", "head", "dataset", "AUROC", result.fpr, "difference"]
    against = reference_name(result.differences)
    several = against is None
    if several:
        columns.insert(2, "from")
    cells = [
        (row["method"], row["head"], *([_reference(row)] * several), row["dataset"], *_difference(row))
        for row in result.differences
    ]
    title = f"Differences {f'from {against}, ' if against else ''}in points; intervals over the same images."
    output.table(columns, cells, title=title)


def show_resources(output: Output, resources: Sequence[Row]) -> None:
    """What each head costs beside NegLabel."""
    columns = [
        "head",
        "method",
        "added parameters",
        "of CLIP",
        "learned",
        "ms per image",
        "NegLabel",
        "added",
        "device",
    ]
    cells = [
        (
            row["head"],
            row["method"],
            row["added_parameters"],
            f"{row['added_parameters'] / row['clip_parameters']:.3%}" if row["clip_parameters"] else "unknown",
            row["learned_parameters"],
            *_milliseconds(row),
            row["device"],
        )
        for row in resources
    ]
    output.table(columns, cells, title="What a head adds to NegLabel (the paper: under 1%, under 2 ms).")


def as_csv(result: Result) -> bytes:
    """One line a method and data set, published results too (`source`), in shares; `fpr95` at the true-positive rate
    `tpr`; the difference from the reference in columns of its own."""
    apart = {(row["method"], row["head"], row["dataset"]): row for row in result.differences}
    named = ["method", "head", "clip", "model", "adapts", "dataset"]
    metrics = [name for name in result.rows[0] if name not in named]
    columns = ["source", *named, *metrics, "tpr", "against_method", "against_head"]
    columns += [f"{name}_difference{end}" for name in ("auroc", "fpr95") for end in ("", "_low", "_high")]
    lines = []
    for row in result.rows:
        other = apart.get((row["method"], row["head"], row["dataset"]), {})
        differences = {
            f"{name}_difference{end}": other.get(f"{name}{end}")
            for name in ("auroc", "fpr95")
            for end in ("", "_low", "_high")
        }
        against = {name: other.get(name) for name in ("against_method", "against_head")}
        own = {"source": "", "adapts": int(row["adapts"]), "tpr": result.tpr}
        lines.append({**row, **against, **differences, **own})
    for row in result.published:
        numbers = {name: row[name] for name in ("auroc", "fpr95", "fpr95_positive")} | {"tpr": PUBLISHED_TPR}
        dataset = f"{row['suite']}/{row['dataset']}"
        about = {"method": row["method"], "model": row["backbone"], "dataset": dataset, "adapts": int(row["adapts"])}
        lines.append({"source": f"published: {row['source']}", **about, **numbers})
    foreign = (
        "dataset",
        "head",
        "clip",
        "model",
        "against_head",
    )  # the user's words, and those of a head that was pulled
    safe = [line | {name: harmless(line.get(name)) for name in foreign} for line in lines]
    return os.fsencode(csv_header(columns) + csv_text(columns, safe))


def as_markdown(result: Result) -> bytes:
    """The paper's layout, methods by OOD sets; then the differences."""

    def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
        rule = ["---", *["---:"] * (len(header) - 1)]
        rows = [[markdown_text(cell) for cell in line] for line in (header, *lines)]
        return "\n".join(f"| {' | '.join(line)} |" for line in (rows[0], rule, *rows[1:]))

    header = ["method", *(f"{name} {metric}" for name in result.datasets for metric in ("AUROC ↑", f"{result.fpr} ↓"))]
    parts = [f"In percent. {markdown_text(result.convention)}", table(header, _wide(result))]
    if result.differences:
        parts += [
            markdown_text(_difference_title(result)),
            table(["method", *_difference_header(result)], _narrow(result)),
        ]
    parts += map(markdown_text, _footnotes(result))
    return ("\n\n".join(parts) + "\n").encode("utf-8")


def as_latex(result: Result) -> bytes:
    """The same as tables for the package booktabs."""

    def table(columns: str, header: Sequence[Sequence[str]], lines: Sequence[Sequence[str]]) -> str:
        body = [" & ".join(line) + r" \\" for line in lines]
        top = [" & ".join(line) + r" \\" for line in header]
        parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *top, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*parts, r"\end{tabular}"])

    sets = ["", *(rf"\multicolumn{{2}}{{c}}{{{_latex(name)}}}" for name in result.datasets)]
    metrics = ["Method", *[r"AUROC$\uparrow$", rf"{result.fpr}$\downarrow$"] * len(result.datasets)]
    wide = [[_latex(cell) for cell in line] for line in _wide(result)]
    parts = [f"% In percent. {result.convention}", table("l" + "rr" * len(result.datasets), [sets, metrics], wide)]
    if result.differences:
        header = ["Method", *map(_latex, _difference_header(result))]
        narrow = [[_latex(cell) for cell in line] for line in _narrow(result)]
        parts += [f"% {_difference_title(result)}", table("l" + "r" * (len(header) - 1), [header], narrow)]
    parts += [f"% {note}" for note in _footnotes(result)]
    return ("\n".join(parts) + "\n").encode("utf-8")


FORMATS: dict[str, Callable[[Result], bytes]] = {"csv": as_csv, "markdown": as_markdown, "latex": as_latex}


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """``97.01 [96.80, 97.20]`` from shares; without an interval the value alone."""
    interval = "" if low is None or high is None else f" [{100 * low:.2f}, {100 * high:.2f}]"
    return f"{100 * value:.2f}{interval}"


def _plain(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "artifact_id"}


def _mark(row: Row) -> str:
    return ADAPTS if row["adapts"] else ""


def _points(row: Row, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = "" if low is None else f" [{100 * low:+.2f}, {100 * high:+.2f}]"
    return f"{100 * row[name]:+.2f}{interval}"


def _difference(row: Row) -> tuple[str, str, str]:
    """The two differences, and which of them the interval parts from zero."""
    real = [label for name, label in (("auroc", "AUROC"), ("fpr95", "FPR")) if row[f"{name}_excludes_zero"]]
    verdict = "" if row["auroc_low"] is None else f"{' and '.join(real)} not 0" if real else "may be chance"
    return _points(row, "auroc"), _points(row, "fpr95"), verdict


def _milliseconds(row: Row) -> tuple[str, str, str]:
    if row["milliseconds"] is None:
        return "", "", ""
    head, neglabel = row["milliseconds"], row["neglabel_milliseconds"]
    return f"{head:.4f}", f"{neglabel:.4f}", f"{head - neglabel:+.4f}"


def _name(row: Row) -> str:
    """A method with its head or classifier, and its mark."""
    where = row["head"] or model_label(row["model"])
    return f"{row['method']}{f' ({where})' if where else ''}{'†' if row['adapts'] else ''}"


def _wide(result: Result) -> list[list[str]]:
    """A line a method, a pair of columns an OOD set; published lines have only the sets that they share, if any."""
    lines: dict[str, dict[str, Row]] = {}
    for row in result.rows:
        lines.setdefault(_name(row), {})[row["dataset"]] = row
    for row in result.published:
        if row["dataset"] not in result.datasets:
            continue
        marks = "†" * row["adapts"] + "‡" * (row["fpr95_positive"] != result.positive)
        name = f"{row['method']}{marks} [published, {row['backbone']}, {row['suite']}]"
        comparable = row if result.tpr == PUBLISHED_TPR else {**row, "fpr95": None}
        lines.setdefault(name, {})[row["dataset"]] = comparable
    missing = {"auroc": None, "fpr95": None}
    return [
        [name] + [_cell(found.get(dataset, missing)[metric]) for dataset in result.datasets for metric in missing]
        for name, found in lines.items()
    ]


def _cell(share: float | None) -> str:
    return "–" if share is None else percent(share)


def _narrow(result: Result) -> list[list[str]]:
    names = {(row["method"], row["head"]): _name(row) for row in result.rows}
    several = reference_name(result.differences) is None
    return [
        [names[row["method"], row["head"]], *([_reference(row)] * several), row["dataset"], *_difference(row)]
        for row in result.differences
    ]


def _difference_header(result: Result) -> list[str]:
    columns = ["dataset", "AUROC", result.fpr, "difference"]
    return columns if reference_name(result.differences) else ["from", *columns]


def _difference_title(result: Result) -> str:
    against = reference_name(result.differences)
    return f"Differences {f'from {against}, ' if against else ''}in points, with paired bootstrap intervals."


def _reference(row: Row) -> str:
    return f"{row['against_method']} {row['against_head']}".strip()


def _footnotes(result: Result) -> list[str]:
    notes = []
    if any(row["adapts"] for row in (*result.rows, *result.published)):
        notes.append("† adapts to the test images: its numbers depend on their order and mixture.")
    if any(row["fpr95_positive"] != result.positive for row in result.published):
        other = POSITIVE["ood" if result.positive == "ind" else "ind"]
        notes.append(f"‡ FPR95 under the other convention: {other}.")
    if result.published:
        notes.append(f"[published]: on that paper's images; {result.published[0]['source']}.")
    return notes


def markdown_text(text: str) -> str:
    """`text` as it reads, in a table's cell too: no markup, mathematics, entity or line end of its own."""
    return re.sub(r"([|\\`*_<>\[\]~$]|&(?=#?\w+;))", r"\\\1", printable(text))


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': r"\textquotedbl{}",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "–": "--",
}


def _latex(text: str) -> str:
    escaped = (_LATEX.get(c) or (f"\\{c}" if c in "&%$#_{}" else c) for c in printable(text))
    return "".join(escaped)
