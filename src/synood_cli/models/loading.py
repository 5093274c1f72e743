"""What loading a model has in common, whichever library does it: where it lies, quiet, and errors a user can act on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from synood_cli.errors import ModelError, SynoodError, UsageError
from synood_cli.models.hub_files import hub_id
from synood_cli.models.model_files import settings
from synood_cli.records import ModelSpec, Precision, local, printable

P = ParamSpec("P")
T = TypeVar("T")

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GRADIENT_DTYPES: dict[Precision, torch.dtype] = {**DTYPES, "fp16": torch.float32}
"""For what is differentiated: gradients underflow in fp16."""


def choose_device(wanted: str) -> str:
    """The device that `wanted` means: "auto" is the first of cuda, mps and cpu that is there.

    Raises UsageError for an unknown device, or one that this machine lacks.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UsageError(f"there is no device {wanted!r}", hint="use auto, cpu, cuda, cuda:N or mps") from error
    present = {"cpu": True, "cuda": cuda and (device.index or 0) < torch.cuda.device_count(), "mps": mps}
    if not present.get(device.type, False):
        raise UsageError(f"device {wanted!r} is not available here", hint="use --device auto, or see `synood doctor`")
    return wanted


def precise_device(device: str) -> str:
    """`device`, or the CPU in the place of one without double precision (mps)."""
    return "cpu" if torch.device(device).type == "mps" else device


def folder_kind(folder: Path) -> str | None:
    """The library whose format `folder` is in (open_clip, diffusers, timm or transformers), or None."""
    if (folder / "open_clip_config.json").is_file():
        return "open_clip"
    if (folder / "model_index.json").is_file():
        return "diffusers"
    try:
        config = settings(folder, "config.json")
    except ModelError:
        return None
    return "transformers" if "model_type" in config else "timm" if "architecture" in config else None


@contextmanager
def loading(spec: ModelSpec, role: str, library: str) -> Iterator[None]:
    """Within: `library` may load `spec` as a `role` ("CLIP encoder", …), without chatter.

    Raises ModelError, with the library's own error as its cause, when the folder does not exist, is in another
    library's format or incomplete, or when the hub does not give the model.
    """
    _check_folder(spec, role, library)
    root = logging.getLogger()
    # open_clip logs with `logging.info` & co., which would otherwise give the root logger a handler for good.
    silence = logging.NullHandler()
    root.addHandler(silence)
    _quieten()
    try:
        yield
    except SynoodError:
        raise
    except Exception as error:
        logging.getLogger(__name__).debug("cannot load %s", spec.name, exc_info=True)
        raise ModelError(
            f"cannot load {spec.name!r:.200} as {role}: {said_by(error)}", hint=_what_next(spec, role, library)
        ) from error
    finally:
        root.removeHandler(silence)


def computes(role: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Marks a method of an adapter (with its `spec`) in which a model from elsewhere computes: whatever its settings
    make it fail at, but for memory, is a ModelError that names it."""

    def mark(method: Callable[P, T]) -> Callable[P, T]:
        @wraps(method)
        def computed(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return method(*args, **kwargs)
            except (SynoodError, MemoryError):
                raise
            except Exception as error:
                if "memory" in str(error):  # torch has no class of its own for it on the CPU
                    raise
                name = args[0].spec.name  # type: ignore[attr-defined]
                logging.getLogger(__name__).debug("%s fails", name, exc_info=True)
                raise ModelError(
                    f"the {role} {name!r:.200} fails: {said_by(error)}",
                    hint="its settings and weights do not go together: use another one; --verbose shows more",
                ) from error

        return computed

    return mark


def check_complete(name: str, report: Mapping[str, Any]) -> None:
    """Raise ModelError when the loading `report` of transformers or diffusers on the model called `name` lists weights
    that were missing, or of another shape: the library has made up some of its own."""
    name = printable(f"{name!r:.200}")
    if missing := report["missing_keys"]:
        raise ModelError(
            f"{name} lacks {len(missing)} of the model's weights, first {printable(min(missing)[:200])}",
            hint="fetch the checkpoint again, completely",
        )
    if report["mismatched_keys"]:
        weights, found, wanted = min(report["mismatched_keys"])
        raise ModelError(
            f"{name}: the weights do not fit the settings: {printable(weights[:200])} has the shape {tuple(found)}, "
            f"the settings say {tuple(wanted)}",
            hint="settings and weights belong to different models: fetch both again",
        )


def said_by(error: Exception) -> str:
    """What the error says, on one line, as far as a message has room."""
    return printable(" ".join(str(error).split())[:300]) or type(error).__name__


def _check_folder(spec: ModelSpec, role: str, library: str) -> None:
    folder = spec.folder
    if folder is None:
        exists = local(spec.name, Path.exists) is not None
        if exists or spec.name.startswith(("local-dir:", "/", ".", "~")):
            what = "is a file, not a folder" if exists else "does not exist"
            shown = printable(f"{spec.name.removeprefix('local-dir:'):.200}")
            raise ModelError(f"cannot load the {role}: {shown} {what}", hint="give a model's folder or its hub id")
    elif (kind := folder_kind(folder)) != library:
        found = f"a folder in {kind}'s format" if kind else f"no folder in {library}'s format"
        raise ModelError(f"cannot load the {role}: {folder} is {found}", hint=f"the {role} is loaded by {library}")


def _what_next(spec: ModelSpec, role: str, library: str) -> str:
    if spec.folder is not None:
        return f"check that the folder is complete, and in the format in which {library} saves the {role}"
    if spec.file is not None:
        return f"check that {printable(str(spec.file))} holds the weights of a {spec.name}"
    hub = hub_id(spec)
    fetch = f"`hf download {hub}`" if hub else "a download"
    return f"check the name and the network (is HF_HUB_OFFLINE set?); {fetch} elsewhere gives a folder that works too"


def _quieten() -> None:
    for library in ("transformers", "diffusers"):
        chatter = sys.modules.get(f"{library}.utils.logging")
        if chatter is not None:
            chatter.set_verbosity_error()
            chatter.disable_progress_bar()
    logging.getLogger("timm").setLevel(logging.ERROR)
