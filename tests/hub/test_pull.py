"""What comes from a hub: found, pinned, cached, checked; and what happens when it does not come."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest

from hub_server import Hub
from published import OPENAI, Files, description, files_of, put_head, tensors, write_files
from synood_cli.errors import HubError, ModelError, StoreError, UsageError
from synood_cli.head_address import resolve_head
from synood_cli.hub.address import HubAddress
from synood_cli.hub.pull import fetch_head, pull_head
from synood_cli.hub.push import push_files
from synood_cli.models.revisions import folder_digest
from synood_cli.playground import BUNDLED_CLIP
from synood_cli.records import ModelSpec
from synood_cli.store.files import sha256_file
from synood_cli.store.heads import Head
from synood_cli.store.store import Artifact, Store
from synood_cli.store.workspace import Workspace


@pytest.fixture
def commit(hub: Hub, files: Files) -> str:
    """user/head is on the hub; its commit."""
    return hub.publish("user/head", files)


@pytest.fixture
def elsewhere(tmp_path: Path):
    with Store.open(Workspace.create(tmp_path / "elsewhere"), write=True) as store:
        yield store


def downloads(hub: Hub) -> list[str]:
    return [asked.rpartition("/")[2] for asked in hub.requests if asked.startswith("GET ") and "/resolve/" in asked]


def test_what_was_pushed_comes_back(hub: Hub, store: Store) -> None:
    push_files(files_of(store, put_head(store, projection=True)), HubAddress("user/head"), private=False)
    head = Head.read(fetch_head("user/head"))
    assert head.info.ind_labels[0] == description().ind_labels[0]
    assert head.info.threshold == 0.75
    for name, tensor in tensors(projection=True).items():
        found = head.tensors[name]
        assert found.dtype == np.float32
        exact = name.startswith("projection")
        assert np.array_equal(found, tensor if exact else tensor.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("prefix", ["", "hf://"])
def test_only_the_two_files_of_a_head_are_fetched(hub: Hub, commit: str, prefix: str) -> None:
    hub.publish("user/head", {"../../evil": b"x", "evil.pkl": b"x", "config.json": b"{}"})
    folder = fetch_head(f"{prefix}user/head")
    assert sorted(path.name for path in folder.iterdir()) == ["head.json", "head.safetensors"]
    assert downloads(hub) == ["head.json", "head.safetensors"]


def test_it_is_fetched_once(hub: Hub, commit: str) -> None:
    first = fetch_head("user/head")
    assert fetch_head("user/head") == fetch_head(f"user/head@{commit}") == first
    assert downloads(hub) == ["head.json", "head.safetensors"]
    fetch_head("user/head", force=True)
    assert downloads(hub) == ["head.json", "head.safetensors"] * 2


def test_a_pinned_commit_needs_no_hub_once_it_is_here(hub: Hub, commit: str) -> None:
    fetch_head(f"user/head@{commit}")
    hub.requests.clear()
    fetch_head(f"user/head@{commit}")
    assert hub.requests == []


def test_offline_what_is_in_the_cache_is_used(hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    fetch_head("user/head")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert fetch_head("user/head").name == commit
    assert hub.requests == []
    with pytest.raises(HubError, match="user/other is not in the cache on this machine, and HF_HUB_OFFLINE is set"):
        fetch_head("user/other")


def test_a_pull_is_an_artifact_with_its_commit(elsewhere: Store, commit: str, files: Files) -> None:
    made = pull_head(elsewhere, "user/head")
    assert (made.kind, made.stage, made.status, made.reused) == ("head", "pull", "complete", False)
    assert made.settings == {"repository": "user/head", "commit": commit}
    assert made.notes["source"]["revision"] == "main"
    assert made.notes["method"] == "NegLabel"
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == {
        name: files[name] for name in ("head.json", "head.safetensors")
    }
    assert elsewhere.models(made)["clip"].name == "org/clip"
    assert [row["text"] for row in elsewhere.rows(made, "labels")][:1] == ["cat"]
    assert elsewhere.newest("head") == made


def test_the_same_commit_is_the_same_artifact_and_a_new_one_another(
    hub: Hub, elsewhere: Store, store: Store, head: Artifact, commit: str
) -> None:
    first = pull_head(elsewhere, "user/head")
    assert pull_head(elsewhere, f"hf://user/head@{commit}").reused
    hub.publish("user/head", files_of(store, head, license="mit"))
    second = pull_head(elsewhere, "user/head")
    assert (first.name, second.name, second.reused) == ("head@1", "head@2", False)
    assert pull_head(elsewhere, f"user/head@{commit}").name == "head@1"


def test_a_head_option_takes_names_and_addresses(elsewhere: Store, commit: str) -> None:
    with pytest.raises(UsageError, match="user/head is not in this workspace yet") as caught:
        resolve_head(elsewhere, "user/head", dry_run=True)
    assert caught.value.hint == "synood pull user/head"
    made = resolve_head(elsewhere, "user/head")
    assert resolve_head(elsewhere, "user/head", dry_run=True).name == made.name
    assert resolve_head(elsewhere, None).name == resolve_head(elsewhere, "head@1").name == made.name


def test_a_folder_is_as_good_as_a_repository(elsewhere: Store, files: Files, tmp_path: Path) -> None:
    folder = write_files(tmp_path / "given", files)
    assert fetch_head(f"{folder}") == folder
    made = pull_head(elsewhere, str(folder))
    assert made.settings == {}
    assert made.notes["source"] == {"folder": str(folder)}
    moved = folder.rename(tmp_path / "moved")
    assert pull_head(elsewhere, f"{moved}/").reused
    with pytest.raises(UsageError, match="there is no folder"):
        pull_head(elsewhere, str(folder))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("user/nothing", "the hub has no repository user/nothing that you may read"),
        ("user/secret", "the hub has no repository user/secret that you may read"),
        ("user/gated", "access to user/gated must be granted to you first"),
        ("user/head@v9", "user/head@v9: there is no such revision"),
        ("user/empty", "user/empty holds no head of synood"),
    ],
)
def test_what_the_hub_does_not_give(
    hub: Hub, commit: str, address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("user/secret", {}, private=True)
    hub.publish("user/gated", {}, gated=True)
    hub.publish("user/empty", {"README.md": b"x"})
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", os.devnull)
    with pytest.raises(HubError, match=message) as caught:
        fetch_head(address)
    assert caught.value.hint


def test_a_private_head_needs_the_right_token(hub: Hub, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish("user/secret", files, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match=r"user/secret: the hub refuses the token \(status 401\)"):
        fetch_head("user/secret")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert (fetch_head("user/secret") / "head.json").is_file()


def test_a_cut_download_is_resumed(hub: Hub, commit: str, files: Files) -> None:
    hub.cuts = 1
    folder = fetch_head("user/head")
    assert (folder / "head.json").read_bytes() == files["head.json"]
    half = len(files["head.json"]) // 2
    assert [asked.partition("bytes=")[2] for asked in hub.requests if "bytes=" in asked] == [f"{half}-"]


def test_a_download_that_is_always_cut_ends_with_a_message_and_the_next_one_works(hub: Hub, commit: str) -> None:
    hub.cuts = 3
    with pytest.raises(
        HubError, match=r"user/head cannot be fetched from the hub, .*: peer closed connection"
    ) as caught:
        fetch_head("user/head")
    assert "run the same command again" in (caught.value.hint or "")
    assert len(downloads(hub)) == 3
    assert (fetch_head("user/head") / "head.safetensors").is_file()


def test_a_slow_hub_is_waited_for_while_it_sends(hub: Hub, commit: str) -> None:
    hub.pause = 0.2
    started = time.monotonic()
    fetch_head("user/head")
    assert time.monotonic() - started > 0.4


def test_bytes_that_changed_on_the_way_are_refused(hub: Hub, commit: str, files: Files) -> None:
    content = bytearray(files["head.safetensors"])
    content[-1] ^= 1
    hub.swapped["head.safetensors"] = bytes(content)
    with pytest.raises(
        StoreError, match=r"head\.safetensors is not the file that head\.json was written for"
    ) as caught:
        fetch_head("user/head")
    assert "synood pull --force" in (caught.value.hint or "")
    hub.swapped.clear()
    assert fetch_head("user/head", force=True).name == commit


def clip_of_content(folder: Path) -> ModelSpec:
    digest = folder_digest(folder, "open_clip", sha256_file)
    return OPENAI.model_copy(update={"name": str(folder), "pretrained": None, "revision": digest})


def test_a_head_of_the_bundled_clip_needs_no_place(store: Store, elsewhere: Store, tmp_path: Path) -> None:
    head = put_head(store, model=clip_of_content(BUNDLED_CLIP))
    folder = write_files(tmp_path / "given", files_of(store, head))
    assert b"--clip" not in (folder / "README.md").read_bytes()
    made = pull_head(elsewhere, str(folder))
    assert (made.notes["clip"], made.notes["warnings"]) == (None, [])


def test_a_head_of_a_local_clip_asks_for_its_place(store: Store, elsewhere: Store, tmp_path: Path) -> None:
    clip = write_files(tmp_path / "clip", {"open_clip_config.json": b"{}"})
    folder = write_files(tmp_path / "given", files_of(store, put_head(store, model=clip_of_content(clip))))
    assert b"synood pull user/head --clip CLIP" in (folder / "README.md").read_bytes()
    made = pull_head(elsewhere, str(folder))
    assert made.notes["clip"] is None
    assert "which is not here: get that folder from the head's author" in made.notes["warnings"][0]
    other = write_files(tmp_path / "other", {"open_clip_config.json": b"[]"})
    with pytest.raises(ModelError, match="other is not the CLIP that this head was made with"):
        pull_head(elsewhere, str(folder), clip=other)
    told = pull_head(elsewhere, str(folder), clip=clip)
    assert (told.name, told.reused, told.notes["clip"], told.notes["warnings"]) == (made.name, True, str(clip), [])


def test_a_head_that_names_its_clip_takes_no_other(elsewhere: Store, commit: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this head finds its CLIP, org/clip, by its name"):
        pull_head(elsewhere, "user/head", clip=tmp_path)


def test_the_identity_of_a_pull_pins_both_files(elsewhere: Store, commit: str, files: Files) -> None:
    made = pull_head(elsewhere, "user/head")
    recorded = dict(elsewhere.db.execute("select path, sha256 from files where artifact_id = ?", [made.id]).fetchall())
    assert recorded == {name: hashlib.sha256(files[name]).hexdigest() for name in ("head.json", "head.safetensors")}
