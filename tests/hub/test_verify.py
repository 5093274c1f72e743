"""Hostile heads: each is refused with a message that says what is wrong with it."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from published import WIDTH, Files, changed_info, changed_tensors, with_tensor_file, write_files
from synood_cli.errors import StoreError, UsageError
from synood_cli.hub.pull import fetch_head
from synood_cli.hub.verify import foreign_head

NAN = np.full((2, WIDTH), np.nan, np.float16)
Change = Callable[[Files], Files]


def header(files: Files, **tensors: dict[str, object]) -> Files:
    """A head.safetensors of nothing but a header, padded to the size that the labels make."""
    text = json.dumps(tensors).encode()
    return with_tensor_file(files, struct.pack("<Q", len(text)) + text + bytes(40))


def huge(files: Files) -> Files:
    return header(
        files,
        ind_features={"dtype": "F16", "shape": [2**31, 24], "data_offsets": [0, 2**36]},
        negative_features={"dtype": "F16", "shape": [3, 4], "data_offsets": [2**36, 2**36 + 24]},
    )


def label(files: Files, text: str) -> Files:
    return changed_info(files, ind_labels=[{"text": text, "class_name": "cat"}, {"text": "b", "class_name": "b"}])


def clip(**model: str | None) -> Change:
    base = {"adapter": "open_clip", "name": "ViT-B-16", "pretrained": "openai", "revision": "openai", "url": None}
    return lambda files: changed_info(files, clip__model={**base, **model})


def nested(levels: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for _ in range(levels):
        found = {"a": found}
    return found


HOSTILE: dict[str, tuple[Change, str]] = {
    "bad JSON": (lambda f: {**f, "head.json": b'{"format": '}, r"head\.json is not JSON"),
    "deep JSON": (lambda f: {**f, "head.json": b"[" * 100_000}, r"head\.json is not JSON"),
    "binary JSON": (lambda f: {**f, "head.json": b"\x80\x04\x95"}, r"head\.json is not JSON"),
    "a list": (lambda f: {**f, "head.json": b"[]"}, "has the format None"),
    "a newer version": (lambda f: changed_info(f, format="synood-head/2"), "'synood-head/2'; this version reads"),
    "a long version": (lambda f: changed_info(f, format="x" * 10_000), r"has the format 'x{59}; this"),
    "an unknown field": (lambda f: changed_info(f, **{"\x1b]0;x": 1}), "Extra inputs are not permitted"),
    "infinite threshold": (
        lambda f: {**f, "head.json": f["head.json"].replace(b'"threshold": 0.75', b'"threshold": Infinity')},
        r"is not JSON: Infinity is no number",
    ),
    "NaN in free fields": (lambda f: changed_info(f, clip__preprocessing={"size": float("nan")}), "NaN is no number"),
    "width of zero": (lambda f: changed_info(f, clip__width=0), "clip.width: Input should be greater than or equal"),
    "temperature of zero": (lambda f: changed_info(f, temperature=0), r"temperature: .* than or equal to 0\.0001"),
    "a temperature at which scores are not finite": (
        lambda f: changed_info(f, temperature=1e-45), r"temperature: Input should be greater than or equal to 0\.0001"
    ),
    "a temperature at which all scores are equal": (
        lambda f: changed_info(f, temperature=1e300), r"temperature: Input should be less than or equal to 10000"
    ),
    "an integer of 5,000 digits": (
        lambda f: {**f, "head.json": f["head.json"].replace(b'"groups": 2', b'"groups": ' + b"9" * 5000)},
        "is not JSON: 9{30} is too large an integer",
    ),
    "an integer beyond 64 bits": (lambda f: changed_info(f, groups=2**63), "is too large an integer"),
    "a number beyond the largest": (
        lambda f: {**f, "head.json": f["head.json"].replace(b'"threshold": 0.75', b'"threshold": 1e999')},
        "is not JSON: 1e999 is too large a number",
    ),
    "a name twice": (
        lambda f: {**f, "head.json": f["head.json"].replace(b'"groups": 2', b'"groups": 2, "groups": 3')},
        "the name 'groups' stands twice in one object",
    ),
    "nested in a free field": (
        lambda f: changed_info(f, clip__preprocessing=nested(900)), "is not JSON: nested more than 32 deep"
    ),
    "UTF-16": (lambda f: {**f, "head.json": f["head.json"].decode().encode("utf-16")}, "is not JSON: 'utf-8' codec"),
    "larger than any head": (lambda f: {**f, "head.json": b" " * (2**25 + 1)}, "it has more than 33,554,432 bytes"),
    "half a character in a free field": (
        lambda f: changed_info(f, clip__preprocessing={"a": "\ud800"}), "preprocessing.a: holds control characters"
    ),
    "NUL in a label": (lambda f: label(f, "a\0b"), "holds control characters"),
    "no labels": (lambda f: changed_info(f, ind_labels=[]), "ind_labels: Tuple should have at least 1 item"),
    "terminal escape in a label": (lambda f: label(f, "\x1b[2Jcat"), r"head\.json\.ind_labels\.0\.text: holds control"),
    "newline in a label": (lambda f: label(f, "a\nb"), "holds control characters"),
    "text direction in a label": (lambda f: label(f, "a\u202eb"), "holds control characters"),
    "half a character in a label": (lambda f: label(f, "\ud800"), "holds control characters"),
    "an escape in a key": (
        lambda f: changed_info(f, clip__preprocessing={"\x1b[2J": 1}),
        r"head\.json\.clip\.preprocessing: holds control characters",
    ),
    "no publication": (lambda f: changed_info(f, publication=None), "lacks the part `publication`"),
    "other negative labels": (
        lambda f: changed_info(f, negative_labels=[{"text": t, "part_of_speech": "noun"} for t in "abc"]),
        "the negative labels are not those that their SHA-256 was taken of",
    ),
    "other bytes": (
        lambda f: {**f, "head.safetensors": f["head.safetensors"][:-1] + b"\x01"},
        r"is not the file that head\.json was written for",
    ),
    "fewer bytes": (lambda f: {**f, "head.safetensors": b""}, r"head\.safetensors has 0 bytes, head\.json says"),
    "more bytes than labels make": (
        lambda f: with_tensor_file(f, f["head.safetensors"] + bytes(10**6)),
        "but the labels and width in head.json make 40",
    ),
    "a width that no CLIP has": (lambda f: changed_info(f, clip__width=10**10), "width: Input should be less than or"),
    "100 GB by its own word": (
        lambda f: changed_info(f, publication__tensors={"bytes": 10**11, "sha256": "0" * 64}),
        "is said to have 100,000,000,000 bytes; at most 1,073,741,824 are read",
    ),
    "a header of 100 GB": (huge, r"head\.safetensors is damaged"),
    "no header": (lambda f: with_tensor_file(f, b"\xff" * 100), r"head\.safetensors is damaged"),
    "a pickle": (lambda f: with_tensor_file(f, b"\x80\x04\x95" + bytes(100)), r"head\.safetensors is damaged"),
    "other shapes": (
        lambda f: changed_tensors(
            f, ind_features=np.zeros((3, WIDTH), np.float16), negative_features=np.zeros((2, WIDTH), np.float16)
        ),
        r"ind_features has the shape \(3, 4\), head\.json says \(2, 4\)",
    ),
    "other types": (
        lambda f: changed_tensors(f, ind_features=np.zeros((2, WIDTH), np.int16)),
        "ind_features is I16, not F16",
    ),
    "a tensor too many": (
        lambda f: changed_tensors(f, **{"\x1b[2J": np.zeros(1, np.float16)}),
        r"holds \\x1b\[2J, ind_features, negative_features",
    ),
    "NaN": (lambda f: changed_tensors(f, ind_features=NAN), "ind_features holds NaN or infinities"),
    "features of length zero": (
        lambda f: changed_tensors(f, ind_features=np.zeros((2, WIDTH), np.float16)),
        r"head\.safetensors: ind_features are not of unit length",
    ),
    "features beyond any scale": (
        lambda f: changed_tensors(f, negative_features=np.full((3, WIDTH), 65504, np.float16)),
        "negative_features are not of unit length",
    ),
    "a threshold that is text": (lambda f: changed_info(f, threshold="0.5"), "threshold: Input should be a valid"),
    "a threshold that no score reaches": (
        lambda f: changed_info(f, threshold=1e308), "threshold: Input should be less than or equal to 1"
    ),
    "a threshold below every score": (
        lambda f: changed_info(f, threshold=-1e-9), "threshold: Input should be greater than or equal to 0"
    ),
    "calibration scores that are none": (
        lambda f: changed_info(f, calibration__images=2, calibration__scores=[0.5, 1e300]), "scores.1: Input should"
    ),
    "calibration scores in disorder": (
        lambda f: changed_info(f, calibration__images=2, calibration__scores=[0.5, 0.4]), "do not ascend"
    ),
    "calibration scores of other images": (
        lambda f: changed_info(f, calibration__scores=[0.5]), "1 scores are not those of 12 images"
    ),
    "a threshold that is true": (lambda f: changed_info(f, threshold=True), "threshold: Input should be a valid"),
    "groups in words": (lambda f: changed_info(f, groups="5"), "groups: Input should be a valid integer"),
    "a flag that is a number": (lambda f: changed_info(f, projection=0), "projection: Input should be a valid boolean"),
    "a TPR of 5": (lambda f: changed_info(f, calibration__tpr=5.0), r"calibration\.tpr: Input should be less than"),
    "a calibration on fewer than no images": (
        lambda f: changed_info(f, calibration__images=-1), r"calibration\.images: Input should be greater than"
    ),
    "an interval beyond 1": (lambda f: changed_info(f, calibration__high=2.0), r"calibration\.high: Input should be"),
    "a label of a million letters": (lambda f: label(f, "a" * 10**6), r"ind_labels\.0\.text: has 1,000,000 characters"),
    "a label without letters": (lambda f: label(f, " "), "a label has no text"),
    "infinity": (lambda f: changed_tensors(f, ind_features=NAN * 0 + np.inf), "ind_features holds NaN or infinities"),
    "a CLIP by path": (clip(name="/etc", pretrained=None), "the CLIP '/etc' is not named as any machine could find it"),
    "a CLIP by relative path": (clip(name="../clip", pretrained=None), "is not named as any machine"),
    "a CLIP in the home folder": (clip(name="~root/clip", pretrained=None), "is not named as any machine"),
    "a CLIP in a local folder": (clip(name="local-dir:x", pretrained=None), "is not named as any machine"),
    "a CLIP by another scheme": (clip(name="hf-hub:org/clip", pretrained=None), "is not named as any machine"),
    "a CLIP of any revision": (clip(revision=None), "is not named as any machine"),
    "a CLIP that is another adapter": (clip(adapter="transformers"), "is not named as any machine"),
    "a CLIP on a server": (clip(url="http://x"), "is not named as any machine"),
    "weights by path": (clip(pretrained="/tmp/x.pt"), "is not named as any machine"),
    "weights of another digest": (clip(pretrained=f"sha256:{'0' * 64}"), "is not named as any machine"),
    "a CLIP of another digest": (clip(name=f"sha256:{'0' * 64}", pretrained=None), "is not named as any machine"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_head_is_refused_with_a_message(files: Files, tmp_path: Path, case: str) -> None:
    change, message = HOSTILE[case]
    folder = write_files(tmp_path / "given", change(files))
    with pytest.raises(StoreError, match=message) as caught:
        foreign_head(folder, "user/head")
    assert caught.value.hint


def test_an_honest_head_is_not(files: Files, tmp_path: Path) -> None:
    head = foreign_head(write_files(tmp_path / "given", files), "user/head")
    assert head.tensors["ind_features"].shape == (2, WIDTH)


@pytest.mark.parametrize("name", ["head.json", "head.safetensors"])
def test_a_missing_file_or_a_folder_in_its_place(files: Files, tmp_path: Path, name: str) -> None:
    folder = write_files(tmp_path / "given", files)
    (folder / name).unlink()
    for _ in range(2):
        with pytest.raises(StoreError, match=f"user/head has no {name}"):
            foreign_head(folder, "user/head")
        (folder / name).mkdir(exist_ok=True)


@pytest.mark.parametrize("name", ["head.json", "head.safetensors"])
@pytest.mark.parametrize("address", [foreign_head, lambda folder, where: fetch_head(str(folder), unpublished=True)])
def test_special_files_are_not_opened_as_heads(files: Files, tmp_path: Path, name: str, address) -> None:
    for number, special in enumerate(["pipe", "device", "folder"]):
        folder = write_files(tmp_path / f"given {number}", files)
        (folder / name).unlink()
        if special == "pipe":
            os.mkfifo(folder / name)
        elif special == "device":
            (folder / name).symlink_to("/dev/zero")
        else:
            (folder / name).mkdir()
        with pytest.raises(StoreError, match=f"{name}.*: it is a (pipe|folder)|cannot read"):
            address(folder, "user/head")


@pytest.mark.parametrize("address", ["./" + "a" * 5000, "./a\0b", "/dev/null", "./nothing"])
def test_a_folder_that_cannot_be(address: str) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        fetch_head(address)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: label(f, "\x1b[2J"), "holds control characters"),
        (lambda f: label(f, "a" * 5000), "has 5,000 characters"),
        (lambda f: label(f, " "), "a label has no text"),
        (lambda f: changed_info(f, negative_labels=[]), "negative_labels: Tuple should have at least 1 item"),
        (lambda f: changed_tensors(f, ind_features=np.eye(2, WIDTH, dtype=np.float32) * 9), "are not of unit length"),
    ],
)
def test_a_head_that_nobody_published_holds_what_a_head_holds(
    files: Files, tmp_path: Path, change: Change, message: str
) -> None:
    files = changed_tensors(
        files, **{name: t.astype(np.float32) for name, t in load(files["head.safetensors"]).items()}
    )
    folder = write_files(tmp_path / "given", change(files))
    document = json.loads((folder / "head.json").read_bytes())
    del document["publication"]
    (folder / "head.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match=message):
        fetch_head(str(folder), unpublished=True)


def test_a_head_as_it_lies_in_a_workspace_is_no_head_for_others(store, head) -> None:
    with pytest.raises(StoreError, match="it was taken out of a workspace as it was") as caught:
        foreign_head(head.folder, "head")
    assert caught.value.hint == "synood push HEAD ./FOLDER writes a head for others"
