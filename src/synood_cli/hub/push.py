"""Publish a head: to a hub repository, or to a folder in the same format."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from synood_cli.config import FeatureType
from synood_cli.errors import ModelError, UsageError
from synood_cli.hub.address import HubAddress, parse_address
from synood_cli.hub.card import CARD_FILE, model_card
from synood_cli.hub.client import USER_AGENT, hub_errors
from synood_cli.models.revisions import by_content
from synood_cli.records import printable
from synood_cli.store.files import disk_errors, sha256_bytes, sync
from synood_cli.store.heads import INFO_FILE, TENSOR_FILE, Head, HeadInfo, info_bytes
from synood_cli.store.outputs import new_file, output_lock
from synood_cli.store.publication import (
    Ancestor,
    Evaluation,
    EvaluationRow,
    Publication,
    TensorFile,
    labels_sha256,
)
from synood_cli.store.store import Artifact, Store


def target(address: str, revision: str | None) -> HubAddress | Path:
    """Where `--revision` of `address` is; unsaid, the revision in the address itself.

    Raises UsageError for a revision of a folder, and for two different ones.
    """
    place = parse_address(address)
    if revision is None:
        return place
    if isinstance(place, Path) or place.revision not in (None, revision):
        raise UsageError(
            f"--revision {revision} does not go with {printable(address)}", hint="a folder has no branches"
        )
    return place._replace(revision=revision)


def published_files(
    store: Store, artifact: Artifact, place: HubAddress | Path, *, license: str | None, features: FeatureType
) -> dict[str, bytes]:
    """The files of a published head by name, as they go to `place`: `head.json`, `head.safetensors` and a model card.

    Names of labels and class folders are made printable, local models are named by their content, and paths of this
    machine are reduced to their last part. Raises StoreError and ModelError when the head cannot be published.
    """
    head = Head.read(artifact.folder)
    tensors = head.tensor_bytes(features)
    info = _travelling(head.info)
    publication = Publication(
        features=features,
        tensors=TensorFile(bytes=len(tensors), sha256=sha256_bytes(tensors)),
        negative_labels_sha256=labels_sha256(label.text for label in info.negative_labels),
        license=license and printable(license),
        evaluation=newest_evaluation(store, artifact, info.method),
        lineage=tuple(_ancestor(store, made) for made in store.lineage(artifact)),
    )
    published = info.model_copy(update={"publication": publication})
    card = model_card(published, str(place) if isinstance(place, HubAddress) else f"./{printable(place.name)}")
    return {INFO_FILE: info_bytes(published), TENSOR_FILE: tensors, CARD_FILE: card.encode()}


def push_files(files: Mapping[str, bytes], place: HubAddress | Path, *, private: bool) -> str:
    """Put the files into a folder or a repository, which is made if need be; all in one commit, on the branch that is
    the address's revision. Returns the address that gives this very version.

    Raises HubError when the hub does not take them, UsageError when a repository that was to be private is public.
    """
    if isinstance(place, Path):
        _replace_files(files, place)
        return str(place.resolve())
    from huggingface_hub import CommitOperationAdd, HfApi

    api, repository = HfApi(user_agent=USER_AGENT), place.repository
    with hub_errors(HubAddress(repository)):
        api.create_repo(repository, private=private or None, exist_ok=True)
        public = private and not api.model_info(repository).private
    if public:
        raise UsageError(f"{repository} is there already, and public", hint="name another, or leave --private out")
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    with hub_errors(place):
        if place.revision is not None:
            api.create_branch(repository, branch=place.revision, exist_ok=True)
        commit = api.create_commit(
            repository, operations, commit_message="Publish a head with synood", revision=place.revision
        )
    return f"{repository}@{commit.oid}"


def _replace_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Put the files into `folder`: none is replaced before all of them are on the disk."""
    with output_lock(folder / INFO_FILE), ExitStack() as renames:
        for name, content in files.items():
            scratch = renames.enter_context(new_file(folder / name))
            with disk_errors(folder / name), scratch.open("wb") as file:
                file.write(content)
                file.flush()
                sync(file.fileno())


def newest_evaluation(store: Store, head: Artifact, method: str) -> Evaluation | None:
    """What the newest complete evaluation of `head` by its own `method` says of it; None without one."""
    made = [artifact for artifact in store.artifacts("eval") if artifact.status == "complete"]
    for artifact in sorted(made, key=lambda artifact: -artifact.asked):
        rows = [row for row in store.rows(artifact, "metrics") if (row["head"], row["method"]) == (head.name, method)]
        if rows and head.id in {made.id for made in store.inputs(artifact).values()}:
            return Evaluation(
                tpr=artifact.settings["tpr"],
                digest=artifact.digest or "",
                rows=tuple(
                    EvaluationRow(**{name: _shareable(row[name]) for name in EvaluationRow.model_fields})
                    for row in sorted(rows, key=lambda row: (row["dataset"].startswith("average"), row["dataset"]))
                ),
            )
    return None


def _travelling(info: HeadInfo) -> HeadInfo:
    """`info` without anything that only this machine, or no terminal, understands. Raises ModelError when it is not
    known which weights its CLIP had."""
    if info.clip.model.revision is None:
        raise ModelError(
            f"it is not known which revision of {info.clip.model.name} the head was made with: the hub did not say",
            hint="make the head anew where the hub can be reached",
        )
    ind = tuple(
        label.model_copy(update={"text": printable(label.text), "class_name": printable(label.class_name)})
        for label in info.ind_labels
    )
    negative = tuple(
        label.model_copy(update={"text": printable(label.text), "part_of_speech": printable(label.part_of_speech)})
        for label in info.negative_labels
    )
    changed: dict[str, Any] = {
        "clip": info.clip.model_copy(update={"model": by_content(info.clip.model)}),
        "ind_labels": ind,
        "negative_labels": negative,
        "ind_template": printable(info.ind_template),
        "templates": {printable(kind): printable(template) for kind, template in info.templates.items()},
    }
    return info.model_copy(update=changed)


def _ancestor(store: Store, made: Artifact) -> Ancestor:
    return Ancestor(
        artifact=made.name,
        stage=made.stage,
        settings=_shareable(made.settings),
        inputs={role: above.name for role, above in store.inputs(made).items()},
        models={role: by_content(spec) for role, spec in store.models(made).items()},
        seed=made.seed,
        digest=made.digest or "",
        tool_version=made.tool_version,
    )


def _shareable(value: Any) -> Any:
    """A setting as it may be shown to others: printable, and a path by its last part."""
    if isinstance(value, dict):
        return {printable(key): _shareable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shareable(inner) for inner in value]
    if isinstance(value, str):
        return printable(Path(value).name if value.startswith(("/", "~")) else value)
    return value
