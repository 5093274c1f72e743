"""A head and the CLIP that it belongs to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from published import WIDTH, description, files_of, write_files
from synood_cli.config import Models, TrainProjectionSettings
from synood_cli.errors import ModelError, UsageError
from synood_cli.hub.pull import pull_head
from synood_cli.models.revisions import folder_digest
from synood_cli.playground import BUNDLED_CLIP
from synood_cli.records import ModelSpec
from synood_cli.stages.heads import head_and_clip, head_clip, require_clip
from synood_cli.stages.run import Run
from synood_cli.stages.train_proj import train_projection
from synood_cli.store.files import sha256_file
from synood_cli.store.heads import HeadInfo
from synood_cli.store.store import Artifact, Store


def content(name: str, revision: str) -> ModelSpec:
    return ModelSpec(adapter="open_clip", name=name, revision=revision)


def test_the_bundled_clip_is_found_by_its_content() -> None:
    digest = folder_digest(BUNDLED_CLIP, "open_clip", sha256_file)
    spec = head_clip(description(model=content(f"sha256:{digest}", digest)), "head", sha256_file)
    assert spec == content(str(BUNDLED_CLIP), digest)


def test_a_clip_is_found_where_it_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("x")
    digest = folder_digest(tmp_path, "open_clip", sha256_file)
    info = description(model=content(f"sha256:{digest}", digest))
    assert head_clip(info, "head", sha256_file, [tmp_path]).folder == tmp_path
    (tmp_path / "model.safetensors").write_text("y")
    with pytest.raises(ModelError, match="which is not here"):
        head_clip(info, "head", sha256_file, [tmp_path])


def test_a_place_that_is_given_goes_before_all_others(tmp_path: Path) -> None:
    digest = folder_digest(BUNDLED_CLIP, "open_clip", sha256_file)
    shutil.copytree(BUNDLED_CLIP, tmp_path / "moved")
    (tmp_path / "other").mkdir()
    for name in (f"sha256:{digest}", str(BUNDLED_CLIP)):
        info = description(model=content(name, digest))
        assert head_clip(info, "head", sha256_file, given=tmp_path / "moved").folder == tmp_path / "moved"
        with pytest.raises(ModelError, match=r"head was made with another version of the CLIP .*other"):
            head_clip(info, "head", sha256_file, [BUNDLED_CLIP], given=tmp_path / "other")
        with pytest.raises(UsageError, match=r"there is no CLIP at .*nowhere"):
            head_clip(info, "head", sha256_file, given=tmp_path / "nowhere")


def test_a_checkpoint_file_that_is_given_is_the_weights_of_the_named_architecture(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).write_text(name)
    digest = sha256_file(tmp_path / "mine")
    model = ModelSpec(adapter="open_clip", name="ViT-B-16", pretrained=f"sha256:{digest}", revision=digest)
    spec = head_clip(description(model=model), "head", sha256_file, given=tmp_path / "mine")
    assert (spec.name, spec.pretrained) == ("ViT-B-16", str(tmp_path / "mine"))
    with pytest.raises(ModelError, match="another version of the CLIP"):
        head_clip(description(model=model), "head", sha256_file, given=tmp_path / "other")


def test_a_folder_that_is_gone_is_looked_for_by_its_content(tmp_path: Path) -> None:
    digest = folder_digest(BUNDLED_CLIP, "open_clip", sha256_file)
    gone = description(model=content(str(tmp_path / "gone"), digest))
    assert head_clip(gone, "head", sha256_file).folder == BUNDLED_CLIP
    with pytest.raises(ModelError, match="which is not here"):
        head_clip(description(model=content(str(tmp_path / "gone"), "0" * 64)), "head", sha256_file)


def facts(**changed: Any) -> dict[str, Any]:
    return {
        **{"quick_gelu": True, "width": WIDTH, "logit_scale": 100.00001},
        "preprocessing": {"size": (224, 224), "new": 1},
        **changed,
    }


def test_a_clip_must_be_run_as_the_head_says() -> None:
    require_clip(description(), "head@1", facts())
    others = {"quick_gelu": False, "width": 512, "logit_scale": 20.0, "preprocessing": {"size": (64, 64)}}
    for name, value in others.items():
        with pytest.raises(ModelError, match=f"head@1 was made with a CLIP whose {name}"):
            require_clip(description(), "head@1", facts(**{name: value}))


def test_what_a_head_says_of_its_clip_is_cut_and_printable_in_messages() -> None:
    clip = description().clip.model_copy(
        update={"preprocessing": {"size": list(range(10**5)), "mode": "\x1b[2J" * 100}}
    )
    for key in ("size", "mode"):
        head = description(clip=clip.model_copy(update={"preprocessing": {key: clip.preprocessing[key]}}))
        with pytest.raises(ModelError, match=f"preprocessing {key} is ") as refused:
            require_clip(head, "head@1", facts(preprocessing={"size": [64], "mode": "RGB"}))
        assert len(refused.value.message) < 300
        assert refused.value.message.isprintable()


def test_what_is_made_of_a_published_head_is_not_published(
    store: Store, make_run: Callable[..., Run], head: Artifact, synthetic: Artifact, models: Models, tmp_path: Path
) -> None:
    folder = write_files(tmp_path / "given", files_of(store, head))
    pulled = pull_head(store, str(folder), clip=Path(models.clip))
    with pytest.raises(UsageError, match="was made elsewhere") as refused:
        train_projection(make_run(), TrainProjectionSettings(epochs=1, images="ind"), pulled, None)
    assert "--images both" in (refused.value.hint or "")
    trained = train_projection(make_run(), TrainProjectionSettings(epochs=1), pulled, synthetic)
    assert HeadInfo.read(pulled.folder).publication is not None
    assert HeadInfo.read(trained.folder).publication is None
    lineage = json.loads(files_of(store, trained)["head.json"])["publication"]["lineage"]
    assert [(made["artifact"], made["stage"]) for made in lineage[:2]] == [("head@3", "train-proj"), ("head@2", "pull")]
    # Its CLIP is named by content, and found where the pull was told.
    assert HeadInfo.read(trained.folder).clip.model.name.startswith("sha256:")
    assert head_and_clip(make_run(), trained)[1].folder == Path(models.clip)
