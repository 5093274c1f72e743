"""A checkpoint file that the user names for a built-in CLIP: what it must be, and which activation it is run with."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

from synood_cli.errors import ModelError
from synood_cli.records import local, printable

_QUICK_GELU = "-quickgelu"


def check_checkpoint_file(path: Path, model: str) -> None:
    """Raise ModelError for a TorchScript archive, which holds a program and not only weights: OpenAI's own `.pt` files
    (`~/.cache/clip/ViT-B-16.pt`) are such."""
    try:
        with zipfile.ZipFile(path) as archive:
            script = any("/code/" in name or name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return  # an older checkpoint, or safetensors: whoever reads it says what is wrong with it
    if script:
        raise ModelError(
            f"{printable(str(path))} is a TorchScript archive, as OpenAI publishes its CLIPs: a program with weights, "
            "and programs are not loaded",
            hint=f"OpenAI's weights are `--clip {model.removesuffix(_QUICK_GELU)} --pretrained openai`; any other "
            "archive that you trust becomes a checkpoint by "
            "torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), 'checkpoint.pt')",
        )


def activation_note(model: str, pretrained: str | None) -> str | None:
    """Which activation a checkpoint file is run with, where open_clip has the model with either; None elsewhere: a
    weight tag brings its own. Imports no open_clip."""
    if pretrained is None or local(pretrained, Path.is_file) is None:
        return None
    plain = model.removesuffix(_QUICK_GELU)
    if not _known(plain) or not _known(plain + _QUICK_GELU):
        return None
    quick = model.endswith(_QUICK_GELU)
    here, there = ("QuickGELU", "GELU") if quick else ("GELU", "QuickGELU")
    other = plain if quick else plain + _QUICK_GELU
    return (
        f"a checkpoint file does not say its activation: {model} runs it with {here}; weights that were trained with "
        f"{there}{'' if quick else ' (all that come from OpenAI were)'} need --clip {other}"
    )


def _known(model: str) -> bool:
    """Whether open_clip has settings for a model of that name."""
    found = find_spec("open_clip")
    if found is None or found.origin is None or "/" in model:
        return False
    return (Path(found.origin).parent / "model_configs" / f"{model}.json").is_file()
