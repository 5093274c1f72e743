"""A head from elsewhere names a CLIP: nothing of it runs, and one that is not known is not loaded unasked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_line import run_synood

from hostile import code, fetched, files_in, merged, pickled
from hub_server import Hub
from pipeline import photograph
from published import changed_info
from synood_cli import Detector
from synood_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from checkpoints import Checkpoints

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> Path:
    """A published head in `shared`, of the CLIP in `clip`; photographs beside it."""
    root = tmp_path_factory.mktemp("foreign_clips")
    shutil.copytree(checkpoints.clip, root / "clip")
    for class_name in ("cat", "dog"):
        for number in range(3):
            photograph(root / "photos" / class_name / f"{number}.jpg", number, detail=number + 1)
    (root / "candidates.txt").write_text("\n".join(f"thing {n}" for n in range(20)))
    run_synood("init", root / "ws")
    for command in (
        ["select", root / "photos", "--per-class", "3"],
        ["mine-labels", "--clip", root / "clip", "--candidates", root / "candidates.txt", "--share", "0.5"],
        ["push", "head@1", root / "shared"],
    ):
        ended = run_synood(*command, "-w", root / "ws")
        assert (ended.code, ended.err if ended.code else "") == (0, "")
    return root


@pytest.fixture
def other(tmp_path: Path) -> Path:
    run_synood("init", tmp_path / "other")
    return tmp_path / "other"


def publish(hub: Hub, study: Path, clip: Files) -> str:
    """`user/head` on the hub, of the CLIP in `user/clip`; the commit of that CLIP."""
    commit = hub.publish("user/clip", clip)
    model = {"adapter": "open_clip", "name": "user/clip", "pretrained": None, "revision": commit, "url": None}
    hub.publish("user/head", changed_info(files_in(study / "shared"), clip__model=model))
    return commit


def commands(study: Path, other: Path) -> list[list[str | Path]]:
    """Every command that loads the CLIP of a head."""
    photos, sets = study / "photos", ["--ood", f"far={study / 'photos'}", "--bootstrap", "0"]
    device = ["--device", "cpu", "-w", other]
    return [
        ["score", photos, "--head", "user/head", *device],
        ["score", photos, "--head", "head@1", *device],
        ["score", photos, "--head", "head@1", "-o", other / "scores.csv", *device],
        ["eval", "--ind", photos, *sets, "--head", "user/head", *device],
        ["eval", "--ind", photos, *sets, *device],
        ["calibrate", "head@1", photos, *device],
        ["export", "onnx", "head@1", other / "head.onnx", "-w", other],
        ["export", "onnx", "user/head", other / "head.onnx", "-w", other],
    ]


def test_a_clip_that_is_not_known_is_not_fetched_unless_it_is_trusted(hub: Hub, study: Path, other: Path) -> None:
    publish(hub, study, files_in(study / "clip"))
    ended = run_synood("pull", "user/head", "-w", other)
    assert ended.code == 0
    assert "user/clip" in ended.err
    assert "not a known one" in ended.err
    for command in commands(study, other):
        ended = run_synood(*command)
        assert (command, ended.code) == (command, 2)
        assert "user/clip (commit" in ended.err
        assert "--trust-clip" in ended.err
    with pytest.raises(UsageError, match="not a known one"):
        Detector.from_pretrained("user/head", device="cpu")
    assert fetched(hub, "user/clip") == []


def test_trust_is_said_by_a_flag_by_the_clips_name_or_once_for_a_workspace(
    hub: Hub, study: Path, other: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commit = publish(hub, study, files_in(study / "clip"))
    score = commands(study, other)[0]
    stream = [*score, "--format", "csv"]
    for said in (["--trust-clip"], ["--clip", "user/clip"], ["--clip", f"user/clip@{commit}"]):
        ended = run_synood(*stream, *said)
        assert (said, ended.code) == (said, 0)
        assert "user/head belongs to the CLIP user/clip (commit" in ended.err
        assert "you chose it" in ended.err
    assert run_synood(*stream, "--clip", "user/another").code == 2
    detector = Detector.from_pretrained("user/head", trust_clip=True, device="cpu")
    assert "user/clip" in caplog.text
    assert len(detector.score([study / "photos" / "cat" / "0.jpg"])) == 1
    assert run_synood("pull", "user/head", "--trust-clip", "-w", other).code == 0
    for command in commands(study, other)[:6]:
        ended = run_synood(*command)
        assert (command, ended.code, "you chose it" in ended.err) == (command, 0, True)
    # What was made of it belongs to the same CLIP.
    ended = run_synood("score", study / "photos", "--head", "head@2", "--device", "cpu", "-w", other)
    assert (ended.code, "you chose it" in ended.err) == (0, True)


def test_heads_of_ones_own_need_nothing(study: Path) -> None:
    ended = run_synood("score", study / "photos", "--device", "cpu", "-w", study / "ws")
    assert (ended.code, "CLIP" in ended.err) == (0, False)
    [own] = (study / "ws").rglob("head@1")
    ended = run_synood("score", study / "photos", "--head", own, "--device", "cpu", "-w", study / "ws")
    assert (ended.code, "CLIP" in ended.err) == (0, False)


def hostile_tokenizer(folder: Path, marker: Path) -> None:
    """A tokenizer whose code is beside it, which open_clip would have transformers import."""
    settings = {"hf_tokenizer_name": "user/clip", "tokenizer_kwargs": {"trust_remote_code": True}}
    merge_text(folder, settings)
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", null]}}')
    (folder / "evil.py").write_bytes(code(marker))


def hostile_text_model(folder: Path, marker: Path) -> None:
    merge_text(folder, {"hf_model_name": "user/clip", "hf_model_pretrained": True})
    (folder / "config.json").write_text('{"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig"}}')
    (folder / "evil.py").write_bytes(code(marker))


def hostile_trunk(folder: Path, marker: Path) -> None:
    merge_model(folder, vision_cfg={"image_size": 32, "timm_model_name": "hf-hub:user/clip"})
    (folder / "evil.py").write_bytes(code(marker))


def hostile_pickle(folder: Path, marker: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    for name in ("open_clip_pytorch_model.bin", "pytorch_model.bin", "open_clip_model.pt", "model.pth"):
        (folder / name).write_bytes(pickled(marker))


def disguised_pickle(folder: Path, marker: Path) -> None:
    (folder / "open_clip_model.safetensors").write_bytes(pickled(marker))


def merge_model(folder: Path, **changed: object) -> None:
    document = json.loads((folder / "open_clip_config.json").read_text())
    merged(folder, "open_clip_config.json", model_cfg={**document["model_cfg"], **changed})


def merge_text(folder: Path, changed: dict[str, object]) -> None:
    document = json.loads((folder / "open_clip_config.json").read_text())
    merge_model(folder, text_cfg={**document["model_cfg"]["text_cfg"], **changed})


@pytest.mark.parametrize(
    "attack", [hostile_tokenizer, hostile_text_model, hostile_trunk, hostile_pickle, disguised_pickle]
)
def test_nothing_of_a_hostile_clip_runs_even_when_it_is_trusted(
    hub: Hub, study: Path, other: Path, tmp_path: Path, attack: object
) -> None:
    assert callable(attack)
    marker = tmp_path / "it-ran"
    folder = tmp_path / "hostile"
    shutil.copytree(study / "clip", folder)
    attack(folder, marker)
    publish(hub, study, files_in(folder))
    score = [study / "photos", "--head", "user/head", "--trust-clip", "--format", "csv", "--device", "cpu"]
    ended = run_synood("score", *score, "-w", other)
    assert (ended.code, "error: " in ended.err, "this is a bug" in ended.err) == (1, True, False)
    with pytest.raises(ModelError):
        Detector.from_pretrained("user/head", trust_clip=True, device="cpu")
    run_synood("select", study / "photos", "--per-class", "1", "-w", other)
    for clip in ("user/clip", str(folder)):
        ended = run_synood("mine-labels", "--clip", clip, "--candidates", study / "candidates.txt", "-w", other)
        assert (ended.code, "this is a bug" in ended.err) == (1, False)
    assert not marker.exists()
    assert not {name for name in fetched(hub, "user/clip") if name.endswith((".py", ".bin", ".pt", ".pth"))}


def test_code_beside_a_sound_clip_is_neither_fetched_nor_run(
    hub: Hub, study: Path, other: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "it-ran"
    clip = files_in(study / "clip")
    extras = {name: code(marker) for name in ("evil.py", "__init__.py", "tokenization_clip.py")}
    publish(hub, study, {**clip, **extras, "open_clip_pytorch_model.bin": pickled(marker)})
    ended = run_synood(*commands(study, other)[0], "--trust-clip", "--format", "csv")
    assert ended.code == 0
    assert fetched(hub, "user/clip") == ["open_clip_config.json", "open_clip_model.safetensors"]
    assert not marker.exists()
