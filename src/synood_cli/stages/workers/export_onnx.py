"""Writes and checks ONNX graphs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from synood_cli import __version__
from synood_cli.config import Execution
from synood_cli.data.images import decoded_picture
from synood_cli.errors import ItemError, SynoodError
from synood_cli.models.build import build_encoder
from synood_cli.models.loading import choose_device
from synood_cli.records import ModelSpec, printable
from synood_cli.stages.export_onnx import CHECKED, TOLERANCE, Checked, ExportJob
from synood_cli.stages.heads import require_clip
from synood_cli.stages.workers.embed import clip_description
from synood_cli.stages.workers.torch_head import TorchHead
from synood_cli.store.heads import Head, HeadInfo

INPUT = "pixels"
OUTPUTS = ("score", "predicted_class", "nearest_negative", "nearest_similarity")
LARGEST = 2**31 - 2**20
"""Bytes of weights that fit into one ONNX file: protobuf ends at 2 GiB."""


class Graph(nn.Module):
    """Image tower and head: (B, 3, H, W) → OUTPUTS."""

    def __init__(self, tower: nn.Module, head: TorchHead) -> None:
        super().__init__()
        self._tower, self._head = tower, head
        self._projection = head.projection  # known as a part of the module, so that its weights are exported

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """OUTPUTS, each (B,)."""
        return self._head.detections(self._tower(pixels))

    def image_features(self, pixels: Tensor) -> Tensor:
        """Î, at unit length: (B, D)."""
        return self._head.image_features(self._tower(pixels))


class OnnxExporter:
    """Holds a CLIP; exports heads that belong to it."""

    def __init__(self, spec: ModelSpec, execution: Execution) -> None:
        self._device = choose_device(execution.device)
        self._encoder = build_encoder(spec, self._device, "fp32")

    def __call__(self, job: ExportJob) -> Checked:
        """Write the graph to `job.to` and compare ONNX Runtime with torch. Raises SynoodError when they differ."""
        head = Head.read(job.head)
        require_clip(head.info, job.name, clip_description(self._encoder))
        graph = Graph(self._encoder.image_tower, TorchHead.of(head, self._device)).eval()
        size = sum(parameter.numel() * parameter.element_size() for parameter in graph.parameters())
        if size > LARGEST:
            raise SynoodError(f"the weights are {size:,} bytes, and an ONNX file holds {LARGEST:,} at most")
        images, left_out = self._images(job.images)
        self._encoder.encode_images(images[:1])  # says in words where this CLIP cannot
        self._write(graph, images[:2], job, head.info)
        return _checked(graph, images, head, job.to)._replace(left_out=left_out)

    def _images(self, paths: Sequence[Path]) -> tuple[Tensor, list[tuple[Path, str]]]:
        """What the graph is checked on, prepared, (N, 3, H, W): random images, or those at `paths` that can be read;
        and why the others cannot. Raises SynoodError when none can."""
        random = np.random.default_rng(0)
        images = [Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(CHECKED)]
        prepared = [self._encoder.prepare(image) for image in images]
        left_out: list[tuple[Path, str]] = []
        if paths:
            prepared = []
            for path in paths:
                try:
                    with decoded_picture(path, self._encoder.prepared_bytes) as picture:
                        prepared.append(self._encoder.prepare(picture.image))
                except ItemError as error:
                    left_out.append((path, error.message))
        if not prepared:
            path, reason = left_out[0]
            raise SynoodError(
                f"none of the {len(paths)} images to check on can be read; {printable(str(path))}: {reason}",
                hint="--check another folder, or leave it out: random images will do",
            )
        return torch.stack(prepared), left_out

    def _write(self, graph: Graph, example: Tensor, job: ExportJob, info: HeadInfo) -> None:
        # An example of one image would make the exporter take the batch for fixed at one.
        batch = torch.cat([example, example])[:2]
        with torch.no_grad():
            program = torch.onnx.export(
                graph,
                (batch,),
                dynamo=True,
                input_names=[INPUT],
                output_names=OUTPUTS,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
        assert program is not None  # it is with dynamo
        model = program.model_proto
        onnx.helper.set_model_props(model, _metadata(info, job.name))
        onnx.checker.check_model(model)
        onnx.save(model, job.to)


def _metadata(info: HeadInfo, name: str) -> dict[str, str]:
    facts = {
        "ind_labels": [label.text for label in info.ind_labels],
        "negative_labels": [label.text for label in info.negative_labels],
        "preprocessing": info.clip.preprocessing,
        "threshold": info.threshold,
        "temperature": info.temperature,
        "method": info.method,
        "head": name,
        "clip": info.clip.model.model_dump(),
        "synood": __version__,
    }
    return {key: json.dumps(value) for key, value in facts.items()}


def _checked(graph: Graph, images: Tensor, head: Head, path: Path) -> Checked:
    """Compare on one image alone, and on the others at once."""
    # As bytes: onnxruntime opens no path that is not UTF-8.
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    found: list[list[NDArray[np.float32]]] = []
    wanted: list[tuple[Tensor, ...]] = []
    features: list[Tensor] = []
    for batch in (images[:1], images[1:]):
        if len(batch):
            found.append(session.run(OUTPUTS, {INPUT: batch.numpy()}))
            with torch.no_grad():
                wanted.append(graph(batch))
                features.append(graph.image_features(batch))
    score, predicted, _, similarity = (np.concatenate(parts) for parts in zip(*found, strict=True))
    torch_score, _, _, torch_similarity = (torch.cat(parts).numpy() for parts in zip(*wanted, strict=True))
    # Of two labels that are equally near either may be named.
    to_labels = torch.cat(features).numpy() @ head.tensors["ind_features"].T
    named = np.take_along_axis(to_labels, predicted[:, None], axis=1)[:, 0]
    differences = {
        "score": float(np.abs(score - torch_score).max()),
        "nearest_similarity": float(np.abs(similarity - torch_similarity).max()),
        "predicted_class": float((to_labels.max(axis=1) - named).max()),
    }
    for output, difference in differences.items():
        if not difference <= TOLERANCE:  # NaN is no agreement
            raise SynoodError(
                f"ONNX Runtime's {output} differs from torch's by {difference:.2g} on {len(images)} images; "
                f"{TOLERANCE:g} is allowed",
                hint="nothing was written; try other versions of onnxruntime and onnxscript",
            )
    return Checked(len(images), differences["score"], differences["nearest_similarity"], [])
