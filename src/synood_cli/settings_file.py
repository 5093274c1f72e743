"""`synood.toml`: the settings of a workspace, merged with the command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from synood_cli.config import STAGES, CandidateList, Execution, MineSettings, Models, Settings, place
from synood_cli.errors import UsageError
from synood_cli.records import Record
from synood_cli.toml_file import read_toml

TOML_TEMPLATE = """\
# Settings of this synood workspace. What is commented out is the default; the command line overrides this file.
recipe = "paper"  # or "release": what the authors' public code does differently
seed = 0

[models]  # hub ids, or folders, relative to this file
# clip = "{models.clip}"
# pretrained = "{models.pretrained}"
# captioner = "{models.captioner}"
# inpainter = "{models.inpainter}"
# classifier = "{models.classifier}"

[execution]
# device = "{execution.device}"
# batch_size = {execution.batch_size}

# One table a stage, named like its command: [select] per_class = 20, [synthesize] guidance_scale = 7.5, …
# `synood COMMAND --help` lists the names.
"""

T = TypeVar("T", bound=Record)


class Config:
    """`synood.toml` merged with the command line: defaults < recipe < file < command line."""

    def __init__(self, table: dict[str, Any], source: str) -> None:
        self._table = table
        self._source = source
        known = {"recipe", "seed", "models", "execution", *STAGES}
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                raise UsageError(
                    f"{source}: unknown table or key {key!r:.60}",
                    hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}",
                )

    @classmethod
    def read(cls, path: Path) -> Config:
        """The settings file at `path`; an absent file means all defaults. Raises UsageError naming file and line."""
        try:
            return cls(read_toml(path), str(path))
        except FileNotFoundError:
            return cls({}, str(path))

    def under(self, table: Mapping[str, Any], file: Path, said_by: str) -> Config:
        """These settings with those of `table` (recipe, models and stages, as in synood.toml) in their place; errors
        name `said_by`. Folders that its models name are relative to `file`."""
        merged = {**self._table, "models": self._placed(self._table.get("models", {}))}
        for key, value in table.items():
            placed = Config({}, str(file))._placed(value) if key == "models" else value
            merged[key] = {**merged.get(key, {}), **placed} if isinstance(value, dict) else value
        return Config(merged, said_by)

    def seed(self, given: int | None) -> int:
        seed = self._table.get("seed", 0) if given is None else given
        if type(seed) is not int or not 0 <= seed < 2**63:
            where = f"{self._source}: seed" if given is None else "--seed"
            raise UsageError(f"{where} must be a whole number from 0 to 2⁶³ - 1, not {seed!r:.60}")
        return seed

    def settings(self, stage: str, recipe: str | None, given: dict[str, Any]) -> Settings:
        """The settings of `stage`; `given` holds what the command line said (None = not said)."""
        chosen = recipe or self._table.get("recipe", "paper")
        if chosen not in ("paper", "release"):
            raise UsageError(f"{self._source}: there is no recipe {chosen!r:.60}", hint="known: paper, release")
        model = STAGES[stage]
        written = self._table.get(stage, {})
        known = {**(written if isinstance(written, dict) else {}), **{k: v for k, v in given.items() if v is not None}}
        return self._merge(model, model.of_recipe(chosen, known), stage, given)

    def models(self, given: dict[str, Any]) -> Models:
        """The models; folders and files that the settings file names are relative to it, not to the current folder. A
        server of the command line takes the place of a captioner of the file that asks none."""
        models = self._merge(Models, {}, "models", given)
        if given.get("captioner_url") is None or models.captioner != "clip-tags":
            return models
        if given.get("captioner") is not None:
            raise UsageError("the captioner clip-tags asks no server", hint="leave out --captioner-url")
        return models.model_copy(update={"captioner": Models().captioner})

    def execution(self, given: dict[str, Any]) -> Execution:
        return self._merge(Execution, {}, "execution", given)

    def _merge(self, model: type[T], base: dict[str, Any], table: str, given: dict[str, Any]) -> T:
        said = {name: value for name, value in given.items() if value is not None}
        written = self._table.get(table, {})
        if not isinstance(written, dict):
            raise UsageError(f"{self._source}: [{table}] must be a table, not {written!r:.60}")
        for name, value in written.items():
            if (
                isinstance(value, bool)
                and name in model.model_fields
                and model.model_fields[name].annotation is not bool
            ):
                raise UsageError(f"{self._source}: [{table}] {name}: cannot be {str(value).lower()}")
        if model is Models:
            written = self._placed(written)
        if model is MineSettings and isinstance(listed := written.get("candidates"), str):
            there = Path(self._source).parent
            at = listed if listed in get_args(CandidateList) else place(listed, there, Path.is_file)
            written = {**written, "candidates": at}
        try:
            return model.model_validate({**base, **written, **said})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"][:1])
            wrong = " or ".join(dict.fromkeys(e["msg"] for e in error.errors() if e["loc"][:1] == first["loc"][:1]))
            where = f"--{name.replace('_', '-')}" if name in said else f"{self._source}: [{table}] {name:.60}"
            near = difflib.get_close_matches(name, model.model_fields, n=1)
            unknown = first["type"] == "extra_forbidden"
            raise UsageError(
                f"{where}: {'unknown setting' if unknown else wrong}"
                + ("" if unknown else f" (got {first['input']!r:.60})"),
                hint=f"did you mean {near[0]!r}?" if unknown and near else None,
            ) from error

    def _placed(self, models: dict[str, Any]) -> dict[str, Any]:
        """The [models] table with the local folders and the checkpoint file that it names by their absolute paths."""
        folder = Path(self._source).parent
        placed = dict(models)
        for name in ("clip", "captioner", "inpainter", "classifier"):
            if isinstance(models.get(name), str):
                placed[name] = place(models[name], folder)
        if isinstance(models.get("pretrained"), str):
            placed["pretrained"] = place(models["pretrained"], folder, Path.is_file)
        return placed
