"""A sweep file: which variants of the pipeline to compare, over which seeds and numbers of images."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, ValidationError

from synood_cli.config import Recipe
from synood_cli.errors import UsageError
from synood_cli.records import Record, printable
from synood_cli.settings_file import Config
from synood_cli.toml_file import read_toml

Training = Literal["train-proj", "train-labels"]
Share = Annotated[str, Field(pattern=r"^(\d{1,2}|100)%$")]
Amount = Annotated[int, Field(ge=1)] | Share
"""A number of images, or a share of the captioned ones such as "20%"."""

STAGES = ("mine-labels", "synthesize", "train-proj", "train-labels", "eval")
"""What a sweep runs, and so what it may set; it begins with captions that are there."""


class Overrides(Record):
    """Settings as in synood.toml, which they override, and the trainings of the head, in their order."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"))

    recipe: Recipe | None = None
    train: tuple[Training, ...] | None = None
    models: dict[str, Any] = Field(default_factory=dict)
    synthesize: dict[str, Any] = Field(default_factory=dict)
    mine_labels: dict[str, Any] = Field(default_factory=dict)
    train_proj: dict[str, Any] = Field(default_factory=dict)
    train_labels: dict[str, Any] = Field(default_factory=dict)
    eval: dict[str, Any] = Field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """What is said, as synood.toml says it."""
        said = self.model_dump(by_alias=True, include={"recipe", "models", *(s.replace("-", "_") for s in STAGES)})
        return {key: value for key, value in said.items() if value}


class Variant(Overrides):
    """One row of the table to be made."""

    name: str = Field(min_length=1)


class SweepFile(Record):
    """A whole file. Each variant is combined with each point of the grid, each of `m` and each of the seeds."""

    title: str = ""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1)
    m: tuple[Amount, ...] = ()
    base: Overrides = Overrides()
    variants: tuple[Variant, ...] = ()
    grid: dict[str, dict[str, Annotated[list[Any], Field(min_length=1)]]] = Field(default_factory=dict)


class Cell(NamedTuple):
    """One head to be made and evaluated: `m` images at most are trained on (None = all)."""

    variant: str
    m: int | None
    seed: int
    train: tuple[Training, ...]
    config: Config

    @property
    def label(self) -> str:
        """What names the cell in its sweep."""
        m = "" if self.m is None else f"m={self.m}, "
        return f"{self.variant} ({m}seed {self.seed})"


def shipped_sweeps() -> dict[str, Path]:
    """The sweep files that come with the package, by name."""
    folder = Path(str(files("synood_cli.stages").joinpath("sweeps")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def sweep_path(name: str) -> Path:
    """The file `name`, or the one that comes with the package under that name. Raises UsageError with near names."""
    shipped = shipped_sweeps()
    path = shipped.get(name, Path(name))
    if not path.is_file():
        near = difflib.get_close_matches(name, shipped, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"a file, or one of {', '.join(shipped)}"
        raise UsageError(f"there is no sweep {name!r}", hint=hint)
    return path


def read_sweep(path: Path) -> SweepFile:
    """The sweep that `path` describes. Raises UsageError naming the file, the key and a near name."""
    try:
        return SweepFile.model_validate(read_toml(path))
    except FileNotFoundError as error:
        raise UsageError(f"there is no sweep file {path}", hint="the file to read comes first") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = [printable(str(part)) for part in first["loc"]]
        if first["type"] != "extra_forbidden":
            raise UsageError(f"{path}: {'.'.join(place)}: {first['msg']} (got {first['input']!r})") from error
        known = _keys({"base": Overrides, "variants": Variant}.get(place[0], SweepFile) if place[1:] else SweepFile)
        raise UsageError(f"{path}: {'.'.join(place)}: unknown key", hint=_hint(place[-1], known)) from error


def said_instead(file: SweepFile, seeds: Sequence[int] | None, m: Sequence[str] | None) -> SweepFile:
    """The sweep with seeds and numbers of images from the command line, where there are any.

    Raises UsageError for what is neither a number nor a share."""
    amounts = [int(said) if said.isdecimal() else said for said in m or ()]
    said = {**({"seeds": seeds} if seeds else {}), **({"m": amounts} if amounts else {})}
    try:
        return SweepFile.model_validate({**file.model_dump(by_alias=True), **said})
    except ValidationError as error:
        wrong = error.errors()[0]["input"]
        raise UsageError(f"--m {wrong}: not a number of images", hint="such as --m 50 or --m 20%") from error


def cells(file: SweepFile, path: Path, config: Config, captioned: int) -> list[Cell]:
    """The cells of the sweep, all of the first seed before those of the next, so that a table soon has all its rows.

    `config`: the workspace's settings, which the file overrides. `captioned`: how many images there are. All settings
    are checked here, before any work: raises UsageError naming the variant and the setting.
    """
    _checked(config)  # what is wrong in synood.toml is not the variant's fault
    base = _checked(config.under(file.base.table(), path, f"{path}: base"))
    amounts: list[int | None] = [_amount(path, said, captioned) for said in file.m]
    variants = [
        (name, train, _checked(base.under(table, path, where))) for name, train, table, where in _variants(file, path)
    ]
    names = [name for name, *_ in variants]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{path}: two variants are called {name!r}")
    return [
        Cell(name, m, seed, train, settings)
        for seed in dict.fromkeys(file.seeds)
        for name, train, settings in variants
        for m in dict.fromkeys(amounts or [None])
    ]


def _variants(file: SweepFile, path: Path) -> list[tuple[str, tuple[Training, ...], dict[str, Any], str]]:
    """(name, trainings, settings, where they are said) of each variant at each point of the grid."""
    for stage in file.grid:
        if stage not in (*STAGES, "models"):
            raise UsageError(f"{path}: grid.{stage}: unknown table", hint=_hint(stage, [*STAGES, "models"]))
    axes = [
        [(table, key, value) for value in values] for table, row in file.grid.items() for key, values in row.items()
    ]
    found = []
    for variant in file.variants or (Variant(name="base"),):
        train = variant.train if variant.train is not None else file.base.train
        for point in itertools.product(*axes):
            table = variant.table()
            for stage, key, value in point:
                table[stage] = {**table.get(stage, {}), key: value}
            said = [variant.name] if file.variants or not point else []
            name = ", ".join([*said, *(f"{key}={value}" for _, key, value in point)])
            found.append((name, ("train-proj", "train-labels") if train is None else train, table, f"{path}: {name}"))
    return found


def _checked(config: Config) -> Config:
    """`config`, of which every setting is valid."""
    for stage in STAGES:
        config.settings(stage, None, {})
    config.models({})
    return config


def _amount(path: Path, said: int | str, captioned: int) -> int:
    m = max(1, round(captioned * int(said.removesuffix("%")) / 100)) if isinstance(said, str) else said
    if m > captioned:
        raise UsageError(
            f"{path}: m: {said} is more than the {captioned} captioned images",
            hint="select and caption more, or give --m, such as --m 50 or --m 20%",
        )
    return m


def _keys(model: type[Record]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
