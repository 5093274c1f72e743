"""Which version of a model is meant: folders by content, hub ids by commit, never by the network's grace."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from checkpoints import Checkpoints
from synood_cli.errors import ModelError
from synood_cli.models.revisions import by_content, folder_digest, hub_commit, located, resolve_revision
from synood_cli.records import ModelSpec

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put(cache: Path, repository: str, branch: str, commit: str) -> None:
    reference = cache / f"models--{repository.replace('/', '--')}" / "refs" / branch
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit)


def revision(adapter: str, name: str, **fields: str) -> str | None:
    return resolve_revision(ModelSpec(adapter=adapter, name=name, **fields), digest).revision


def test_a_folders_revision_is_its_content_wherever_it_lies(checkpoints: Checkpoints, tmp_path: Path) -> None:
    here = revision("open_clip", str(checkpoints.clip))
    shutil.copytree(checkpoints.clip, tmp_path / "moved")
    assert revision("open_clip", str(tmp_path / "moved")) == here
    assert revision("open_clip", f"local-dir:{tmp_path / 'moved'}") == here
    config = tmp_path / "moved" / "open_clip_config.json"
    config.write_text(config.read_text() + " ")
    assert revision("open_clip", str(tmp_path / "moved")) != here
    assert len(str(here)) == 64


def test_the_digest_of_a_folder_is_that_of_its_model_files(tmp_path: Path) -> None:
    ours = ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors")
    others = ("notes.txt", "README.md", ".hidden", ".cache/config.json", "logs/config.json", "model.bin", "unet/x.log")
    for name in (*ours, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    os.mkfifo(tmp_path / "unet" / "pipe.safetensors")
    lines = [f"{name}\0{hashlib.sha256(name.encode()).hexdigest()}\n" for name in ours]
    assert folder_digest(tmp_path, "diffusers", digest) == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert folder_digest(tmp_path, "timm", digest) == hashlib.sha256().hexdigest()


def test_renaming_a_file_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("x")
    before = folder_digest(tmp_path, "timm", digest)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    assert folder_digest(tmp_path, "timm", digest) != before


def test_links_into_a_hub_cache_are_read_through(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("x")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "model.safetensors").symlink_to(tmp_path / "blob")
    (tmp_path / "copied").mkdir()
    (tmp_path / "copied" / "model.safetensors").write_text("x")
    assert folder_digest(tmp_path / "linked", "timm", digest) == folder_digest(tmp_path / "copied", "timm", digest)


def test_a_hub_ids_branch_becomes_the_cached_commit(cache: Path) -> None:
    put(cache, "org/repository", "main", COMMIT)
    put(cache, "org/repository", "v2", COMMIT[::-1])
    for name in ("org/repository", "hf-hub:org/repository"):
        assert revision("diffusers", name) == COMMIT
        assert revision("diffusers", name, revision="v2") == COMMIT[::-1]


def test_a_commit_stays_a_commit(cache: Path) -> None:
    put(cache, "org/repository", "main", COMMIT[::-1])
    assert revision("transformers", "org/repository", revision=COMMIT) == COMMIT


def test_offline_and_uncached_stays_as_given(cache: Path) -> None:
    assert revision("diffusers", "org/repository") is None
    assert revision("diffusers", "org/repository", revision="v2") == "v2"
    assert revision("diffusers", "not a hub id") is None
    assert revision("diffusers", "./no/such/folder") is None
    assert revision("diffusers", "local-dir:none") is None


def test_a_hub_that_does_not_answer_costs_little_and_fails_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    started = time.perf_counter()
    assert hub_commit("org/repository", None) is None
    assert time.perf_counter() - started < 10


def test_built_in_names_have_their_tag_unless_the_hub_says_more(cache: Path, tmp_path: Path) -> None:
    assert revision("timm", "resnet50.tv2_in1k") == "tv2_in1k"
    assert revision("timm", "resnet50") is None
    assert revision("open_clip", "ViT-B-16", pretrained="openai") == "openai"
    put(cache, "timm/resnet50.tv2_in1k", "main", COMMIT)
    assert revision("timm", "resnet50.tv2_in1k") == COMMIT
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"weights")
    assert revision("open_clip", "ViT-B-16", pretrained=str(weights)) == digest(weights)


def test_resolving_twice_changes_nothing(cache: Path, checkpoints: Checkpoints) -> None:
    put(cache, "org/repository", "main", COMMIT)
    for spec in (
        ModelSpec(adapter="diffusers", name="org/repository"),
        ModelSpec(adapter="diffusers", name=str(checkpoints.inpainter)),
        ModelSpec(adapter="timm", name="resnet50.tv2_in1k"),
        ModelSpec(adapter="open_clip", name="ViT-B-16", pretrained="openai"),
    ):
        once = resolve_revision(spec, digest)
        assert resolve_revision(once, digest) == once


def test_what_has_no_weights_of_its_own_keeps_the_revision_it_is_given(cache: Path) -> None:
    put(cache, "org/repository", "main", COMMIT)
    assert revision("openai-server", "org/repository", url="http://localhost") is None
    assert revision("clip-tags", "org/repository", revision="v1") == "v1"


def test_no_model_library_is_imported(checkpoints: Checkpoints) -> None:
    program = (
        "import sys; from pathlib import Path; from synood_cli.records import ModelSpec\n"
        "from synood_cli.models.revisions import resolve_revision\n"
        "for adapter, name in (('diffusers', sys.argv[1]), ('timm', 'resnet50.tv2_in1k'), ('transformers', 'a/b')):\n"
        "    resolve_revision(ModelSpec(adapter=adapter, name=name), lambda path: str(path.stat().st_size))\n"
        "print([m for m in ('torch', 'numpy', 'transformers', 'diffusers', 'timm', 'open_clip') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(checkpoints.inpainter)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def local(name: str, **fields: str | None) -> ModelSpec:
    return ModelSpec(adapter="open_clip", name=name, **{"revision": "ab" * 32, **fields})


def test_local_weights_are_named_by_their_content_and_others_by_their_names(tmp_path: Path) -> None:
    digest = f"sha256:{'ab' * 32}"
    assert by_content(local(str(tmp_path))).name == digest
    assert by_content(local("/gone/clip")).name == digest
    assert by_content(local(f"local-dir:{tmp_path}")).name == digest
    weights = by_content(local("ViT-B-16", pretrained="/gone/clip.pt"))
    assert (weights.name, weights.pretrained) == ("ViT-B-16", digest)
    for spec in (local("ViT-B-16", pretrained="openai"), local("org/clip", revision=COMMIT)):
        assert by_content(spec) == spec
    server = ModelSpec(adapter="openai-server", name="llava", url="http://inside/v1")
    assert by_content(server) == ModelSpec(adapter="openai-server", name="llava")
    assert by_content(local("/gone/clip", revision=None)).name == "sha256:unknown"


def test_what_is_named_by_content_is_found_by_it(checkpoints: Checkpoints, tmp_path: Path) -> None:
    here = resolve_revision(ModelSpec(adapter="open_clip", name=str(checkpoints.clip)), digest)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    places = [tmp_path / "gone", tmp_path / "file", tmp_path / "empty", checkpoints.clip]
    assert located(by_content(here), places, digest) == here
    assert located(here, [], digest) is here
    with pytest.raises(ModelError, match=r"a CLIP in a local folder with the digest .{12}…, which is not here"):
        located(by_content(here), places[:-1], digest)
    weights = local("ViT-B-16", pretrained=str(tmp_path / "file"), revision=digest(tmp_path / "file"))
    assert located(by_content(weights), places, digest) == weights
    with pytest.raises(ModelError, match="a CLIP in a local checkpoint file"):
        located(by_content(weights), places[2:], digest)


@pytest.mark.parametrize(("name", "limit"), [("model.safetensors", 64 * 2**30), ("config.json", 64 * 2**20)])
def test_a_file_that_is_larger_than_any_models_is_not_hashed(tmp_path: Path, name: str, limit: int) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(limit + 1)  # sparse
    with pytest.raises(ModelError, match=f"has {limit + 1:,} bytes"):
        folder_digest(tmp_path, "timm", lambda path: pytest.fail(f"{path} was read"))
