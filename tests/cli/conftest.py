"""A workspace and photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run_synood
from PIL import Image

from synood_cli.store.workspace import ENVIRONMENT


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    run_synood("init", tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of three photographs, and one file that is none."""
    root = tmp_path / "photos"
    for class_name in ("cat", "dog"):
        (root / class_name).mkdir(parents=True)
        for number in range(3):
            picture = Image.effect_noise((16, 16), 20.0 * (number + 1)).convert("RGB")
            picture.save(root / class_name / f"{number}.jpg")
    return root


@pytest.fixture
def bad_photo(photos: Path) -> Path:
    path = photos / "cat/bad.jpg"
    path.write_bytes(b"no picture")
    return path
