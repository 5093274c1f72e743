"""A workspace and photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run_synood

from pipeline import photograph
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
        for number in range(3):
            photograph(root / class_name / f"{number}.jpg", number, size=(16, 16), detail=number + 1)
    return root


@pytest.fixture
def bad_photo(photos: Path) -> Path:
    path = photos / "cat/bad.jpg"
    path.write_bytes(b"no picture")
    return path
