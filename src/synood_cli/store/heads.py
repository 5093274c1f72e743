"""A head on disk: all that detects with a CLIP's image tower, as `head.json` and `head.safetensors`.

    ind_features       (C, D)  text features of the in-distribution labels, unit length
    negative_features  (N, D)  text features of the negative labels, unit length
    projection.*               weights of the projection δ (Eq. 12), where the head has one

C labels, N negative labels, D = CLIP's width. Rows are in the order of `head.json`'s labels. In memory all are float32;
in the file the features of a published head may be float16. docs/head-format.md specifies the format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from synood_cli import __version__
from synood_cli.config import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, FeatureType, Strategy
from synood_cli.errors import StoreError
from synood_cli.records import ModelSpec, Record, composed, printable
from synood_cli.regular_file import read_regular
from synood_cli.store.draft import Draft
from synood_cli.store.foreign_json import foreign_json
from synood_cli.store.publication import Publication
from synood_cli.store.store import Store

FORMAT: Final = "synood-head/1"
INFO_FILE = "head.json"
TENSOR_FILE = "head.safetensors"

MAX_INFO_BYTES: Final = 32 * 2**20
"""Largest `head.json` that is read: WordNet's 139,277 words as negative labels take 17 MB."""
MAX_TENSOR_BYTES: Final = 2**30
"""Largest `head.safetensors`: the features of all those words at width 1,280 take 0.7 GB as float32."""
MAX_WIDTH: Final = 2**14
"""Largest width of a CLIP; the largest public one has 4,096."""

PROJECTION: Final = "projection."
SHOWN: Final = 8
"""Names of tensors that a message lists at most."""
REMAKE: Final = "make or fetch it anew; where a push was interrupted, the same `synood push` again repairs it"

Number = Annotated[float, Field(strict=True)]
"""A number is a number: neither a text, such as "0.5", nor true."""
Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=0)]
Flag = Annotated[bool, Field(strict=True)]

Pool = Literal["NegLabel", "CSP"]
Method = Literal[
    "NegLabel", "+ projection", "+ labels", "SynOOD", "CSP", "CSP + projection", "CSP + labels", "SynOOD on CSP"
]
METHODS: dict[Pool, tuple[Method, Method, Method, Method]] = {
    "NegLabel": ("NegLabel", "+ labels", "+ projection", "SynOOD"),
    "CSP": ("CSP", "CSP + labels", "CSP + projection", "SynOOD on CSP"),
}
"""The rows of the paper's ablation by the pool of the negative labels: untrained, with tuned labels, with a projection,
both; without what sets a head apart: `HeadInfo.method` adds it in brackets."""


class Clip(Record):
    """The CLIP that a head belongs to, and what it takes to run its image tower elsewhere."""

    model: ModelSpec
    quick_gelu: Flag
    preprocessing: dict[str, Any]
    width: int = Field(strict=True, ge=1, le=MAX_WIDTH)
    logit_scale: Number = Field(gt=0)


class IndLabel(Record):
    """One in-distribution label: its text, and the class folder that it stands for."""

    text: str
    class_name: str


class NegativeLabel(Record):
    """One negative label. `similarity` is NegMining's percentile; `tuned`: its feature was learned (Eq. 14)."""

    text: str
    part_of_speech: str
    similarity: Number | None = None
    tuned: Flag = False


class Calibration(Record):
    """What the threshold was set on: the share `tpr` of `images` images of `source` (an artifact, or the name of a
    folder) reach it.

    `trained_on`: the head's projection was trained on these images, so the share is optimistic elsewhere. A head that
    `synood calibrate` made also says the share that really reaches it, its exact interval at `level`, and the `scores`
    of the images, ascending, from which a threshold for any other TPR follows.
    """

    images: Count
    source: str
    tpr: Fraction
    trained_on: Flag
    achieved: Fraction | None = None
    low: Fraction | None = None
    high: Fraction | None = None
    level: Fraction | None = None
    scores: tuple[Fraction, ...] = ()

    @model_validator(mode="after")
    def _scores_of_the_images(self) -> Self:
        if self.scores and len(self.scores) != self.images:
            raise ValueError(f"{len(self.scores)} scores are not those of {self.images} images")
        if any(after < before for before, after in pairwise(self.scores)):
            raise ValueError("the scores do not ascend")
        return self


class HeadInfo(Record):
    """`head.json`: everything about a head but its tensors."""

    format: Literal["synood-head/1"] = FORMAT
    clip: Clip
    ind_labels: tuple[IndLabel, ...] = Field(min_length=1)
    ind_template: str
    negative_labels: tuple[NegativeLabel, ...] = Field(min_length=1)
    pool: Pool = "NegLabel"
    """The candidates that the negative labels were chosen from."""
    templates: dict[str, str]
    """Prompt of a negative label by part of speech."""
    projection: Flag = False
    projection_images: Literal["both", "ind"] | None = None
    """What a projection was trained on: selected and synthetic images, or the selected ones alone; None without one."""
    strategy: Strategy | None = None
    """How the labels were tuned (Table 5); None where none was."""
    temperature: Number = Field(ge=LOWEST_TEMPERATURE, le=HIGHEST_TEMPERATURE)
    groups: Count
    """Groups of negative labels that Eq. 2 averages over; 0 = none."""
    group_seed: Count = Field(lt=2**63)
    threshold: Fraction
    """η: in-distribution iff S ≥ η."""
    calibration: Calibration
    versions: dict[str, str]
    publication: Publication | None = None
    """Set in a head that has left its workspace."""

    @property
    def method(self) -> str:
        """The row of the paper's ablation that this head is, and in brackets what makes it a control ("InD only": a
        projection that saw no synthetic image) or another strategy than the paper's own."""
        tuned = any(label.tuned for label in self.negative_labels)
        apart = ["InD only"] if self.projection_images == "ind" else []
        apart += [self.strategy] if self.strategy not in (None, "separate") else []
        row = METHODS[self.pool][2 * self.projection + tuned]
        return row + (f" ({', '.join(apart)})" if apart else "")

    @classmethod
    def read(cls, folder: Path) -> HeadInfo:
        """The head's `head.json`, without its tensors. Raises StoreError, as Head.read."""
        path = folder / INFO_FILE
        where = printable(str(path))
        try:
            content = read_regular(path, MAX_INFO_BYTES)
        except FileNotFoundError as error:
            raise StoreError(
                f"there is no head in {printable(str(folder))} (no {INFO_FILE})", hint="synood log --kind head"
            ) from error
        except OSError as error:
            raise StoreError(
                f"cannot read {where}: {error.strerror}", hint="check the file and its permissions"
            ) from error
        return cls.parse(content, where)

    @classmethod
    def parse(cls, content: bytes, where: str) -> HeadInfo:
        """The head that the bytes of a `head.json` describe; `where` says in messages where they lie.

        Raises StoreError when they are not JSON, of another format or version, or lack something.
        """
        try:
            found = foreign_json(content)
        except ValueError as error:
            raise StoreError(
                f"{where} is not JSON: {printable(str(error)):.200}", hint=f"the head is damaged: {REMAKE}"
            ) from error
        version_ = found.get("format") if isinstance(found, dict) else None
        if version_ != FORMAT:
            newer = isinstance(version_, str) and version_.startswith("synood-head/") and version_ > FORMAT
            raise StoreError(
                f"{where} has the format {version_!r:.60}; this version reads {FORMAT!r}",
                hint="upgrade: pip install --upgrade synood" if newer else "this is no head of synood",
            )
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            place = printable(".".join(str(part) for part in first["loc"]))
            raise StoreError(
                f"{where}: {place:.200}: {printable(first['msg']):.200}", hint=f"the head is damaged: {REMAKE}"
            ) from error

    def labelled(self, classes: Sequence[str]) -> dict[str, int]:
        """The position of the label of each class folder in `classes`; classes that the head lacks are left out. Names
        are compared composed (NFC)."""
        known = {composed(label.class_name): position for position, label in enumerate(self.ind_labels)}
        return {name: known[key] for name in classes if (key := printable(composed(name))) in known}


@dataclass(frozen=True)
class Head:
    """A head in memory: its description and its tensors by name, as in the module's table."""

    info: HeadInfo
    tensors: Mapping[str, NDArray[np.float32]]

    def write(self, draft: Draft) -> list[str]:
        """Write both files into the draft; returns their names, for `Draft.commit`. Equal heads give equal bytes.

        Raises StoreError when the tensors do not fit the description.
        """
        draft.write_file(TENSOR_FILE, self.tensor_bytes("float32"))
        draft.write_file(INFO_FILE, info_bytes(self.info))
        return [TENSOR_FILE, INFO_FILE]

    def tensor_bytes(self, features: FeatureType) -> bytes:
        """`head.safetensors`, the label features in the type `features`. Raises StoreError when the tensors do not fit
        the description, or hold what is no number (in that type).
        """
        where = "the head to be written"
        found = {name: (str(tensor.dtype), tensor.shape) for name, tensor in self.tensors.items()}
        _check(
            {name: Layout(_DTYPES.get(dtype, dtype), shape) for name, (dtype, shape) in found.items()}, self.info, where
        )
        stored = {
            name: np.ascontiguousarray(tensor if name.startswith(PROJECTION) else tensor.astype(features))
            for name, tensor in self.tensors.items()
        }
        _check_finite(stored, where)
        content: bytes = save(stored)
        return content

    @classmethod
    def read(cls, folder: Path) -> Head:
        """The head in `folder` (an artifact's, or one that was downloaded).

        Raises StoreError when a file is missing or damaged, the format is unknown, or the tensors do not fit.
        """
        info = HeadInfo.read(folder)
        path = folder / TENSOR_FILE
        where = printable(str(path))
        try:
            content = read_regular(path, MAX_TENSOR_BYTES)
        except FileNotFoundError as error:
            raise StoreError(f"the head in {printable(str(folder))} has no {TENSOR_FILE}", hint=REMAKE) from error
        except OSError as error:
            raise StoreError(
                f"cannot read {where}: {error.strerror}", hint="check the file and its permissions"
            ) from error
        return cls.of(info, content, where)

    @classmethod
    def of(cls, info: HeadInfo, content: bytes, where: str) -> Head:
        """The head that `info` and the bytes of its `head.safetensors` describe; `where` names the file in messages.
        The file's own list of tensors is compared with the description before anything is made of it.

        Raises StoreError when the file is damaged, or does not fit.
        """
        try:
            found = dict(deserialize(content))  # type: ignore[no-untyped-call]
        except SafetensorError as error:
            raise StoreError(f"{where} is damaged: {printable(str(error)):.200}", hint=REMAKE) from error
        listed = {name: Layout(tensor["dtype"], tuple(tensor["shape"])) for name, tensor in found.items()}
        _check(listed, info, where, info.publication.features if info.publication else "float32")
        tensors = {
            name: np.frombuffer(found[name]["data"], _NUMPY[layout.dtype]).reshape(layout.shape)
            for name, layout in listed.items()
        }
        _check_finite(tensors, where)
        return cls(info, {name: tensor.astype(np.float32, copy=False) for name, tensor in tensors.items()})

    @property
    def projection(self) -> dict[str, NDArray[np.float32]]:
        """The projection's weights by their names in it; empty where the head has none."""
        return {
            name.removeprefix(PROJECTION): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(PROJECTION)
        }


_DTYPES = {"float16": "F16", "float32": "F32"}
_NUMPY: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}


class Layout(NamedTuple):
    """A tensor as a safetensors file lists it: its type (F32 or F16) and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _NUMPY[self.dtype].itemsize


def layouts(info: HeadInfo, features: FeatureType = "float32") -> dict[str, Layout]:
    """The tensors that a head so described has, its features stored as `features`."""
    width, stored = info.clip.width, _DTYPES[features]
    labels = {
        "ind_features": Layout(stored, (len(info.ind_labels), width)),
        "negative_features": Layout(stored, (len(info.negative_labels), width)),
    }
    projection = {
        "projection.linear.weight": Layout("F32", (width, width)),
        **{f"{PROJECTION}{name}": Layout("F32", (width,)) for name in ("linear.bias", "norm.weight", "norm.bias")},
    }
    return {**labels, **(projection if info.projection else {})}


def info_bytes(info: HeadInfo) -> bytes:
    """`head.json`. Equal descriptions give equal bytes; one that is not published has no field `publication`."""
    document = info.model_dump(mode="json", exclude=None if info.publication else {"publication"})
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()


def label_rows(info: HeadInfo) -> list[dict[str, Any]]:
    """The rows of table `labels`: the InD labels, then the negative labels."""
    ind = [{"text": label.text, "role": "ind"} for label in info.ind_labels]
    negative = [{"role": "negative", **label.model_dump()} for label in info.negative_labels]
    columns = {"part_of_speech": None, "similarity": None, "tuned": False}
    return [{"position": position, **columns, **row} for position, row in enumerate([*ind, *negative])]


def clip_places(store: Store) -> Iterator[Path]:
    """Where CLIPs lie that heads name by their content alone: what `synood pull --clip` was told in this workspace."""
    yield from dict.fromkeys(Path(head.notes["clip"]) for head in store.artifacts("head") if head.notes.get("clip"))


def current_versions() -> dict[str, str]:
    """Versions of this tool and of the libraries that make a head's numbers."""
    return {"synood": __version__, **{name: version(name) for name in ("torch", "open_clip_torch")}}


def _check(found: Mapping[str, Layout], info: HeadInfo, where: str, features: FeatureType = "float32") -> None:
    """Raise StoreError unless the tensors that were `found` are those of a head described by `info`."""
    different = f"the two files belong to different heads: {REMAKE}"
    wanted = layouts(info, features)
    for name in ("ind_features", "negative_features"):
        if name not in found:
            raise StoreError(f"{where} lacks the tensor {name}", hint=REMAKE)
    if found.keys() != wanted.keys():
        projection = "a" if info.projection else "no"
        names = ", ".join(printable(name) for name in sorted(found)[:SHOWN])
        raise StoreError(
            f"{where} holds {names}; {INFO_FILE} says that the head has {projection} projection", hint=different
        )
    for name, layout in sorted(found.items()):
        if layout.shape != wanted[name].shape:
            raise StoreError(
                f"{where}: {name} has the shape {layout.shape}, {INFO_FILE} says {wanted[name].shape}", hint=different
            )
        if layout.dtype != wanted[name].dtype:
            raise StoreError(f"{where}: {name} is {layout.dtype}, not {wanted[name].dtype}", hint=REMAKE)


def _check_finite(tensors: Mapping[str, NDArray[Any]], where: str) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise StoreError(f"{where}: {name} holds NaN or infinities", hint=REMAKE)
