"""What a report is about: an artifact, and everything that it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from synood_cli.config import STAGES
from synood_cli.errors import UsageError
from synood_cli.records import ModelSpec
from synood_cli.store.store import Artifact, Store

SUBJECTS = ("eval", "head", "synthetic", "captions", "selection")
"""Kinds of artifact that a report can be about, the most telling first."""


class Lineage(NamedTuple):
    """An artifact with what it was made from. `heads`: the newest one and those that it was made from, newest first.

    `artifacts`: all of them, `subject` too, oldest first.
    """

    subject: Artifact
    artifacts: list[Artifact]
    heads: list[Artifact]
    synthetic: Artifact | None
    captions: Artifact | None
    selection: Artifact | None


class Node(NamedTuple):
    """One line of the tree of inputs, `depth` steps below the subject. `repeated`: it has inputs, which stand where it
    came first."""

    role: str
    artifact: Artifact
    depth: int
    repeated: bool


class Setting(NamedTuple):
    """One setting that is not the paper's default; `release`: the release recipe's value, where it has its own."""

    artifact: str
    stage: str
    name: str
    value: str
    default: str
    release: str | None


class UsedModel(NamedTuple):
    """One model of the lineage and the roles that it played."""

    roles: str
    spec: ModelSpec


def choose_subject(store: Store, name: str | None) -> Artifact:
    """The artifact called `name`; unsaid, the newest complete one of the first of SUBJECTS that there is.

    Raises UsageError for a kind that no report is about, and where nothing has been made yet.
    """
    if name is None:
        kinds = {artifact.kind for artifact in store.artifacts() if artifact.status == "complete"}
        return store.newest(next((kind for kind in SUBJECTS if kind in kinds), SUBJECTS[-1]))
    artifact = store.get(name)
    if artifact.kind not in SUBJECTS:
        raise UsageError(f"{artifact.name}: there is no report about {artifact.kind}", hint=f"of {', '.join(SUBJECTS)}")
    return artifact


def trace(store: Store, subject: Artifact) -> Lineage:
    """The lineage of `subject`. Of several heads the newest one that synthetic images went into is followed, or else
    the newest one.
    """
    artifacts = store.lineage(subject)
    newest_first = [artifact for artifact in artifacts if artifact.kind == "head"]
    trained = (head for head in newest_first if store.ancestor(head, "synthetic"))
    heads: list[Artifact] = []
    head = next(trained, newest_first[0] if newest_first else None)
    while head is not None:
        heads.append(head)
        head = store.ancestor(head, "head")
    synthetic = _nearest(store, heads[0] if heads else subject, "synthetic")
    captions = _nearest(store, synthetic or subject, "captions")
    selection = _nearest(store, captions or (heads[0] if heads else subject), "selection")
    return Lineage(subject, artifacts[::-1], heads, synthetic, captions, selection)


def _nearest(store: Store, artifact: Artifact, kind: str) -> Artifact | None:
    return artifact if artifact.kind == kind else store.ancestor(artifact, kind)


def tree(store: Store, subject: Artifact) -> Iterator[Node]:
    """`subject` with its inputs below it, down to the selection: as many lines as there are links, as an artifact's own
    inputs are told once."""
    told: dict[int, bool] = {}
    pending = [Node("", subject, 0, False)]
    while pending:
        node = pending.pop()
        inputs = {} if node.artifact.id in told else store.inputs(node.artifact)
        yield node._replace(repeated=told.get(node.artifact.id, False))
        told.setdefault(node.artifact.id, bool(inputs))
        pending += [Node(role, made, node.depth + 1, False) for role, made in reversed(inputs.items())]


def changed_settings(artifacts: list[Artifact]) -> list[Setting]:
    """The settings of these artifacts that are not the paper's defaults."""
    changed = []
    for artifact in artifacts:
        model = STAGES.get(artifact.stage)
        for name, default in model().model_dump(mode="json").items() if model else ():
            if name in artifact.settings and artifact.settings[name] != default:
                release = shown(model.release[name]) if model and name in model.release else None
                value = shown(artifact.settings[name])
                changed.append(Setting(artifact.name, artifact.stage, name, value, shown(default), release))
    return changed


def used_models(store: Store, artifacts: list[Artifact]) -> list[UsedModel]:
    """Each model of the lineage once, in the order in which the models came in."""
    roles: dict[str, set[str]] = {}
    specs: dict[str, ModelSpec] = {}
    for artifact in artifacts:
        for role, spec in store.models(artifact).items():
            key = spec.model_dump_json()
            specs.setdefault(key, spec)
            roles.setdefault(key, set()).add(role.partition("-")[0])  # an evaluation numbers its CLIPs
    return [UsedModel(", ".join(sorted(roles[key])), spec) for key, spec in specs.items()]


def shown(value: Any) -> str:
    """A setting's value as text: a string as it is, anything else as JSON ("none" for null)."""
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
