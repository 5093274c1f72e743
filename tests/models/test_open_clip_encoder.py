"""OpenClipEncoder against open_clip used directly."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from checkpoints import CLIP_MODEL, Checkpoints, tiny_clip
from hub_server import Hub
from synood_cli.errors import ModelError
from synood_cli.models.build import build_encoder
from synood_cli.models.checkpoint_file import activation_note
from synood_cli.models.open_clip_encoder import TEXT_BATCH, OpenClipEncoder, _published
from synood_cli.records import ModelSpec


def pictures(count: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 40, 60, 3), dtype=np.uint8)
    return [Image.fromarray(picture) for picture in pixels]


@pytest.fixture(scope="module")
def encoder(checkpoints: Checkpoints) -> OpenClipEncoder:
    built = build_encoder(ModelSpec(adapter="open_clip", name=str(checkpoints.clip)), "cpu", "fp32")
    assert isinstance(built, OpenClipEncoder)
    return built


def test_features_are_open_clips_own(encoder: OpenClipEncoder, checkpoints: Checkpoints) -> None:
    source = f"local-dir:{checkpoints.clip}"
    model, transform = open_clip.create_model_from_pretrained(source)
    tokenizer = open_clip.get_tokenizer(source)
    images, texts = pictures(3), ["a nice cat", "the nice dog", "This is a blue photo"]
    with torch.no_grad():
        image_features = model.eval().encode_image(torch.stack([transform(image) for image in images]))
        text_features = model.encode_text(tokenizer(texts))
    prepared = torch.stack([encoder.prepare(image) for image in images])
    torch.testing.assert_close(encoder.encode_images(prepared), image_features)
    torch.testing.assert_close(encoder.encode_texts(texts), text_features)


def test_features_are_not_normalised(encoder: OpenClipEncoder) -> None:
    images = encoder.encode_images(torch.stack([encoder.prepare(image) for image in pictures(2)]))
    texts = encoder.encode_texts(["cat", "dog"])
    assert (images.norm(dim=1) > 2).all()
    assert ((texts.norm(dim=1) - 1).abs() > 0.1).all()
    assert images.shape[1] == texts.shape[1] == encoder.width == 32


def test_texts_are_batched_without_a_trace(encoder: OpenClipEncoder) -> None:
    texts = [f"label {i}" for i in range(TEXT_BATCH + 3)]
    features = encoder.encode_texts(texts)
    assert features.shape == (TEXT_BATCH + 3, 32)
    torch.testing.assert_close(features[-3:], encoder.encode_texts(texts[-3:]))
    assert encoder.encode_texts([]).shape == (0, 32)


def test_facts_that_a_head_records(encoder: OpenClipEncoder) -> None:
    assert encoder.logit_scale == pytest.approx(100, rel=1e-6)
    assert encoder.quick_gelu is True
    facts = encoder.preprocessing
    assert (facts["size"], facts["interpolation"], facts["resize_mode"]) == ((32, 32), "bicubic", "shortest")
    assert facts["mean"] == (0.48145466, 0.4578275, 0.40821073)


def test_prepare_is_the_same_from_many_threads(encoder: OpenClipEncoder) -> None:
    images = pictures(16)
    expected = [encoder.prepare(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(encoder.prepare, images))
    assert all(torch.equal(a, b) for a, b in zip(expected, threaded, strict=True))


def test_quick_gelu_of_the_folder_decides_the_activation(tmp_path: Path, checkpoints: Checkpoints) -> None:
    folder = tiny_clip(tmp_path / "gelu")
    config = {"model_cfg": {**CLIP_MODEL, "quick_gelu": False}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    plain = build_encoder(ModelSpec(adapter="open_clip", name=str(folder)), "cpu", "fp32")
    quick = build_encoder(ModelSpec(adapter="open_clip", name=str(checkpoints.clip)), "cpu", "fp32")
    assert plain.quick_gelu is False
    assert (plain.encode_texts(["cat"]) - quick.encode_texts(["cat"])).abs().max() > 1e-4


@pytest.mark.parametrize(("tag", "quick_gelu"), [("openai", True), ("laion2b_s34b_b88k", False)])
def test_a_weight_tag_brings_its_own_activation(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str, quick_gelu: bool
) -> None:
    """The tag's weights are in the repository that open_clip names for it."""
    model = "ViT-B-16"
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, model, {**CLIP_MODEL, "quick_gelu": False})
    weights = (tiny_clip(tmp_path / "clip") / "open_clip_model.safetensors").read_bytes()
    repository = open_clip.get_pretrained_cfg(model, tag)["hf_hub"].strip("/")
    hub.publish(repository, {"open_clip_model.safetensors": weights, "open_clip_pytorch_model.bin": b"pickle"})
    encoder = build_encoder(ModelSpec(adapter="open_clip", name=model, pretrained=tag), "cpu", "fp32")
    assert encoder.quick_gelu is quick_gelu
    assert isinstance(encoder, OpenClipEncoder)
    activation = encoder.image_tower.transformer.resblocks[0].mlp.gelu
    assert type(activation).__name__ == ("QuickGELU" if quick_gelu else "GELU")
    assert not [asked for asked in hub.requests if ".bin" in asked]


def test_a_weight_tag_without_safetensors_is_refused(hub: Hub) -> None:
    repository = open_clip.get_pretrained_cfg("ViT-B-16", "openai")["hf_hub"].strip("/")
    hub.publish(repository, {"open_clip_pytorch_model.bin": b"pickle"})
    with pytest.raises(ModelError, match="publishes no safetensors") as refused:
        build_encoder(ModelSpec(adapter="open_clip", name="ViT-B-16", pretrained="openai"), "cpu", "fp32")
    assert "--pretrained FILE" in str(refused.value.hint)
    assert not [asked for asked in hub.requests if ".bin" in asked]


def test_only_the_image_tower_is_built_until_a_text_comes(checkpoints: Checkpoints) -> None:
    encoder = build_encoder(ModelSpec(adapter="open_clip", name=str(checkpoints.clip)), "cpu", "fp32")
    assert isinstance(encoder, OpenClipEncoder)
    prepared = torch.stack([encoder.prepare(image) for image in pictures(2)])
    before = encoder.encode_images(prepared)
    assert encoder._model is None
    encoder.encode_texts(["cat"])
    assert torch.equal(encoder.encode_images(prepared), before)
    assert encoder.parameters == sum(parameter.numel() for parameter in encoder._model.parameters())


def test_a_checkpoint_file_goes_with_a_built_in_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", CLIP_MODEL)
    torch.manual_seed(0)
    weights = tmp_path / "weights.pt"
    model = open_clip.CLIP(**CLIP_MODEL)
    torch.save(model.state_dict(), weights)
    encoder = build_encoder(ModelSpec(adapter="open_clip", name="tiny", pretrained=str(weights)), "cpu", "fp32")
    with torch.no_grad():
        expected = model.eval().encode_text(open_clip.get_tokenizer("tiny")(["cat"]))
    torch.testing.assert_close(encoder.encode_texts(["cat"]), expected)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_stays_near_and_answers_in_float32(
    encoder: OpenClipEncoder, checkpoints: Checkpoints, precision: str
) -> None:
    low = build_encoder(ModelSpec(adapter="open_clip", name=str(checkpoints.clip)), "cpu", precision)
    prepared = torch.stack([encoder.prepare(image) for image in pictures(2)])
    features, reference = low.encode_images(prepared), encoder.encode_images(prepared)
    assert features.dtype == low.encode_texts(["cat"]).dtype == torch.float32
    assert 0 < (features - reference).abs().max() < 0.2
    assert (low.encode_texts(["cat"]) - encoder.encode_texts(["cat"])).abs().max() < 0.2


def test_a_folder_without_weights_is_an_error_never_random_features(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "clip")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        build_encoder(ModelSpec(adapter="open_clip", name=str(folder)), "cpu", "fp32")


def test_a_built_in_name_without_weights_is_an_error_that_lists_tags() -> None:
    with pytest.raises(ModelError, match="'ViT-B-16' needs a weight tag") as refused:
        build_encoder(ModelSpec(adapter="open_clip", name="ViT-B-16"), "cpu", "fp32")
    assert "openai" in str(refused.value.hint)


def test_a_built_in_tag_has_no_other_revision() -> None:
    spec = ModelSpec(adapter="open_clip", name="ViT-B-16", pretrained="openai", revision="0123abc")
    with pytest.raises(ModelError, match="has no revisions"):
        build_encoder(spec, "cpu", "fp32")


def test_unknown_name_and_tag_are_errors() -> None:
    with pytest.raises(ModelError, match="no model named 'ViT-Z-9'"):
        build_encoder(ModelSpec(adapter="open_clip", name="ViT-Z-9", pretrained="openai"), "cpu", "fp32")
    with pytest.raises(ModelError, match="'nonesuch' is not a known tag"):
        build_encoder(ModelSpec(adapter="open_clip", name="ViT-B-16", pretrained="nonesuch"), "cpu", "fp32")


def test_a_truncated_checkpoint_is_an_error(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "clip")
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="safetensors is damaged") as refused:
        build_encoder(ModelSpec(adapter="open_clip", name=str(folder)), "cpu", "fp32")
    assert "complete" in str(refused.value.hint)


def test_the_memory_that_preparing_takes_grows_with_thin_images(encoder: OpenClipEncoder) -> None:
    side = encoder.prepare(Image.new("RGB", (40, 30))).shape[-1]
    assert encoder.prepared_bytes(side, side) < 4 * (side + 2) * 2 * (side + 2)
    assert encoder.prepared_bytes(1, 100_000) > 4 * side * side * 100_000
    assert encoder.prepared_bytes(100_000, 1) > 4 * side * side * 100_000
    assert encoder.prepared_bytes(4000, 3000) < 4 * 4000 * 3000  # scaled down: less than the image itself


@pytest.mark.filterwarnings("ignore:`?torch.jit")
def test_a_torchscript_archive_is_refused_and_says_how_to_go_on(tmp_path: Path) -> None:
    archive = tmp_path / "ViT-B-16.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(archive)
    spec = ModelSpec(adapter="open_clip", name="ViT-B-16-quickgelu", pretrained=str(archive))
    with pytest.raises(ModelError, match=r"ViT-B-16\.pt is a TorchScript archive") as refused:
        build_encoder(spec, "cpu", "fp32")
    assert "--clip ViT-B-16 --pretrained openai" in str(refused.value.hint)
    assert "torch.jit.load(FILE, map_location='cpu').state_dict()" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("ViT-B-16", r"ViT-B-16 runs it with GELU; .* need --clip ViT-B-16-quickgelu$"),
        ("ViT-B-16-quickgelu", r"ViT-B-16-quickgelu runs it with QuickGELU; .* need --clip ViT-B-16$"),
        ("ViT-B-16-SigLIP", None),
    ],
)
def test_a_checkpoint_file_does_not_say_its_activation(tmp_path: Path, model: str, expected: str | None) -> None:
    weights = tmp_path / "weights.pt"
    weights.touch()
    note = activation_note(model, str(weights))
    assert note is None if expected is None else re.search(expected, str(note))
    assert activation_note(model, "openai") is None


@pytest.mark.parametrize("name", ["roberta-base", "xlm-roberta-large", "bert-base-uncased"])
def test_text_models_of_old_names_are_fetched_from_where_they_went(name: str) -> None:
    found = _published(name).name.removeprefix("hf-hub:")
    assert found.count("/") == 1
    assert found.endswith(f"/{name}")
