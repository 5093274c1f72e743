"""The files of a model: which ones are read, that they are where they belong, and nothing else for a library to find.

A model's folder comes from others, whether it was fetched or copied. A library that is given such a folder finds more
in it than weights: Python files that its settings name, pickles beside the safetensors, adapters that name further
repositories, indexes that name any file of the machine. So a library is given a folder of our own (`shown`) instead,
which holds the files that a model of its kind needs: weights as safetensors, settings as `cleaned`.
"""

from __future__ import annotations

import json
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from synood_cli.errors import ModelError
from synood_cli.models.hub_files import MAX_FILE_BYTES, fetch_files, hub_id
from synood_cli.records import ModelSpec, printable

TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model"),
)
"""What a tokenizer is made of."""

TRANSFORMERS_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
DIFFUSERS_WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model-*-of-*.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
)
TRANSFORMERS_FILES = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("video_preprocessor_config.json", "chat_template.json", "chat_template.jinja"),
    *TOKENIZER,
    *TRANSFORMERS_WEIGHTS,
)
"""What a captioner is read from."""
DIFFUSERS_FILES = (
    *("model_index.json", "scheduler/scheduler_config.json", *(f"tokenizer/{name}" for name in TOKENIZER)),
    *(f"{part}/{name}" for part in ("unet", "vae") for name in ("config.json", *DIFFUSERS_WEIGHTS)),
    *(f"text_encoder/{name}" for name in ("config.json", *TRANSFORMERS_WEIGHTS)),
)
"""What an inpainter is read from."""
_FURTHER_PARTS = ("feature_extractor", "image_encoder", "safety_checker")

FILES: dict[str, tuple[str, ...]] = {
    "open_clip": ("open_clip_config.json", "*.safetensors", *TOKENIZER, "config.json", "preprocessor_config.json"),
    "timm": ("config.json", "*.safetensors"),
    "transformers": (*TRANSFORMERS_FILES, "*.safetensors"),
    "diffusers": (
        *DIFFUSERS_FILES,
        *(f"{part}/*.safetensors" for part in ("unet", "vae", "text_encoder")),
        *(f"{part}/{name}" for part in _FURTHER_PARTS for name in ("*.json", "*.safetensors")),
    ),
}
"""By library, what belongs to a model, as patterns below its folder: the digest of a folder is taken of these files
alone, so that a README, a log or `.DS_Store` beside the weights is not another version of the model."""

MAX_SETTINGS_BYTES = 8 * 2**20
"""Largest settings file that is read; label names of 21,000 classes take 1 MB."""

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5", ".npz", ".npy")

_NAMES_SOMETHING = re.compile(
    r"auto_map|trust_remote_code|custom_\w+|(\w+_)?(files?|paths?|dir|directory|url|urls|repo|repository)"
    r"|_?attn_implementation\w*|_?experts_implementation\w*|\w*name_or_path|hf_hub_\w+|use_kernels?|kernel_config"
    r"|_commit_hash|chat_template|(torch_)?dtype|_?num_labels|id2label|label2id"
)
"""Settings that name code, a file, an address or another repository, and those of classes, whose number is anybody's
word. No model that is read here has need of any. (A chat template is rendered apart; the precision is the user's.)"""

_IS_A_PLACE = re.compile(r"[\w.-]+/[\w./-]+|[./~][\w./~-]*/.*|(hf[-_]hub|local-dir|file|https?|s3|gs):.*")
"""Values that name another repository, a path or an address."""

PLAIN_WEIGHTS = "use a checkpoint in float16, bfloat16 or float32"
"""What to do about weights that are packed."""

MAX_HEADER_BYTES = 2**24
"""Longest table of tensors of a safetensors file that is read: 1,500 tensors have some 150 kB."""

_WEIGHTS = ("weight", "bias", "proj", "projection", "embedding", "embed", "token", "gamma", "scale")
"""How names of trained weights end; what else a file holds may be whole numbers."""

Clean = Callable[[str, Any], Any]
"""From (a file's name, its JSON document) to the document that the library is shown."""


def existing(folder: Path, patterns: Sequence[str]) -> list[str]:
    """The files below `folder` that the patterns name, sorted, without those that are hidden. Never looks deeper than
    the patterns do: the folder may be anything."""
    found = {path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)}
    return sorted(name for name in found if not any(part.startswith(".") for part in name.split("/")))


def fetched(spec: ModelSpec, patterns: Sequence[str]) -> Path:
    """The folder that `spec` names, or of a hub repository the local snapshot with the files of these patterns.

    Raises ModelError when the hub does not give them.
    """
    repository = hub_id(spec)
    folder = spec.folder
    if folder is None and repository is not None:
        folder = fetch_files(repository, spec.revision, patterns)
    if folder is None:
        raise ModelError(f"{printable(spec.name)!r} is neither a folder nor a hub id", hint="org/repository")
    return folder


def inside(folder: Path, name: str) -> Path:
    """The real place of the file `name` of `folder`. Raises ModelError when it is no regular file, or when a link
    leads out of the folder (out of the repository's own blobs, for a snapshot in the hub's cache)."""
    path = folder / name
    try:
        real = path.resolve(strict=True)
        regular = stat.S_ISREG(real.stat().st_mode)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{_shown(path)} cannot be read: {_reason(error)}", hint="fetch the model again") from error
    home = folder.resolve()
    homes = [home, *([home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [])]
    if not any(real.is_relative_to(place) for place in homes):
        raise ModelError(
            f"{_shown(path)} is a link to a file outside of the model's folder",
            hint="a model is read from its own folder only: put a copy of the file there",
        )
    if not regular:
        raise ModelError(f"{_shown(path)} is not a regular file", hint="fetch the model again")
    return real


def settings(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in the file `name` of `folder`. Raises ModelError for anything else."""
    path = inside(folder, name)
    where = _shown(folder / name)
    if (size := path.stat().st_size) > MAX_SETTINGS_BYTES:
        raise ModelError(
            f"{where} has {size:,} bytes; settings have {MAX_SETTINGS_BYTES:,} at most", hint="fetch the model again"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is not JSON: {_reason(error)}", hint="fetch the model again") from error
    if not isinstance(document, dict):
        raise ModelError(f"{where} is not a JSON object", hint="fetch the model again")
    return document


def weights(folder: Path, preferred: Sequence[str] = ()) -> Path:
    """The safetensors file of `folder`: the first of `preferred` that exists, else the only one.

    Raises ModelError when there is none, and of several when none is preferred.
    """
    found = existing(folder, ["*.safetensors"])
    chosen = next((name for name in preferred if name in found), found[0] if len(found) == 1 else None)
    if chosen is not None:
        check_header(folder, chosen)
        return folder / chosen  # by its name: libraries tell a format by the ending, which the hub's blobs lack
    if found:
        raise ModelError(
            f"{_shown(folder)} holds several weights: {', '.join(map(printable, found[:5]))}",
            hint=f"keep one of them, or call it {preferred[0] if preferred else 'model.safetensors'}",
        )
    raise no_weights(folder)


def check_header(folder: Path, name: str) -> None:
    """Raise ModelError for a safetensors file `name` of `folder` that is damaged, or whose weights are no
    floating-point numbers, which libraries take without a word; and for one whose table of tensors, at its beginning,
    is longer than MAX_HEADER_BYTES: that of a million tensors takes a minute to read, that of a pickle has no end."""
    path = inside(folder, name)
    where = _shown(folder / name)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ModelError(
                f"{where} is no safetensors file: its table of tensors would have {length:,} bytes",
                hint="fetch the model again, from somebody you trust",
            )
        with safe_open(path, framework="np") as table:
            types = {key: table.get_slice(key).get_dtype() for key in table.keys() if key.endswith(_WEIGHTS)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{where} is damaged: {_reason(error):.200}", hint="fetch the model again, completely"
        ) from error
    for key, type_ in types.items():
        if "F" not in type_:  # F32, BF16, F8_E4M3, …
            raise ModelError(
                f"{where} holds weights that are no floating-point numbers: {printable(key[:80])} is {type_}",
                hint=PLAIN_WEIGHTS,
            )


def no_weights(folder: Path) -> ModelError:
    """What to say of a folder without safetensors."""
    pickles = [path.name for path in sorted(folder.glob("*")) if path.suffix in _PICKLES]
    if pickles:
        return ModelError(
            f"{_shown(folder)} holds its weights as {printable(pickles[0])} only: such files can run code, and are not "
            "read",
            hint="get the weights as safetensors: from the model's author, or converted where you trust the file",
        )
    return ModelError(f"{_shown(folder)} holds no weights", hint="expected a .safetensors file in it")


@contextmanager
def shown(folder: Path, patterns: Sequence[str], clean: Clean | None = None) -> Iterator[Path]:
    """A folder of our own with the files of `folder` that `patterns` name: settings (JSON objects) as `clean` makes
    them (default: `cleaned`), everything else as links to the files themselves. It is gone after the block.

    Raises ModelError for a file that is not inside the folder, or that its own settings do not let be.
    """
    with tempfile.TemporaryDirectory(prefix="synood-model-") as temporary:
        view = Path(temporary)
        for name in existing(folder, patterns):
            target = view / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if _is_settings(name):
                document = settings(folder, name)
                if name.endswith(".index.json"):
                    document = _checked_index(folder, name, document)
                target.write_text(json.dumps((clean or cleaned)(name, document)), encoding="utf-8")
            else:
                file = inside(folder, name)
                if name.endswith(".safetensors"):
                    check_header(folder, name)
                elif (size := file.stat().st_size) > MAX_FILE_BYTES:
                    raise ModelError(
                        f"{_shown(folder / name)} has {size:,} bytes; such a file has {MAX_FILE_BYTES:,} at most"
                    )
                target.symlink_to(file)
        yield view


def cleaned(name: str, document: Any) -> Any:
    """`document` without any setting that names code, a file, an address or another repository, at whatever depth.

    Raises ModelError for quantised weights, which further libraries would have to unpack.
    """
    if isinstance(document, list):
        return [cleaned(name, value) for value in document]
    if not isinstance(document, dict):
        return document
    if any(document.get(key) is not None for key in ("quantization_config", "compression_config")):
        raise ModelError(
            f"{printable(name)}: the weights are quantised, and only plain ones are read", hint=PLAIN_WEIGHTS
        )
    return {
        key: value if key in _TABLES else cleaned(name, value)
        for key, value in document.items()
        if key in _TABLES or not (_NAMES_SOMETHING.fullmatch(str(key).lower()) or _is_place(name, value))
    }


_TABLES = ("label_names", "label_descriptions", "weight_map")
"""Settings whose keys and values are data."""


def _is_place(name: str, value: Any) -> bool:
    """Whether a value of the file `name` names a place; tokens, such as "a/b", do not."""
    return isinstance(value, str) and "token" not in name and _IS_A_PLACE.fullmatch(value) is not None


def _is_settings(name: str) -> bool:
    """Whether a file holds settings; the others ending in .json are tables of tokens, which are data."""
    return name.endswith(".json") and name.rpartition("/")[2] not in ("tokenizer.json", "vocab.json")


def _checked_index(folder: Path, name: str, document: dict[str, Any]) -> dict[str, Any]:
    """An index of weights. Raises ModelError unless every file that it names is one beside it."""
    beside = (folder / name).parent
    table = document.get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ModelError(f"{_shown(folder / name)} lists no weights", hint="fetch the model again")
    for part in {str(value) for value in table.values()}:
        if part != Path(part).name or not part.endswith(".safetensors"):
            raise ModelError(
                f"{_shown(folder / name)} names {printable(part[:80])!r}, which is no .safetensors file beside it",
                hint="fetch the model again, from somebody you trust",
            )
        inside(beside, part)
    return document


def _shown(path: Path) -> str:
    return printable(str(path))


def _reason(error: Exception) -> str:
    return printable(getattr(error, "strerror", None) or str(error).splitlines()[0] if str(error) else repr(error))
