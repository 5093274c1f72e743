"""Options that several commands share, so that they are spelled alike; and options made from settings fields."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from synood_cli.config import Recipe, Settings
from synood_cli.records import Record

STAGE, MODELS, RUNNING, OUTPUT = "Settings of this stage", "Models", "Running", "Output"

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        metavar="DIR",
        help="The workspace; else $SYNOOD_WORKSPACE, else the nearest from here upwards.",
        rich_help_panel=RUNNING,
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="Work on so many items only; that is another artifact.", rich_help_panel=RUNNING
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed of the run; synood.toml's, else 0.", rich_help_panel=RUNNING),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say what would be made, resumed or reused; write nothing.", rich_help_panel=RUNNING
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Make it again even if it is there already.", rich_help_panel=RUNNING)
]
RetryFailedOption = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="Where items failed, make another artifact: what succeeded is taken over, the rest tried again.",
        rich_help_panel=RUNNING,
    ),
]
TrustClipOption = Annotated[
    bool,
    typer.Option(
        "--trust-clip",
        help="Load the CLIP of a head from elsewhere although it is not a known one.",
        rich_help_panel=RUNNING,
    ),
]
RecipeOption = Annotated[
    Recipe | None,
    typer.Option(
        "--recipe",
        help="Defaults of the paper, or of the authors' public release where it differs; synood.toml's, else paper.",
        rich_help_panel=RUNNING,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, nothing else.", rich_help_panel=OUTPUT)
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors only.", rich_help_panel=OUTPUT)]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log what the libraries say, on stderr.", rich_help_panel=OUTPUT)
]
NoColorOption = Annotated[
    bool, typer.Option("--no-color", help="No colours (so does $NO_COLOR).", rich_help_panel=OUTPUT)
]

IMAGES = (
    "Images: a folder, one image, a list file (.txt), a .tar shard or a folder of them, a Hugging Face dataset on disk."
)
DataRootOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the paths of list files start; unsaid, in the list's own folder."),
]


def from_option(kind: str, name: str = "--from", default: str = "the newest") -> Any:
    """The option that names an input artifact of `kind`; unsaid (None), `default`."""
    return typer.Option(name, metavar="NAME", help=f"Which {kind} to read, as {kind}@N; {default} if unsaid.")


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """One parameter of a command, as typer reads it from a signature."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def option_fields(model: type[Record]) -> list[str]:
    """The fields of a settings class that have an option; those that are records of their own are for synood.toml."""
    kinds = {name: field.annotation for name, field in model.model_fields.items()}
    return [name for name, kind in kinds.items() if not (isinstance(kind, type) and issubclass(kind, Record))]


def field_parameters(model: type[Record], names: Iterable[str], panel: str) -> list[inspect.Parameter]:
    """An option for each field of a settings class: its name, type and help come from the field.

    The option's own default is None, "not said", so that synood.toml and the recipe can speak; the help text tells
    the field's default, and the release recipe's value where it differs.
    """
    release = model.release if issubclass(model, Settings) else {}
    return [_field_parameter(name, model.model_fields[name], release, panel) for name in names]


def _field_parameter(name: str, field: FieldInfo, release: dict[str, Any], panel: str) -> inspect.Parameter:
    flag = "--" + name.replace("_", "-")
    kind = _option_type(field.annotation)
    values = f"Default: {_shown(field.default)}" + (f"; release: {_shown(release[name])}" if name in release else "")
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=f"{field.description} ({values})".replace("[", r"\["),  # help texts are rich markup
        rich_help_panel=panel,
    )
    return parameter(name, Annotated[kind | None, option], None)


def _option_type(annotation: Any) -> Any:
    """What typer reads a field as: X of `X | None`; texts for a tuple, and text for any other union, which pydantic
    parses then."""
    if get_origin(annotation) is tuple:
        return list[str]
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    members = [member for member in get_args(annotation) if member is not types.NoneType]
    return members[0] if len(members) == 1 else str


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
