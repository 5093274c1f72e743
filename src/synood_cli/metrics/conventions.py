"""What the words of an evaluation mean: names of data sets, the two conventions of FPR95, the order of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IND = "ind"
"""The in-distribution images, in column `dataset` of table `scores`."""

AVERAGE = "average"
"""The mean over the OOD sets, in column `dataset` of table `metrics`; `average GROUP`: over the sets of a group."""

MCM = "MCM"
"""The method that takes nothing of a head but its CLIP and the texts of its InD labels."""

POSITIVE = {"ind": "InD is positive (MCM, NegLabel, CSP, SynOOD)", "ood": "OOD is positive (OpenOOD v1.5, AdaNeg)"}
"""The two conventions of FPR95 that are in print, in short."""

CONVENTIONS = {
    "ind": "the share of OOD images that pass the threshold which {tpr} of the in-distribution images pass "
    "(in-distribution is positive: MCM, NegLabel, CSP, SynOOD)",
    "ood": "the share of in-distribution images that do not exceed the threshold which {tpr} of the OOD images do "
    "not exceed (OOD is positive: OpenOOD v1.5, AdaNeg)",
}
"""The same, in full; `tpr` is a percentage as `percentage` writes it."""

ADAPTS = "adapts"
"""The mark of a method that learns from the test images while it scores them: its numbers depend on their order and
mixture, and are not comparable with those of a method that does not."""


def percentage(share: float) -> str:
    """A share in percent, with up to six digits: 95%, 99.9%."""
    return f"{100 * share:g}%"


def fpr_name(tpr: float) -> str:
    """What the FPR at a true-positive rate, a share, is called: FPR95, FPR99.9."""
    return f"FPR{100 * tpr:g}"


def ind_beside(dataset: str) -> str:
    """Column `dataset` of table `scores` for the in-distribution images of an adapting method, whose scores depend on
    the OOD set that they are mixed with."""
    return f"{IND}:{dataset}"


def model_label(name: str) -> str:
    """A classifier as the tables name it: a hub id as it is, a folder by its last part."""
    return Path(name).name if Path(name).is_absolute() else name


def reference_name(differences: Sequence[Mapping[str, Any]]) -> str | None:
    """What all rows of table `differences` are compared with; None where they have several references."""
    names = {f"{row['against_method']} {row['against_head']}".strip() for row in differences}
    return names.pop() if len(names) == 1 else None


def table_place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sorts rows of table `metrics`: MCM; the heads by number; the baselines on a classifier; then the methods that
    adapt. Averages come last of the data sets."""
    number = int(row["head"].partition("@")[2] or 0)
    return (
        row["adapts"],
        bool(row["model"]),
        row["method"] != MCM,
        number,
        row["method"],
        row["dataset"].startswith(AVERAGE),
        row["dataset"],
    )
