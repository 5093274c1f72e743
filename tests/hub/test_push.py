"""What leaves a workspace, and how it gets into a repository."""

from __future__ import annotations

import hashlib
import json
import re
import resource
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfApi, ModelCard
from safetensors.numpy import load

from hub_server import Hub
from published import HOSTILE, OPENAI, Files, description, files_of, put_head, tensors
from synood_cli.errors import HubError, ModelError, StoreError, UsageError
from synood_cli.hub.address import HubAddress
from synood_cli.hub.push import push_files, target
from synood_cli.records import ModelSpec, printable
from synood_cli.store.draft import Draft
from synood_cli.store.heads import Head
from synood_cli.store.store import Artifact, Store

HERE = HubAddress("user/head")
DIGEST = "ab" * 32


def test_features_are_float16_and_a_projection_is_not(store: Store) -> None:
    files = files_of(store, put_head(store, projection=True))
    stored, before = load(files["head.safetensors"]), tensors(projection=True)
    for name, tensor in before.items():
        half = name in ("ind_features", "negative_features")
        assert stored[name].dtype == (np.float16 if half else np.float32)
        assert np.array_equal(stored[name], tensor.astype(np.float16) if half else tensor)
    whole = load(files_of(store, store.newest("head"), features="float32")["head.safetensors"])
    assert all(np.array_equal(whole[name], tensor) for name, tensor in before.items())


def test_the_description_says_what_lies_beside_it(files: Files) -> None:
    said = json.loads(files["head.json"])["publication"]
    content = files["head.safetensors"]
    assert said["tensors"] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    shown = HOSTILE.replace("\x1b", "\\x1b")
    assert said["negative_labels_sha256"] == hashlib.sha256(f"rope\nλ\n{shown}\n".encode()).hexdigest()
    assert (said["features"], said["license"], said["evaluation"]) == ("float16", None, None)


def test_the_line_of_artifacts_goes_with_it_without_paths_of_this_machine(store: Store) -> None:
    models = {"captioner": ModelSpec(adapter="transformers", name="/home/me/llava", revision=DIGEST)}
    draft = Draft.begin(
        store,
        "selection",
        "select",
        settings={"per_class": 5, "list": "/home/me/x.txt"},
        inputs={},
        models=models,
        seed=1,
    )
    draft.note({"folder": "/home/me/photos"})
    selection = draft.complete()
    draft = Draft.begin(
        store, "head", "mine-labels", settings={"a": ["~/b"]}, inputs={"selection": selection}, models={}, seed=3
    )
    draft.commit({}, Head(description(), tensors()).write(draft))
    made = draft.complete()
    files = files_of(store, made)
    line = json.loads(files["head.json"])["publication"]["lineage"]
    assert [(a["artifact"], a["stage"], a["seed"], a["inputs"]) for a in line] == [
        ("head@1", "mine-labels", 3, {"selection": "selection@1"}),
        ("selection@1", "select", 1, {}),
    ]
    assert [a["settings"] for a in line] == [{"a": ["b"]}, {"per_class": 5, "list": "x.txt"}]
    assert line[1]["models"]["captioner"]["name"] == f"sha256:{DIGEST}"
    assert [a["digest"] for a in line] == [made.digest, selection.digest]
    assert b"/home" not in b"".join(files.values())


@pytest.mark.parametrize(
    ("changed", "name", "pretrained"),
    [
        ({}, "ViT-B-16", "openai"),
        ({"name": "/home/me/clip", "pretrained": None, "revision": DIGEST}, f"sha256:{DIGEST}", None),
        ({"pretrained": "/home/me/clip.pt", "revision": DIGEST}, "ViT-B-16", f"sha256:{DIGEST}"),
        ({"name": "org/clip", "pretrained": None, "revision": "0" * 40}, "org/clip", None),
    ],
)
def test_a_local_clip_is_named_by_its_content(
    store: Store, changed: dict[str, str], name: str, pretrained: str | None
) -> None:
    head = put_head(store, model=OPENAI.model_copy(update=changed))
    clip = json.loads(files_of(store, head)["head.json"])["clip"]["model"]
    assert (clip["name"], clip["pretrained"]) == (name, pretrained)


def test_a_clip_of_unknown_weights_cannot_be_published(store: Store) -> None:
    head = put_head(store, model=OPENAI.model_copy(update={"name": "org/clip", "pretrained": None, "revision": None}))
    with pytest.raises(ModelError, match="not known which revision of org/clip"):
        files_of(store, head)


def test_features_that_float16_cannot_hold_are_not_published(store: Store) -> None:
    draft = Draft.begin(store, "head", "mine-labels", settings={}, inputs={}, models={}, seed=0)
    large = tensors()
    large["ind_features"][0, 0] = 1e6
    draft.commit({}, Head(description(), large).write(draft))
    with (
        pytest.warns(RuntimeWarning, match="overflow"),
        pytest.raises(StoreError, match="ind_features holds NaN or inf"),
    ):
        files_of(store, draft.complete())


def evaluated(store: Store, head: Artifact, auroc: float, **changed: object) -> None:
    draft = Draft.begin(
        store,
        "eval",
        "eval",
        settings={"tpr": 0.9},
        inputs={"head-1": head},
        models={},
        seed=0,
        digests={"a": str(auroc)},
    )
    row = {
        "method": "NegLabel", "head": head.name, "auroc": auroc, "auroc_low": 0.5, "auroc_high": 1.0, "fpr95": 0.25,
        "fpr95_positive": "ind", "fpr95_other": 0.5, "aupr_in": 0.6, "aupr_out": 0.7, "ind_images": 8, "ood_images": 9,
        **changed,
    }  # fmt: skip
    rows = [{**row, "dataset": name} for name in ("average", "far", "near | *x*")]
    others = [{**row, "method": "another score on this head", "auroc": 0.1} for row in rows]
    draft.commit({"metrics": [*rows, *others]})
    draft.complete()


def test_the_newest_evaluation_goes_with_it(store: Store, head: Artifact) -> None:
    evaluated(store, head, 0.8)
    evaluated(store, head, 0.875)
    said = json.loads(files_of(store, head)["head.json"])["publication"]["evaluation"]
    assert [(row["dataset"], row["auroc"]) for row in said["rows"]] == [
        ("far", 0.875), ("near | *x*", 0.875), ("average", 0.875),
    ]  # fmt: skip
    assert said["tpr"] == 0.9
    other = put_head(store, settings={"another": 1})
    assert json.loads(files_of(store, other)["head.json"])["publication"]["evaluation"] is None


def test_the_base_model_of_a_built_in_clip_is_where_open_clip_gets_it(store: Store) -> None:
    card = ModelCard(files_of(store, put_head(store, model=OPENAI))["README.md"].decode())
    assert card.data.base_model == "timm/vit_base_patch16_clip_224.openai"


def test_the_card_has_the_hubs_metadata_and_the_table(store: Store, head: Artifact) -> None:
    evaluated(store, head, 0.875)
    card = ModelCard(files_of(store, head, license="apache-2.0")["README.md"].decode())
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "synood")
    assert card.data.base_model == "org/clip"
    assert "out-of-distribution-detection" in card.data.tags
    results = [(r.dataset_name, r.metric_type, r.metric_value) for r in card.data.eval_results]
    assert ("far", "auroc", 87.5) in results
    assert ("average", "fpr95", 25.0) in results
    assert len(results) == len(set(results)) == 6
    assert "| far | 87.50 (50.00 to 100.00) | 25.00 | 50.00 | 8 | 9 |" in card.text
    assert r"| near \| \*x\* | 87.50" in card.text
    assert "FPR90" in card.text
    assert "InD is the positive class" in card.text
    assert "synood score FOLDER --head user/head" in card.text


def test_the_other_convention_is_named_as_such(store: Store, head: Artifact) -> None:
    evaluated(store, head, 0.875, fpr95_positive="ood")
    text = files_of(store, head)["README.md"].decode()
    assert "OOD is the positive class (as in OpenOOD v1.5, AdaNeg)" in text
    assert "InD is the positive class" not in text


def test_no_name_becomes_markup_in_the_card(files: Files) -> None:
    text = files["README.md"].decode()
    assert "\x1b" not in text
    assert not re.search(r"(?<!\\)<script", text)
    assert r"\<script\>alert\(1\)\</script\> \| \`x\` \[y\]\(z\) \\x1b\[2J" in text
    assert "None was stated" in text


def test_a_repository_is_made_and_filled_in_one_commit(hub: Hub, files: Files) -> None:
    address = push_files(files, HERE, private=False)
    repository = hub.repositories["user/head"]
    assert address == f"user/head@{repository.branches['main']}"
    assert repository.commits[repository.branches["main"]] == files
    assert len(repository.commits) == 2
    assert not repository.private
    assert sorted(HfApi().list_repo_files("user/head")) == ["README.md", "head.json", "head.safetensors"]


def test_a_second_push_is_a_second_commit(hub: Hub, store: Store, head: Artifact, files: Files) -> None:
    first = push_files(files, HERE, private=False)
    second = push_files(files_of(store, head, license="mit"), HERE, private=False)
    assert first != second
    assert len(hub.repositories["user/head"].commits) == 3


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own
def test_large_files_go_by_lfs_where_the_hub_asks_for_it(
    hub: Hub, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    hub.lfs = True
    push_files(files, HERE, private=False)
    assert list(hub.objects.values()) == [files["head.safetensors"]]
    repository = hub.repositories["user/head"]
    assert repository.commits[repository.branches["main"]] == files


def test_a_branch_of_its_own(hub: Hub, files: Files) -> None:
    for _ in range(2):
        push_files(files, target("user/head", "v1"), private=False)
    repository = hub.repositories["user/head"]
    assert repository.commits[repository.branches["main"]] == {}
    assert repository.commits[repository.branches["v1"]] == files


def test_private_means_private(hub: Hub, files: Files) -> None:
    push_files(files, HERE, private=True)
    assert hub.repositories["user/head"].private
    hub.publish("user/open", {})
    with pytest.raises(UsageError, match="user/open is there already, and public"):
        push_files(files, HubAddress("user/open"), private=True)
    open_one = hub.repositories["user/open"]
    assert open_one.commits[open_one.branches["main"]] == {}


def test_a_token_that_may_not_write(hub: Hub, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match=r"user/head: the hub refuses the token \(status 401\)") as caught:
        push_files(files, HERE, private=False)
    assert "hf auth login" in (caught.value.hint or "")
    assert hub.repositories == {}


def test_a_hub_that_fails_is_told_of(hub: Hub, files: Files) -> None:
    hub.status = 507
    with pytest.raises(HubError, match="user/head: the hub answers with status 507"):
        push_files(files, HERE, private=False)


def test_a_folder_instead_of_a_repository(files: Files, tmp_path: Path) -> None:
    where = push_files(files, tmp_path / "out" / "head", private=False)
    assert {path.name: path.read_bytes() for path in Path(where).iterdir()} == files


def test_a_revision_has_to_go_with_the_address() -> None:
    assert target("user/head@v1", None) == target("user/head", "v1") == HubAddress("user/head", "v1")
    for address, revision in (("./folder", "v1"), ("user/head@v1", "v2")):
        with pytest.raises(UsageError, match="does not go with"):
            target(address, revision)


def test_a_push_that_fails_leaves_the_head_that_was_there(tmp_path: Path) -> None:
    old = {"head.json": b"old", "head.safetensors": b"old", "README.md": b"old"}
    push_files(old, tmp_path / "head", private=False)
    new = {"head.json": b"new", "head.safetensors": b"x" * 300_000, "README.md": b"new"}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"head\.safetensors"):
            push_files(new, tmp_path / "head", private=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in (tmp_path / "head").iterdir()} == old
    push_files(new, tmp_path / "head", private=False)
    assert {path.name: path.read_bytes() for path in (tmp_path / "head").iterdir()} == new


@pytest.mark.parametrize(
    "license_",
    ["mit\ninjected: true", "mit\n---\n# Owned", "a: b", "'\"", "{{ 7 * 7 }}", "- x", "!!python/name:os.system"],
)
def test_a_licence_is_one_value_of_the_cards_metadata(store: Store, head: Artifact, license_: str) -> None:
    card = files_of(store, head, license=license_)["README.md"].decode()
    data = ModelCard(card).data
    assert data.license == printable(license_)
    assert "injected" not in data.to_dict()
    assert "# Owned" not in card.splitlines()
