"""Fixtures that every test folder may ask for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Set before torch is imported, also by the commands that tests start: tests run side by side, and threads that wait
# for each other on a busy machine make tiny models a hundred times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in its background with Ctrl-C ignored, and so would be the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from checkpoints import Checkpoints
    from hub_server import Hub
    from playground_study import PlaygroundStudy


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """Folders of four tiny models with random weights: clip, inpainter, captioner, classifier (cat, dog, frog)."""
    from checkpoints import write_all

    return write_all(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A model hub on loopback that the huggingface_hub client of this process talks to, with an empty cache and the
    right token. The client reads its settings when it is imported, which may have been in an earlier test.
    """
    from huggingface_hub import constants

    from hub_server import serving

    with serving() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE
        path = template[template.index("/{repo_id}") :]
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + path)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub cache"))
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "hub assets"))
        monkeypatch.setenv("HF_TOKEN", running.token)
        yield running


@pytest.fixture
def elsewhere() -> Iterator[Hub]:
    """Another host, as far as a client can tell: another port."""
    from hub_server import serving

    with serving() as other:
        yield other


@pytest.fixture(scope="session")
def playground_study(tmp_path_factory: pytest.TempPathFactory) -> PlaygroundStudy:
    """Scenes of the playground, and heads of its CLIP. To be read, not written to."""
    from playground_study import write_playground_study

    return write_playground_study(tmp_path_factory.mktemp("playground_study"))
