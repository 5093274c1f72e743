"""The page: everything about an evaluation in one HTML file that needs no network and no script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from synood_cli.records import printable
from synood_cli.reports import figures, synthesis
from synood_cli.reports.detection import detection
from synood_cli.reports.failures import SHOWN, failures
from synood_cli.reports.lineage import changed_settings, trace, tree, used_models
from synood_cli.reports.training import labels, losses
from synood_cli.store.files import remove_abandoned, write_inside
from synood_cli.store.outputs import write_output
from synood_cli.store.store import Artifact, Store

FRAME = {name.lower(): getattr(figures, name) for name in ("WIDTH", "HEIGHT", "LEFT", "RIGHT", "TOP", "BOTTOM")}


class Page(NamedTuple):
    """The text of a page, and the names of its parts."""

    html: str
    parts: list[str]


def write_report(store: Store, subject: Artifact, path: Path) -> list[str]:
    """Write the report about `subject` to `path`; returns the names of its parts. In the workspace a link of that name
    is replaced, elsewhere it is followed."""
    page, root = report(store, subject), store.workspace.root
    if path.is_relative_to(store.workspace.reports):
        remove_abandoned(store.workspace.reports)
        write_inside(root, str(path.relative_to(root)), page.html.encode("utf-8"))
    else:
        write_output(path, page.html.encode("utf-8"))
    return page.parts


def report(store: Store, subject: Artifact) -> Page:
    """The page about `subject` and what it was made from. A part is there only where the lineage has something for it;
    the same artifacts give the same page.
    """
    lineage = trace(store, subject)
    parts: dict[str, Any] = {
        "detection": detection(store, subject) if subject.kind == "eval" else None,
        "synthesis": synthesis.synthesis(store, lineage),
        "labels": labels(store, lineage),
        "losses": losses(store, lineage),
        "failures": failures(store, lineage),
        "lineage": list(tree(store, subject)),
    }
    html = (
        _environment()
        .get_template("page.html")
        .render(
            **parts,
            subject=subject,
            selection=lineage.selection,
            classes=_classes(store, lineage.selection),
            artifacts=lineage.artifacts,
            models=used_models(store, lineage.artifacts),
            changed=changed_settings(lineage.artifacts),
            failures_shown=SHOWN,
            examples_per_group=synthesis.PER_GROUP,
        )
    )
    return Page(html, [name for name, content in parts.items() if content])


def _classes(store: Store, selection: Artifact | None) -> int:
    if selection is None:
        return 0
    query = "select count(distinct class_name) from selected_images where artifact_id = ?"
    return int(store.db.execute(query, [selection.id]).fetchone()[0])


def _environment() -> Environment:
    """Names, prompts and reasons come from anywhere: what is printed is escaped, and control characters shown."""
    environment = Environment(
        loader=PackageLoader("synood_cli", "reports/templates"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "points": lambda share: f"{100 * share:+.2f}".replace("-", "−"),
        "percent": lambda share: f"{100 * share:.2f}",
        "signed": lambda value: f"{value:+#.3g}".replace("-", "−"),
        "as_json": lambda value: json.dumps(value, ensure_ascii=False, sort_keys=True),
        "when": lambda moment: moment.replace("T", " ").removesuffix("+00:00") + " UTC" if moment else "not finished",
        "count": lambda number: f"{number:,}",
    }
    environment.globals["frame"] = FRAME
    return environment


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
