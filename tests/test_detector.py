"""The Python door, on the playground's CLIP."""

from __future__ import annotations

import csv
import doctest
import io
import pickle
import shutil
import subprocess
import sys
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_ood.api import FeaturesDetector
from pytorch_ood.benchmark import Benchmark
from pytorch_ood.metrics import OODMetrics
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Dataset, Subset

import synood_cli.detector
from synood_cli import Detector
from synood_cli.cli.app import main
from synood_cli.detector import as_rgb
from synood_cli.errors import ItemError, ModelError, SynoodError, UsageError

if TYPE_CHECKING:
    from playground_study import PlaygroundStudy

DOCS = Path(__file__).parent.parent / "docs" / "python.md"


@pytest.fixture(scope="module")
def detector(playground_study: PlaygroundStudy) -> Detector:
    return Detector.from_pretrained(playground_study.head, device="cpu", batch_size=5)


@pytest.fixture(scope="module")
def paths(playground_study: PlaygroundStudy) -> list[Path]:
    """24 scenes of the classes, then 12 of other things."""
    return [*sorted(playground_study.ind.rglob("*.png")), *sorted(playground_study.far.rglob("*.png"))]


@pytest.fixture(scope="module")
def scores(detector: Detector, paths: list[Path]) -> np.ndarray:
    return detector.score(paths)


def test_it_is_what_the_command_line_says(detector, playground_study, paths, capfdbinary, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folders = [str(playground_study.ind), str(playground_study.far)]
    assert main(["score", *folders, "--head", str(playground_study.head), "--format", "csv"]) == 0
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode()))}
    found = detector.detect(paths)
    assert len(found) == len(paths) == 36
    for path, detection in zip(paths, found, strict=True):
        row = rows[str(path)]
        assert detection.score == float(row["score"])  # though the batches are others
        words = {name: row[name] for name in ("decision", "predicted_class", "nearest_negative")}
        assert words == {name: getattr(detection, name) for name in words}
        assert detection.nearest_similarity == float(row["nearest_similarity"])
        assert detector.detect(path) == [detection]
    assert detector.score(paths).tolist() == [detection.score for detection in found]


def test_every_kind_of_image_gives_one_score(detector, paths, scores):
    images = [Image.open(path).convert("RGB") for path in paths[:7]]
    arrays = np.stack([np.asarray(image) for image in images])
    tensors = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    wanted = pytest.approx(scores[:7], abs=1e-5)
    for many in (
        [str(path) for path in paths[:7]],
        images,
        arrays,
        list(arrays),
        arrays.astype(np.float64) / 255,
        tensors,
        list(tensors),
        tensors.float() / 255,
        (image for image in images),
        [paths[0], images[1], arrays[2], tensors[3], arrays[4] / 255, tensors[5].half() / 255, str(paths[6])],
    ):
        assert detector.score(many) == wanted
    for single in (paths[0], images[0], arrays[0], tensors[0]):
        assert detector.score(single) == pytest.approx(scores[:1], abs=1e-5)
        assert len(detector.detect(single)) == 1
    assert detector.score([]).shape == (0,)
    assert detector.detect(iter(())) == []


def test_grey_transparent_and_turned_images_are_read_as_from_a_file(tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (8, 6, 4), dtype=np.uint8)
    turned = Image.fromarray(random[..., :3])
    turned.getexif()[0x0112] = 6
    for name, image in {"grey": Image.fromarray(random[..., 0]), "clear": Image.fromarray(random), "t": turned}.items():
        image.save(tmp_path / f"{name}.png", exif=image.getexif())
        from_file = np.asarray(as_rgb(tmp_path / f"{name}.png"))
        opened = Image.open(tmp_path / f"{name}.png")
        assert (np.asarray(as_rgb(opened)) == from_file).all()
        assert opened.size == (6, 8)  # it is the caller's, and stays as it is
    assert from_file.shape == (6, 8, 3)
    assert (np.asarray(as_rgb(random[..., :1])) == np.asarray(as_rgb(tmp_path / "grey.png"))).all()
    assert (np.asarray(as_rgb(random)) == np.asarray(as_rgb(tmp_path / "clear.png"))).all()
    assert (np.asarray(as_rgb(torch.from_numpy(random).permute(2, 0, 1))) == np.asarray(as_rgb(random))).all()


def test_what_is_no_image_is_refused(detector, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(ItemError, match=r"bad\.png: not a picture"):
        detector.score(tmp_path / "bad.png")
    for wrong, message in [
        (np.zeros((4, 4, 3)) + 1.5, r"floating-point pixels lie in \[0, 1\]"),
        (np.full((4, 4, 3), np.nan), r"floating-point pixels lie in \[0, 1\]"),
        (np.zeros((4, 4, 2), np.uint8), r"cannot have the shape \(4, 4, 2\)"),
        (torch.zeros(5, 4, 3), r"cannot have the shape \(4, 3, 5\)"),
        (np.zeros((0, 4, 3), np.uint8), "cannot have the shape"),
        (np.zeros((4, 4, 3), np.int64), "pixels of type int64"),
        ([3], "int is no image"),
    ]:
        with pytest.raises(UsageError, match=message):
            detector.score(wrong)


def test_a_stream_is_read_as_far_as_it_is_asked_for(detector, paths):
    taken = count()

    def endless():
        while True:
            next(taken)
            yield paths[0]

    first = list(islice(detector.stream(endless()), 6))
    assert len(first) == 6
    assert next(taken) <= 4 * 5  # two batches out, two ahead


def test_thresholds(playground_study, scores):
    found = Detector.from_pretrained(playground_study.head, device="cpu", threshold=0.5)
    assert found.threshold == 0.5
    found.threshold = float(scores[3])
    [same] = found.detect(playground_study.ind / "cat/3.png")
    assert same.decision == ("ind" if same.score >= scores[3] else "ood")
    with pytest.raises(UsageError, match="keeps no calibration scores"):
        Detector.from_pretrained(playground_study.head, device="cpu", tpr=0.9)


def test_heads_are_found_in_a_workspace_too(playground_study, paths, scores):
    found = Detector.from_pretrained("head@1", workspace=playground_study.workspace, device="cpu")
    assert found.score(paths[0]) == pytest.approx(scores[:1], abs=1e-5)
    newest = Detector.from_pretrained(workspace=playground_study.workspace, device="cpu")
    assert newest.info.method == "+ projection"
    assert newest.score(paths) != pytest.approx(scores, abs=1e-3)
    with pytest.raises(SynoodError, match=r"there is no folder \./nowhere"):
        Detector.from_pretrained("./nowhere")


class Scenes(Dataset):
    """An ordinary dataset: (image, target), with pytorch-ood's negative targets for OOD images."""

    def __init__(self, paths, transform):
        self.paths, self.transform = paths, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(Image.open(self.paths[index])), 0 if index < 24 else -1


def test_in_a_loader_and_with_pytorch_oods_metrics(detector, paths, scores):
    metrics = OODMetrics()
    outliers = []
    for batch, targets in DataLoader(Scenes(paths, detector.transform), batch_size=7):
        outliers.append(detector(batch))
        metrics.update(outliers[-1], targets)
    assert torch.cat(outliers).numpy() == pytest.approx(-scores, abs=1e-5)
    found = metrics.compute()
    assert found["AUROC"] == pytest.approx(roc_auc_score([0] * 24 + [1] * 12, -scores), abs=1e-4)
    assert found["AUROC"] > 0.8
    assert detector.fit(None) is detector
    assert detector.requires_fit is False


class TinyBenchmark(Benchmark):
    """24 scenes of the classes, and as OOD sets all twelve other ones or the first five of them."""

    ood_names = ("all", "some")

    def __init__(self, paths, transform):
        self.scenes = Scenes(paths, transform)

    def train_set(self):
        return Subset(self.scenes, range(24))

    def test_sets(self, known=True, unknown=True):
        return [Subset(self.scenes, range(end)) for end in (36, 29)]


def test_pytorch_oods_benchmarks_take_it(detector, paths, scores):
    adapted = detector.as_pytorch_ood()
    benchmark = TinyBenchmark(paths, detector.transform)
    found = benchmark.evaluate(adapted, loader_kwargs={"batch_size": 7})
    for result, name, end in zip(found, ("all", "some"), (36, 29), strict=True):
        wanted = roc_auc_score([0] * 24 + [1] * (end - 24), -scores[:end])
        assert (result["Dataset"], result["AUROC"]) == (name, pytest.approx(wanted, abs=1e-4))
    both = benchmark.evaluate([adapted, adapted], loader_kwargs={"batch_size": 12}, cache=True)
    assert [result["Detector"] for result in both] == ["SynoodDetector"] * 4
    assert both[0]["AUROC"] == pytest.approx(found[0]["AUROC"], abs=1e-4)


def test_it_is_one_of_pytorch_oods_detectors(detector, paths, scores):
    adapted = detector.as_pytorch_ood()
    assert isinstance(adapted, FeaturesDetector)
    assert adapted.requires_fit is False
    batch = torch.stack([detector.transform(path) for path in paths])
    assert adapted(batch).numpy() == pytest.approx(-scores, abs=1e-5)
    assert torch.equal(adapted.predict(batch), adapted(batch))
    features = adapted.encoder(batch)
    assert features.shape == (36, detector.info.clip.width)
    assert torch.equal(adapted.predict_features(features), adapted(batch))
    loader = DataLoader(Scenes(paths, detector.transform), batch_size=7)
    labels = torch.zeros(36, dtype=torch.long)
    assert adapted.fit(loader) is adapted.fit_features(features, labels) is adapted.to("cpu") is adapted
    assert torch.equal(adapted(batch), detector(batch))  # nothing was fitted


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (2, 3, 64, 65), (2, 1, 64, 64), (3, 64, 64), (64,), (2, 64, 64, 3)])
def test_a_batch_of_another_shape_is_refused(detector, shape):
    for predict in (detector, detector.predict, detector.as_pytorch_ood()):
        with pytest.raises(
            UsageError, match=r"takes batches of shape \(B, 3, 64, 64\), and got torch.float32"
        ) as caught:
            predict(torch.zeros(shape))
        assert str(tuple(shape)) in caught.value.message
        assert "detector.transform" in (caught.value.hint or "")


def test_a_batch_of_another_type_is_refused(detector, paths):
    for wrong, got in (
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), "torch.uint8"),
        (np.zeros((2, 3, 64, 64), np.float32), "ndarray"),
        (paths[0], "PosixPath"),
    ):
        with pytest.raises(UsageError, match=f"and got {got}"):
            detector(wrong)
    assert detector(torch.zeros(0, 3, 64, 64)).shape == (0,)


def test_features_that_are_no_numbers_are_refused(detector):
    adapted = detector.as_pytorch_ood()
    with pytest.raises(ModelError, match="an image cannot be scored"):
        adapted.predict_features(torch.full((1, detector.info.clip.width), torch.nan))
    with pytest.raises(ModelError, match="an image cannot be scored"):
        adapted(torch.full((1, 3, 64, 64), torch.inf))


def test_without_pytorch_ood_its_detector_is_refused_in_words(detector, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_ood", None)
    with pytest.raises(UsageError, match="pytorch-ood is not installed") as caught:
        detector.as_pytorch_ood()
    assert caught.value.hint == "pip install 'synood[baselines]'"


def test_the_transform_travels_without_the_model(detector, paths):
    packed = pickle.dumps(detector.transform)
    assert len(packed) < 10_000
    assert torch.equal(pickle.loads(packed)(paths[0]), detector.transform(paths[0]))


def test_importing_synood_imports_no_torch():
    script = "import sys, synood_cli; assert 'torch' not in sys.modules; print(synood_cli.Detector.__name__)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "Detector\n"
    with pytest.raises(AttributeError, match="has no attribute 'Detektor'"):
        synood_cli.Detektor  # noqa: B018


def test_the_examples_in_the_documentation(playground_study, tmp_path, monkeypatch):
    shutil.copytree(playground_study.head, tmp_path / "head")
    (tmp_path / "photos").mkdir()
    shutil.copy(playground_study.ind / "penguin/4.png", tmp_path / "photos/penguin.png")
    shutil.copy(playground_study.far / "airplane/0.png", tmp_path / "photos/airplane.png")
    monkeypatch.chdir(tmp_path)
    for failed, tried in (
        doctest.testmod(synood_cli.detector),
        doctest.testfile(str(DOCS), module_relative=False),
    ):
        assert (failed, tried > 3) == (0, True)
