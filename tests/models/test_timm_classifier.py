"""TimmClassifier against timm used directly, and its resize."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn.functional import interpolate

from checkpoints import Checkpoints, tiny_classifier, write_classifier
from hostile import fetched
from hub_server import Hub
from synood_cli.data.images import MAX_PREPARED_BYTES, PREPARED_BYTES_PER_PIXEL
from synood_cli.errors import ModelError
from synood_cli.models.build import build_classifier
from synood_cli.models.timm_classifier import TimmClassifier
from synood_cli.records import ModelSpec


@pytest.fixture(scope="module")
def classifier(checkpoints: Checkpoints) -> TimmClassifier:
    built = build_classifier(ModelSpec(adapter="timm", name=str(checkpoints.classifier)), "cpu", "fp32")
    assert isinstance(built, TimmClassifier)
    return built


def pixels(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_logits_at_native_size_are_timms_own(classifier: TimmClassifier, checkpoints: Checkpoints) -> None:
    model = timm.create_model(f"local-dir:{checkpoints.classifier}", pretrained=True).eval()
    images = pixels(2, 64, 64)
    with torch.no_grad():
        expected = model((images - 0.5) / 0.5)
    torch.testing.assert_close(classifier.logits(images), expected, rtol=0, atol=1e-6)
    assert (expected[0] - expected[1]).abs().max() > 1e-4


def test_class_names_come_in_logit_order(classifier: TimmClassifier, tmp_path: Path) -> None:
    assert (classifier.num_classes, classifier.class_names) == (3, ["cat", "dog", "frog"])
    other = tiny_classifier(tmp_path / "other", ["zebra", "ant"])
    built = build_classifier(ModelSpec(adapter="timm", name=str(other)), "cpu", "fp32")
    assert (built.num_classes, built.class_names) == (2, ["zebra", "ant"])


def test_a_checkpoint_without_label_names_has_none(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "unnamed")
    config = json.loads((folder / "config.json").read_text())
    del config["label_names"]
    (folder / "config.json").write_text(json.dumps(config))
    assert build_classifier(ModelSpec(adapter="timm", name=str(folder)), "cpu", "fp32").class_names is None


@pytest.mark.parametrize(
    ("tag", "classes", "is_imagenet"),
    [
        ("tv2_in1k", 1000, True),
        ("sail_in1k_384", 1000, True),
        ("tv2_in1k", 999, False),
        ("fb_in22k", 1000, False),
        (None, 1000, False),
    ],
)
def test_weights_of_imagenet_1k_have_its_classes(
    tmp_path: Path, tag: str | None, classes: int, is_imagenet: bool
) -> None:
    write_classifier(tmp_path, "test_resnet", None, num_classes=classes)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"]["tag"] = tag
    (tmp_path / "config.json").write_text(json.dumps(config))
    built = build_classifier(ModelSpec(adapter="timm", name=str(tmp_path)), "cpu", "fp32")
    if not is_imagenet:
        assert (built.class_names, built.class_aliases) == (None, None)
        return
    assert built.class_names is not None
    assert built.class_aliases is not None
    assert built.class_names == sorted(built.class_names)
    assert (len(built.class_names), len(built.class_aliases), built.class_names[0]) == (1000, 1000, "n01440764")
    assert built.class_aliases[0] == {"n01440764", "tench, Tinca tinca", "tench", "Tinca tinca"}
    assert {"n15075141", "toilet tissue", "toilet paper", "bathroom tissue"} < built.class_aliases[999]


def test_label_names_are_the_only_aliases(classifier: TimmClassifier) -> None:
    assert classifier.class_aliases == [{"cat"}, {"dog"}, {"frog"}]


def test_label_names_of_another_number_are_refused(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "wrong")
    config = json.loads((folder / "config.json").read_text())
    config["label_names"] = ["cat"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="3 logits but 1 label names"):
        build_classifier(ModelSpec(adapter="timm", name=str(folder)), "cpu", "fp32")


def test_any_size_is_resized_whole_and_antialiased(classifier: TimmClassifier) -> None:
    """A checkerboard of single pixels averages to grey: aliasing would keep black or white."""
    checkerboard = (torch.arange(256)[:, None] + torch.arange(256)).remainder(2).float().expand(1, 3, 256, 256)
    grey = torch.full((1, 3, 64, 64), 0.5)
    torch.testing.assert_close(classifier.logits(checkerboard), classifier.logits(grey), rtol=0, atol=2e-3)
    images = pixels(2, 100, 30)
    squashed = interpolate(images, (64, 64), mode="bilinear", antialias=True)
    torch.testing.assert_close(classifier.logits(images), classifier.logits(squashed), rtol=0, atol=1e-6)


def test_the_evaluation_size_is_used_not_the_training_size(tmp_path: Path, classifier: TimmClassifier) -> None:
    folder = tiny_classifier(tmp_path / "sizes")
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["input_size"] = [3, 32, 32]
    (folder / "config.json").write_text(json.dumps(config))
    built = build_classifier(ModelSpec(adapter="timm", name=str(folder)), "cpu", "fp32")
    images = pixels(1, 64, 64)
    torch.testing.assert_close(built.logits(images), classifier.logits(images))


def test_gradient_matches_finite_differences_and_reaches_every_pixel(classifier: TimmClassifier) -> None:
    images = pixels(1, 90, 70).requires_grad_()
    classifier.logits(images).logsumexp(dim=1).sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(dim=1) > 0).float().mean() > 0.99
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    step = 1e-4
    with torch.no_grad():
        up, down = (classifier.logits(images + sign * step * direction).double().logsumexp(1) for sign in (1, -1))
    expected = ((up - down) / (2 * step)).item()
    assert (images.grad * direction).sum().item() == pytest.approx(expected, rel=5e-2)


def test_an_image_has_the_same_logits_in_any_batch(classifier: TimmClassifier) -> None:
    images = pixels(4, 64, 64)
    together = classifier.logits(images)
    alone = torch.cat([classifier.logits(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in classifier._model.parameters())


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float32)])
def test_logits_are_float32_whatever_the_precision(
    classifier: TimmClassifier, checkpoints: Checkpoints, precision: str, dtype: torch.dtype
) -> None:
    low = build_classifier(ModelSpec(adapter="timm", name=str(checkpoints.classifier)), "cpu", precision)
    assert isinstance(low, TimmClassifier)
    assert low.dtype == dtype
    logits = low.logits(pixels(1, 64, 64))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, classifier.logits(pixels(1, 64, 64)), rtol=0, atol=2e-2)


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        build_classifier(ModelSpec(adapter="timm", name=str(folder)), "cpu", "fp32")


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(ModelError, match=r"no model named 'resnet5\.tv2_in1k'") as refused:
        build_classifier(ModelSpec(adapter="timm", name="resnet5.tv2_in1k"), "cpu", "fp32")
    assert "resnet50" in str(refused.value.hint)


@pytest.mark.parametrize(("revision", "pinned"), [(None, False), ("r160_in1k", False), ("commit", True)])
def test_a_built_in_name_loads_the_safetensors_of_timms_repository(
    hub: Hub, tmp_path: Path, revision: str | None, pinned: bool
) -> None:
    write_classifier(tmp_path / "made", "test_resnet", None, num_classes=1000)
    files = {name: (tmp_path / "made" / name).read_bytes() for name in ("config.json", "model.safetensors")}
    name = "test_resnet.r160_in1k"
    first = hub.publish(f"timm/{name}", {**files, "pytorch_model.bin": b"pickle", "evil.py": b"raise SystemExit"})
    hub.publish(f"timm/{name}", {"model.safetensors": b"newer, and damaged"} if pinned else {})
    spec = ModelSpec(adapter="timm", name=name, revision=first if pinned else revision)
    built = build_classifier(spec, "cpu", "fp32")
    assert built.num_classes == 1000
    assert fetched(hub, f"timm/{name}") == ["model.safetensors"]


def test_the_last_layer_makes_the_logits_of_the_features(classifier: TimmClassifier) -> None:
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in ((64, 64), (50, 90))]
    prepared = torch.stack([classifier.prepare(image) for image in images])
    features, (weight, bias) = classifier.encode_images(prepared), classifier.last_layer()
    assert (features.shape, classifier.width) == ((2, 96), 96)
    assert 0 <= prepared.min() < prepared.max() <= 1
    for image, feature in zip(images, features, strict=True):
        whole = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        torch.testing.assert_close(weight @ feature + bias, classifier.logits(whole)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(classifier.logits(prepared), features @ weight.T + bias, rtol=1e-4, atol=1e-5)


def test_a_classifier_without_a_linear_last_layer_has_none(tmp_path: Path) -> None:
    write_classifier(tmp_path / "headless", "test_resnet", None, num_classes=0)
    built = build_classifier(ModelSpec(adapter="timm", name=str(tmp_path / "headless")), "cpu", "fp32")
    with pytest.raises(ModelError, match="is not linear in its features"):
        built.last_layer()


def test_what_preparing_takes_is_in_bounds_for_any_image_that_is_not_thin(classifier: TimmClassifier) -> None:
    assert classifier.prepared_bytes(13_300, 13_300) <= PREPARED_BYTES_PER_PIXEL * 13_300**2
    assert classifier.prepared_bytes(1, 100_000_000) > max(MAX_PREPARED_BYTES, PREPARED_BYTES_PER_PIXEL * 100_000_000)
