"""From specs to models: adapters by name, and every way in which a model cannot be loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from checkpoints import Checkpoints
from synood_cli.errors import ModelError, UsageError
from synood_cli.models.build import build_captioner, build_classifier, build_encoder, build_inpainter
from synood_cli.models.clip_tags import ClipTags
from synood_cli.models.hub_files import hub_id
from synood_cli.models.loading import choose_device, folder_kind
from synood_cli.models.openai_server import OpenAiServerCaptioner
from synood_cli.models.protocols import Captioner, ImageTextEncoder
from synood_cli.models.transformers_captioner import TransformersCaptioner
from synood_cli.records import ModelSpec


def captioner(spec: ModelSpec, encoder: ImageTextEncoder | None = None) -> Captioner:
    return build_captioner(
        spec,
        "cpu",
        "fp32",
        instruction="list all but the {class_name}",
        max_new_tokens=4,
        concurrency=2,
        timeout=1.0,
        attempts=1,
        backoff=0.1,
        key_env=None,
        encoder=encoder,
        vocabulary=["sky", "sand", "sea"],
        tag_template="a photo of {}",
        top=2,
        z_score=0.5,
        class_similarity=0.9,
    )


ROLES = {
    "open_clip": lambda spec: build_encoder(spec, "cpu", "fp32"),
    "diffusers": lambda spec: build_inpainter(spec, "cpu", "fp32"),
    "timm": lambda spec: build_classifier(spec, "cpu", "fp32"),
    "transformers": captioner,
}


def test_each_captioner_gets_the_settings_it_knows(checkpoints: Checkpoints) -> None:
    llava = captioner(ModelSpec(adapter="transformers", name=str(checkpoints.captioner)))
    assert isinstance(llava, TransformersCaptioner)
    assert (llava.instruction, llava.max_new_tokens) == ("list all but the {class_name}", 4)
    server = captioner(ModelSpec(adapter="openai-server", name="llava", url="localhost:1"))
    assert isinstance(server, OpenAiServerCaptioner)
    assert (server.concurrency, server.attempts, server.backoff, server.max_new_tokens) == (2, 1, 0.1, 4)
    encoder = build_encoder(ModelSpec(adapter="open_clip", name=str(checkpoints.clip)), "cpu", "fp32")
    tags = captioner(ModelSpec(adapter="clip-tags", name="clip-tags"), encoder)
    assert isinstance(tags, ClipTags)
    assert (tags.top, tags.z_score, tags.class_similarity, len(tags.vocabulary)) == (2, 0.5, 0.9, 3)
    with pytest.raises(UsageError, match="none was given"):
        captioner(ModelSpec(adapter="clip-tags", name="clip-tags"))


def test_an_adapter_of_another_role_is_a_usage_error_that_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no CLIP adapter named 'timm'") as refused:
        build_encoder(ModelSpec(adapter="timm", name="resnet50"), "cpu", "fp32")
    assert "open_clip" in str(refused.value.hint)
    with pytest.raises(UsageError, match="no captioner adapter named 'openai-sever'") as refused:
        captioner(ModelSpec(adapter="openai-sever", name="x"))
    assert "did you mean openai-server" in str(refused.value.hint)


@pytest.mark.parametrize("adapter", ROLES)
def test_a_missing_folder_is_named(adapter: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere does not exist") as refused:
        ROLES[adapter](ModelSpec(adapter=adapter, name=str(tmp_path / "nowhere")))
    assert "hub id" in str(refused.value.hint)


@pytest.mark.parametrize("adapter", ROLES)
def test_an_empty_folder_is_no_model(adapter: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"is no folder in {adapter}'s format"):
        ROLES[adapter](ModelSpec(adapter=adapter, name=str(tmp_path)))


@pytest.mark.parametrize("adapter", ROLES)
def test_a_file_is_no_folder(adapter: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="is a file, not a folder"):
        ROLES[adapter](ModelSpec(adapter=adapter, name=str(tmp_path / "model.safetensors")))


FOLDERS = {"clip": "open_clip", "inpainter": "diffusers", "captioner": "transformers", "classifier": "timm"}


@pytest.mark.parametrize("adapter", ROLES)
@pytest.mark.parametrize(("folder", "kind"), FOLDERS.items())
def test_a_folder_of_another_kind_is_recognised(checkpoints: Checkpoints, adapter: str, folder: str, kind: str) -> None:
    path = getattr(checkpoints, folder)
    assert folder_kind(path) == kind
    spec = ModelSpec(adapter=adapter, name=str(path))
    if adapter == kind:
        assert ROLES[adapter](spec).spec == spec
        return
    with pytest.raises(ModelError, match=f"{folder} is a folder in {kind}'s format") as refused:
        ROLES[adapter](spec)
    assert f"is loaded by {adapter}" in str(refused.value.hint)


@pytest.mark.parametrize("adapter", ROLES)
def test_a_folder_may_be_named_as_open_clip_and_timm_do(checkpoints: Checkpoints, adapter: str) -> None:
    (folder,) = (folder for folder, kind in FOLDERS.items() if kind == adapter)
    spec = ModelSpec(adapter=adapter, name=f"local-dir:{getattr(checkpoints, folder)}", revision="digest of the folder")
    assert ROLES[adapter](spec).spec == spec


def test_a_folder_that_lost_a_part_says_to_complete_it(checkpoints: Checkpoints, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text((checkpoints.inpainter / "model_index.json").read_text())
    with pytest.raises(ModelError, match="cannot load") as refused:
        build_inpainter(ModelSpec(adapter="diffusers", name=str(tmp_path)), "cpu", "fp32")
    assert "check that the folder is complete" in str(refused.value.hint)
    assert refused.value.__cause__ is not None


OFFLINE = """
from synood_cli.errors import HubError
from synood_cli.models.build import build_classifier, build_encoder, build_inpainter
from synood_cli.models.transformers_captioner import TransformersCaptioner
from synood_cli.records import ModelSpec

def captioner(spec, device, precision):
    return TransformersCaptioner(spec, device, precision, instruction="", max_new_tokens=1)

builders = [("open_clip", build_encoder), ("diffusers", build_inpainter), ("timm", build_classifier)]
for adapter, build in [*builders, ("transformers", captioner)]:
    try:
        build(ModelSpec(adapter=adapter, name="nobody/nothing"), "cpu", "fp32")
    except HubError as error:
        print(adapter, "nobody/nothing" in error.message, "hf download" in error.hint)
for adapter, name, build in (("timm", "resnet50.tv2_in1k", build_classifier), ("open_clip", "ViT-B-16", build_encoder)):
    try:
        build(ModelSpec(adapter=adapter, name=name, pretrained="openai"), "cpu", "fp32")
    except HubError as error:
        print(name, "HF_HUB_OFFLINE" in error.hint)
"""

QUIET = """
import sys
import torch
from synood_cli.models.build import build_classifier, build_encoder, build_inpainter
from synood_cli.models.transformers_captioner import TransformersCaptioner
from synood_cli.records import ModelSpec

def outputs(source, revision):
    def spec(adapter, name):
        return ModelSpec(adapter=adapter, name=source + name, revision=revision)

    inpainter = build_inpainter(spec("diffusers", "inpainter"), "cpu", "fp32")
    inpainter.count_tokens("sky " * 99)
    encoder = build_encoder(spec("open_clip", "clip"), "cpu", "fp32")
    classifier = build_classifier(spec("timm", "classifier"), "cpu", "fp32")
    spoken = {"instruction": "", "max_new_tokens": 1}
    captioner = TransformersCaptioner(spec("transformers", "captioner"), "cpu", "fp32", **spoken)
    prompts = inpainter.encode_prompts(["sky"])
    logits = classifier.logits(torch.ones(1, 3, 8, 8))
    return [*prompts, encoder.encode_texts(["cat"]), logits, *captioner._model.parameters()]

folder, hub = outputs(sys.argv[1] + "/", "digest"), outputs("org/", sys.argv[2])
print(all(torch.equal(a, b) for a, b in zip(folder, hub, strict=True)))
"""


def run_python(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`program` in a process of its own: what libraries print depends on what was imported before."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_hub_that_must_not_be_asked_is_an_error_that_says_what_to_try(tmp_path: Path) -> None:
    done = run_python(OFFLINE, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert done.stdout.splitlines() == [
        "open_clip True True",
        "diffusers True True",
        "timm True True",
        "transformers True True",
        "resnet50.tv2_in1k True",
        "ViT-B-16 True",
    ]
    assert done.stderr == ""


def test_hub_ids_load_at_their_commit_as_folders_do_and_nothing_is_printed(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    """The folders are put into a hub cache, at a commit that is not what the main branch means."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    for name, folder in checkpoints._asdict().items():
        shutil.copytree(folder, tmp_path / "hub" / f"models--org--{name}" / "snapshots" / commit)
    done = run_python(QUIET, str(checkpoints.clip.parent), commit, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/repository", "org/repository"),
        ("hf-hub:org/repository", "org/repository"),
        ("ViT-B-16", None),
        ("resnet50.tv2_in1k", None),
        ("./org/repository", None),
        ("../repository", None),
        ("/org", None),
        ("~/repository", None),
        ("local-dir:org/repository", None),
    ],
)
def test_hub_ids_are_told_from_folders_and_built_in_names(name: str, expected: str | None) -> None:
    assert hub_id(ModelSpec(adapter="timm", name=name)) == expected


def test_devices() -> None:
    assert choose_device("cpu") == "cpu"
    assert torch.device(choose_device("auto")).type in ("cpu", "cuda", "mps")
    with pytest.raises(UsageError, match="no device 'gpu'"):
        choose_device("gpu")
    with pytest.raises(UsageError, match="'cuda:99' is not available here"):
        choose_device("cuda:99")
    with pytest.raises(UsageError, match="'meta' is not available here"):
        choose_device("meta")
