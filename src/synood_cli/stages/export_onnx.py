"""Export: the image tower of a head's CLIP and the head in one ONNX graph.

    pixels (B, 3, H, W) float32, prepared as the metadata say →
        score (B,)                float64, S of Eq. 2, higher = more in-distribution
        predicted_class (B,)      int64, place of the nearest InD label in the metadata's ind_labels
        nearest_negative (B,)     int64, place of the nearest negative label in negative_labels
        nearest_similarity (B,)   cosine similarity to it

B is free. The model's metadata_props hold, as JSON: ind_labels, negative_labels, preprocessing (size, mean, std, …),
threshold (in-distribution iff the score reaches it), temperature, method, head, clip, synood (version).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from synood_cli.config import Execution
from synood_cli.errors import SynoodError
from synood_cli.records import ModelSpec
from synood_cli.runners.local import LocalRunner
from synood_cli.stages.run import WORKERS
from synood_cli.store.files import disk_errors
from synood_cli.store.outputs import new_file

TOLERANCE = 1e-3
"""What ONNX Runtime's scores and similarities may differ from torch's."""

CHECKED = 16
"""Images of a folder that an export is checked on, and random pictures where there is no folder."""

_LIBRARIES = ("onnx", "onnxruntime", "onnxscript")


class ExportJob(NamedTuple):
    """The head to export, what to call it, the file to write, and the images to check it on (none: random ones)."""

    head: Path
    name: str
    to: Path
    images: Sequence[Path]


class Checked(NamedTuple):
    """On so many images, the largest differences between ONNX Runtime and torch; and (path, reason) of each image that
    could not be read and was left out."""

    images: int
    score_difference: float
    similarity_difference: float
    left_out: list[tuple[Path, str]]


def export_onnx(job: ExportJob, spec: ModelSpec) -> Checked:
    """Write `job.to`, once it has been checked: ONNX Runtime must give torch's scores and similarities to TOLERANCE,
    and its labels, where two are not that near to each other.

    Raises SynoodError when a library is missing, none of the images can be read, or the check fails; `job.to` is then
    as it was.
    """
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise SynoodError(f"ONNX needs {', '.join(missing)}, not installed here", hint="pip install 'synood[onnx]'")
    options = {"spec": spec, "execution": Execution(device="cpu")}
    with new_file(job.to, ".onnx") as scratch, disk_errors(job.to):
        checked: Checked = next(LocalRunner(WORKERS).map("export-onnx", options, [job._replace(to=scratch)]))
    return checked
