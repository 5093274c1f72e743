"""What a stage's command says at the end: the artifact, what failed, the next command; or, on a dry run, the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from synood_cli.cli.output import Output
from synood_cli.cli.progress import duration

if TYPE_CHECKING:
    from synood_cli.data.passed_over import PassedOver
    from synood_cli.store.store import Artifact, Store

SOME_FAILED = 3
"""Exit code when the stage is done but some items could not be worked on."""

FAILURES_SHOWN = 5
INPUTS_SHOWN = 6

LOOKING = ("select", "eval", "calibrate", "score")
"""Stages that are given images, and may find other files beside them."""

RETRIED = ("caption", "synthesize", "score")
"""Stages with the option --retry-failed."""

NEXT = {
    "select": "synood caption",
    "caption": "synood synthesize",
    "synthesize": "synood mine-labels",
    "mine-labels": "synood train-proj",
    "train-proj": "synood train-labels",
    "train-labels": "synood eval --ind IMAGES --ood NAME=IMAGES",
    "eval": "synood calibrate HEAD IMAGES, or synood score IMAGES",
    "calibrate": "synood score IMAGES",
    "pull": "synood score IMAGES",
}


def finish(
    output: Output,
    store: Store,
    artifact: Artifact,
    fields: dict[str, Any] | None = None,
    show: Callable[[], None] | None = None,
    *,
    passed_over: PassedOver | None = None,
) -> int:
    """Say what was made and return the exit code. `fields` are more of the JSON document; `show` prints the result;
    `passed_over` are the files that a stage of LOOKING did not look at.

    A stage that shows a result of its own leaves stdout to it: what was made is told on stderr then.
    """
    output.document(
        {
            "artifact": artifact.name,
            "stage": artifact.stage,
            "reused": artifact.reused,
            "done": artifact.items_done,
            "failed": artifact.items_failed,
            "seconds": round(artifact.seconds, 3),
            **({"passed_over": passed_over.document()} if passed_over and artifact.stage in LOOKING else {}),
            **(fields or {}),
        }
    )
    failed = f", {artifact.items_failed} failed" if artifact.items_failed else ""
    how = "reused, nothing to do" if artifact.reused else f"made in {duration(artifact.seconds)}"
    read = list(dict.fromkeys(made.name for made in store.inputs(artifact).values()))
    more = f", … and {len(read) - INPUTS_SHOWN} more" if len(read) > INPUTS_SHOWN else ""
    inputs = ", ".join(read[:INPUTS_SHOWN]) + more
    summary = f"{artifact.name}: {artifact.items_done} done{failed}, {how}{f' (inputs: {inputs})' if inputs else ''}"
    if show is None:
        output.line(summary)
    else:
        show()
        output.note(summary)
    for warning in artifact.notes.get("warnings", []):
        output.note(f"warning: {warning}")
    if passed_over:
        show_passed_over(output, passed_over)
    if artifact.items_failed:
        _show_failures(output, store, artifact)
    if artifact.stage in NEXT:
        output.hint(NEXT[artifact.stage])
    return SOME_FAILED if artifact.items_failed else 0


def show_passed_over(output: Output, passed_over: PassedOver) -> None:
    """Say which files beside the images nobody looked at."""
    if passed_over.files:
        output.note(str(passed_over))


def _show_failures(output: Output, store: Store, artifact: Artifact) -> None:
    failures = store.failures(artifact)
    output.problem(f"{len(failures)} failed:")
    for item, reason in failures[:FAILURES_SHOWN]:
        output.problem(f"  {item}: {reason}")
    output.problem(f"all of them: synood show {artifact.name} --failures")
    if artifact.stage in RETRIED:
        output.problem("once the cause is gone, --retry-failed does them and keeps the rest")
    elif artifact.reused:
        output.problem("once the cause is gone, --force makes it again")


def show_plan(output: Output, plan: dict[str, Any]) -> None:
    """What a dry run found out: would the stage make, resume or reuse an artifact, and how much is left to do."""
    output.document(plan)
    what = {"make": "would make a new", "resume": "would go on with", "reuse": "would reuse"}[plan["action"]]
    output.line(f"{plan['stage']} {what} {plan['artifact']}")
    output.fields({"items": plan["items"], "done": plan["done"], **plan["inputs"], **plan["models"]})
    output.table(["setting", "value"], [(name, _shown(value)) for name, value in sorted(plan["settings"].items())])


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
