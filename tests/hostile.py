"""Models that try to run code. Each payload writes a file; nothing ran when that file does not exist."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

from hub_server import Hub

MARKER = "it-ran"


def code(marker: Path) -> bytes:
    """A Python module that leaves a mark when it is imported, and has a class of every name that may be asked for."""
    names = ("Evil", "EvilTokenizer", "EvilProcessor", "EvilConfig", "EvilModel", "EvilPipeline", "EvilScheduler")
    classes = "".join(
        f"class {name}:\n    @classmethod\n    def from_pretrained(cls, *a, **k):\n        return cls()\n"
        for name in names
    )
    return f"open({str(marker)!r}, 'w').write('imported')\n{classes}".encode()


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def pickled(marker: Path) -> bytes:
    """A pickle that leaves a mark when it is loaded."""
    return pickle.dumps(_Payload(marker))


def auto_map(marker_module: str = "evil") -> dict[str, Any]:
    """Names of code beside the model, for every class that transformers may look for."""
    return {
        "auto_map": {
            "AutoConfig": f"{marker_module}.EvilConfig",
            "AutoModel": f"{marker_module}.EvilModel",
            "AutoModelForImageTextToText": f"{marker_module}.EvilModel",
            "AutoProcessor": f"{marker_module}.EvilProcessor",
            "AutoImageProcessor": f"{marker_module}.EvilProcessor",
            "AutoTokenizer": [f"{marker_module}.EvilTokenizer", f"{marker_module}.EvilTokenizer"],
        },
        "trust_remote_code": True,
    }


def merged(folder: Path, name: str, **changed: Any) -> None:
    """Change settings in a JSON file of `folder`."""
    document = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**document, **changed}))


def files_in(folder: Path) -> dict[str, bytes]:
    """The files below `folder`, as a repository of the hub has them."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def fetched(hub: Hub, repository: str) -> list[str]:
    """The files of a repository that were asked for, by name."""
    prefix = f"/{repository}/resolve/"
    paths = (asked.split(" ")[1] for asked in hub.requests)
    return sorted({path.removeprefix(prefix).partition("/")[2] for path in paths if path.startswith(prefix)})
