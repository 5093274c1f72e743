from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from synood_cli import Detector
from synood_cli.errors import StoreError, SynoodError
from synood_cli.records import ModelSpec
from synood_cli.stages.export_onnx import CHECKED, ExportJob, export_onnx
from synood_cli.stages.workers.export_onnx import Graph, _checked
from synood_cli.store.heads import Head, HeadInfo

if TYPE_CHECKING:
    from playground_study import PlaygroundStudy


@pytest.fixture(params=["head", "projected"], scope="module")
def exported(request, playground_study: PlaygroundStudy, tmp_path_factory):
    """(the head's folder, the file, the differences found)."""
    head = getattr(playground_study, request.param)
    path = tmp_path_factory.mktemp("onnx") / "new" / "head.onnx"
    images = sorted(playground_study.ind.rglob("*.png"))[:3]
    spec = HeadInfo.read(head).clip.model
    return head, path, export_onnx(ExportJob(head, "head@1", path, images), spec)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_graph_gives_the_detectors_answers_for_any_batch(exported, playground_study, count):
    head, path, checked = exported
    assert checked.images == 3
    assert 0 <= checked.score_difference < 1e-4
    assert 0 <= checked.similarity_difference < 1e-4
    detector = Detector.from_pretrained(head, device="cpu")
    images = [*sorted(playground_study.far.rglob("*.png"))[:4], *sorted(playground_study.ind.rglob("*.png"))][:count]
    pixels = torch.stack([detector.transform(image) for image in images]).numpy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    score, predicted, negative, similarity = session.run(None, {"pixels": pixels})
    metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    for place, found in enumerate(detector.detect(images)):
        assert score[place] == pytest.approx(found.score, abs=1e-4)
        assert similarity[place] == pytest.approx(found.nearest_similarity, abs=1e-5)
        assert metadata["ind_labels"][predicted[place]] == found.predicted_class
        assert metadata["negative_labels"][negative[place]] == found.nearest_negative
    assert metadata["threshold"] == detector.threshold
    assert metadata["preprocessing"]["size"] in (64, [64, 64])
    assert (metadata["method"], metadata["head"]) == (detector.info.method, "head@1")


def test_one_file_with_names_and_a_free_batch(exported):
    _, path, _ = exported
    assert [each.name for each in path.parent.iterdir()] == ["head.onnx"]
    graph = onnx.load(path).graph
    [pixels] = graph.input
    sizes = [size.dim_param or size.dim_value for size in pixels.type.tensor_type.shape.dim]
    assert (pixels.name, sizes[0], sizes[1:]) == ("pixels", "batch", [3, 64, 64])
    assert [output.name for output in graph.output] == [
        "score",
        "predicted_class",
        "nearest_negative",
        "nearest_similarity",
    ]


def test_a_graph_that_says_something_else_is_refused(exported, playground_study):
    head, path, _ = exported
    detector = Detector.from_pretrained(head, device="cpu")
    images = torch.stack([detector.transform(image) for image in sorted(playground_study.ind.rglob("*.png"))[:6]])
    good = Graph(detector._encoder.image_tower, detector._head)
    assert _checked(good, images, Head.read(head), path).images == 6
    detector._head.ind = detector._head.ind.roll(1, 0)  # the same score, other classes
    rolled = Head(Head.read(head).info, {"ind_features": np.roll(Head.read(head).tensors["ind_features"], 1, 0)})
    with pytest.raises(SynoodError, match=r"predicted_class differs from torch's by 0\.\d+ on 6 images"):
        _checked(Graph(detector._encoder.image_tower, detector._head), images, rolled, path)
    detector._head.temperature = 0.02
    with pytest.raises(SynoodError, match=r"score differs from torch's by"):
        _checked(Graph(detector._encoder.image_tower, detector._head), images, rolled, path)


def test_without_images_it_is_checked_on_random_ones(playground_study, tmp_path):
    spec = HeadInfo.read(playground_study.head).clip.model
    (tmp_path / "a.onnx").write_bytes(b"what was there before")
    checked = export_onnx(ExportJob(playground_study.head, "head@1", tmp_path / "a.onnx", []), spec)
    assert checked.images == CHECKED
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"))


def test_where_nothing_can_be_written(playground_study, tmp_path):
    spec = ModelSpec(adapter="open_clip", name="never loaded")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="a part of the path is a file"):
        export_onnx(ExportJob(playground_study.head, "head@1", tmp_path / "file" / "a.onnx", []), spec)


def test_images_that_cannot_be_read_are_left_out_by_name(playground_study, tmp_path):
    spec = HeadInfo.read(playground_study.head).clip.model
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    good = sorted(playground_study.ind.rglob("*.png"))[:2]
    job = ExportJob(playground_study.head, "head@1", tmp_path / "a.onnx", [good[0], tmp_path / "broken.jpg", good[1]])
    checked = export_onnx(job, spec)
    assert checked.images == 2
    [(path, reason)] = checked.left_out
    assert (path, reason[:13]) == (tmp_path / "broken.jpg", "not a picture")
    with pytest.raises(
        SynoodError, match=r"none of the 1 images to check on can be read; .*broken\.jpg: not a picture"
    ):
        export_onnx(job._replace(to=tmp_path / "b.onnx", images=[tmp_path / "broken.jpg"]), spec)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.onnx", "broken.jpg"]
