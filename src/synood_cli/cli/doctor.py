"""`synood doctor`: what this machine offers, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from synood_cli import __version__
from synood_cli.cli.command import plain_command
from synood_cli.cli.options import WorkspaceOption
from synood_cli.cli.output import Output
from synood_cli.config import Models
from synood_cli.errors import SynoodError, UsageError
from synood_cli.records import ModelSpec
from synood_cli.settings_file import Config
from synood_cli.store.workspace import ENVIRONMENT, Workspace

LIBRARIES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "diffusers",
    "transformers",
    "accelerate",
    "timm",
    "safetensors",
    "huggingface_hub",
    "sqlite-utils",
    "pydantic",
    "typer",
)
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth"}


@plain_command()
def doctor(output: Output, workspace: WorkspaceOption = None) -> None:
    """Show versions, devices, caches, the workspace, and which models are on this machine."""
    config, place = _workspace(workspace)
    versions, devices, hub, models = _versions(), _devices(), _hub(), _models(config)
    output.document({"versions": versions, "devices": devices, "hub": hub, "workspace": place, "models": models})
    output.fields(versions)
    output.table(["device", "name", "memory"], [(d["device"], d["name"], _gib(d["bytes"])) for d in devices])
    output.fields({**hub, **{key: _shown(key, value) for key, value in place.items()}})
    output.table(["model", "name", "where"], [(m["role"], m["name"], m["where"]) for m in models])


def _versions() -> dict[str, str]:
    versions = {"synood": __version__, "python": platform.python_version(), "system": platform.platform()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "missing"
    return versions


def _devices() -> list[dict[str, Any]]:
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    name = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    devices: list[dict[str, Any]] = [{"device": "cpu", "name": name, "bytes": memory}]
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        devices.append({"device": f"cuda:{index}", "name": found.name, "bytes": found.total_memory})
    if torch.backends.mps.is_available():
        devices.append({"device": "mps", "name": "Apple GPU", "bytes": memory})
    return devices


def _hub() -> dict[str, str]:
    from huggingface_hub import constants

    offline = "set: nothing is downloaded" if constants.HF_HUB_OFFLINE else "not set"
    return {"model cache": str(constants.HF_HUB_CACHE), "HF_HUB_OFFLINE": offline}


def _workspace(given: Path | None) -> tuple[Config, dict[str, Any]]:
    """The settings, and the state of the workspace; without one, all defaults and the free space here."""
    from synood_cli.store.store import Store

    try:
        workspace = Workspace.find(given)
    except UsageError:
        if given or os.environ.get(ENVIRONMENT):
            raise
        return Config({}, "no workspace"), {"workspace": None, "free": shutil.disk_usage(Path.cwd()).free}
    config = workspace.config()
    try:
        with Store.open(workspace, write=False) as store:
            complete = sum(artifact.status == "complete" for artifact in store.artifacts())
            state = f"{complete} complete artifacts, {len(store.artifacts()) - complete} unfinished"
    except SynoodError as error:
        state = f"error: {error.message}"
    return config, {
        "workspace": str(workspace.root),
        "state": state,
        "free": shutil.disk_usage(workspace.root).free,
    }


def _models(config: Config) -> list[dict[str, str]]:
    models: Models = config.models({})
    specs = {
        "clip": models.clip_spec(),
        "captioner": models.captioner_spec(),
        "inpainter": models.inpainter_spec(),
        "classifier": models.classifier_spec(),
    }
    return [{"role": role, "name": spec.name, "where": _where(spec)} for role, spec in specs.items()]


def _where(spec: ModelSpec) -> str:
    if spec.adapter == "clip-tags":
        return "made of the CLIP"
    if spec.url is not None:
        return f"server {spec.url}"
    if spec.folder is not None:
        return "local folder"
    if spec.name.startswith(("local-dir:", "/", ".", "~")):
        return "no such folder"
    repository = _repository(spec)
    return "model cache" if repository and _cached(repository) else "not on this machine: downloaded when needed"


def _repository(spec: ModelSpec) -> str | None:
    """The hub repository that a model comes from; None where the library has another source."""
    if "/" in spec.name:
        return spec.name.removeprefix("hf-hub:")
    if spec.adapter == "timm":
        return f"timm/{spec.name}"
    from open_clip import get_pretrained_cfg

    return str(get_pretrained_cfg(spec.name, spec.pretrained or "").get("hf_hub", "")).strip("/") or None


def _cached(repository: str) -> bool:
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.file_download import repo_folder_name

    try:
        name = repo_folder_name(repo_id=repository, repo_type="model")
    except HFValidationError:  # no hub has a repository of that name
        return False
    folder = Path(constants.HF_HUB_CACHE) / name / "snapshots"
    return any(path.suffix in WEIGHTS for path in folder.rglob("*"))


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _shown(key: str, value: Any) -> str:
    return _gib(value) if key == "free" else "none here or above" if value is None else str(value)
