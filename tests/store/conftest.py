"""A workspace to write in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synood_cli.store.store import Store
from synood_cli.store.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "study")


@pytest.fixture
def store(workspace: Workspace) -> Iterator[Store]:
    with Store.open(workspace, write=True) as opened:
        yield opened
