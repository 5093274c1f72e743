"""Make a command of a small function: its options, the workspace, and what is said at the end.

A command function has parameters of its own, and names what it wants given: `output`, `store`, `run`, `settings`,
`models`, `config`, `settings_of`. Everything else on its command line comes from the decorator.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from synood_cli.cli.options import (
    MODELS,
    RUNNING,
    STAGE,
    DryRunOption,
    ForceOption,
    JsonOption,
    LimitOption,
    NoColorOption,
    QuietOption,
    RecipeOption,
    RetryFailedOption,
    SeedOption,
    TrustClipOption,
    VerboseOption,
    WorkspaceOption,
    field_parameters,
    option_fields,
    parameter,
)
from synood_cli.cli.output import Output
from synood_cli.cli.result import finish, show_passed_over, show_plan
from synood_cli.config import STAGES, Execution, Models
from synood_cli.errors import StoreError
from synood_cli.paths import require_possible
from synood_cli.settings_file import Config
from synood_cli.store.workspace import Workspace

if TYPE_CHECKING:
    from synood_cli.store.store import Store

Function = Callable[..., Any]
SettingsOf = Callable[[str], Any]
"""The settings of a stage by its name, as synood.toml and the recipe have them."""

_GIVEN = (
    *("output", "store", "run", "settings", "models", "config", "settings_of"),
    *("execution", "place", "said", "as_stage"),
)
_WORKSPACE = parameter("workspace", WorkspaceOption, None)
_SHARED = {
    "limit": parameter("limit", LimitOption, None),
    "seed": parameter("seed", SeedOption, None),
    "retry_failed": parameter("retry_failed", RetryFailedOption, False),
    "trust_clip": parameter("trust_clip", TrustClipOption, False),
}
_RUNNING = [parameter("dry_run", DryRunOption, False), parameter("force", ForceOption, False)]
_OUTPUT = [
    parameter("json", JsonOption, False),
    parameter("quiet", QuietOption, False),
    parameter("verbose", VerboseOption, False),
    parameter("no_color", NoColorOption, False),
]


def stage_command(
    stage: str, *, takes: Sequence[str] = (), models: Sequence[str] = (), execution: Sequence[str] = ()
) -> Callable[[Function], Function]:
    """A command that runs a stage of the pipeline in the workspace and tells what it made.

    Every plain field of the stage's settings class becomes an option. `takes` names shared options (of _SHARED),
    `models` fields of config.Models, `execution` fields of config.Execution; one that the settings have too
    (the batch size of a training) means the setting.

    The function is given `run`, `settings`, `models`, `output` and `config` as far as it names them, and `settings_of`,
    which says what synood.toml and the recipe say of another stage. It returns the artifact, or (artifact, more fields
    of the JSON document, function that shows the result), or None where it has said everything itself.
    """
    fields, running, options = _stage_options(stage, takes, models, execution)

    def call(function: Function, own: dict[str, Any], said: dict[str, Any]) -> None:
        def pick(names: Sequence[str]) -> dict[str, Any]:
            return {name: said[name] for name in names}

        with closing(_output(said)) as output:
            workspace = Workspace.find(said["workspace"])
            config = workspace.config()
            own |= {
                "settings": config.settings(stage, said["recipe"], pick(fields)) if fields else None,
                "config": config,
                "models": config.models(pick(models)),
                "settings_of": lambda other: config.settings(other, said["recipe"], {}),
                "output": output,
            }
            code = _run_stage(function, own, workspace, config, config.execution(pick(running)), output, said)
        if code:
            raise typer.Exit(code)

    return _exposing(options, call)


def scoring_command(
    stage: str, *, takes: Sequence[str] = (), execution: Sequence[str] = ()
) -> Callable[[Function], Function]:
    """A command with the settings of a stage that works without a workspace too, and within one unless it is told to.

    The function is given `place` (the workspace, None where there is none), `settings`, `execution`, `said` (the
    shared options) and `output`; `as_stage`, which runs a function of `run` as stage_command does; and returns the
    exit code.
    """
    fields, running, options = _stage_options(stage, takes, (), execution)

    def call(function: Function, own: dict[str, Any], said: dict[str, Any]) -> None:
        with closing(_output(said)) as output:
            workspace = Workspace.found(said["workspace"])
            config = workspace.config() if workspace else Config({}, "no workspace")
            chosen = config.execution({name: said[name] for name in running})

            def as_stage(stored: Function) -> int:
                where = workspace or Workspace.find(said["workspace"])
                return _run_stage(stored, {}, where, config, chosen, output, said)

            code = function(
                settings=config.settings(stage, said["recipe"], {name: said[name] for name in fields}),
                execution=chosen,
                place=workspace,
                output=output,
                said=said,
                as_stage=as_stage,
                **own,
            )
        if code:
            raise typer.Exit(code)

    return _exposing(options, call)


def _stage_options(
    stage: str, takes: Sequence[str], models: Sequence[str], execution: Sequence[str]
) -> tuple[list[str], list[str], list[inspect.Parameter]]:
    """The settings of a stage, the fields of config.Execution that are no settings, and the options of both."""
    fields = option_fields(STAGES[stage]) if stage in STAGES else []
    running = [name for name in execution if name not in fields]
    return (
        fields,
        running,
        [
            *field_parameters(Models, models, MODELS),
            *(field_parameters(STAGES[stage], fields, STAGE) if fields else []),
            _WORKSPACE,
            *([parameter("recipe", RecipeOption, None)] if fields else []),
            *(_SHARED[name] for name in takes),
            *field_parameters(Execution, running, RUNNING),
            *_RUNNING,
            *_OUTPUT,
        ],
    )


def _run_stage(
    function: Function,
    own: dict[str, Any],
    workspace: Workspace,
    config: Config,
    execution: Execution,
    output: Output,
    said: dict[str, Any],
) -> int:
    from synood_cli.stages.run import Planned, Run

    with _opened(workspace, write=not said["dry_run"]) as store:
        run = Run(
            store=store,
            execution=execution,
            progress=output.progress,
            seed=config.seed(said.get("seed")),
            force=said["force"],
            retry_failed=said.get("retry_failed", False),
            limit=said.get("limit"),
            dry_run=said["dry_run"],
            trust_clip=said.get("trust_clip", False),
            note=output.note,
        )
        try:
            made = function(run=run, **own)
        except Planned as planned:
            show_plan(output, planned.plan)
            show_passed_over(output, run.passed_over)
            return 0
        if made is None:
            return 0
        artifact, *more = made if isinstance(made, tuple) else (made,)
        return finish(output, store, artifact, *more, passed_over=run.passed_over)


@contextmanager
def _opened(workspace: Workspace, *, write: bool) -> Iterator[Store]:
    """The open store. A surprise that a row of a damaged database has led to is told as that; any other stays a bug."""
    from synood_cli.store.maintenance import Problem, database_problems
    from synood_cli.store.store import Store

    with Store.open(workspace, write=write) as store:
        try:
            yield store
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            try:
                problem = next(database_problems(store), None)
            except ValueError as worse:  # what SQLite says of the damage is not text
                problem = Problem(workspace.database.name, str(worse))
            if problem is None:
                raise
            raise StoreError(
                f"{workspace.database} is damaged: {problem.where}: {problem.what}",
                hint="restore the database from a copy; `synood verify` lists all that is damaged",
            ) from error


def workspace_command(*, write: bool) -> Callable[[Function], Function]:
    """A command on the store, which the function is given as `store`, with `output`."""

    def call(function: Function, own: dict[str, Any], said: dict[str, Any]) -> None:
        workspace, changes = Workspace.find(said["workspace"]), write and not own.get("dry_run")
        with closing(_output(said)) as output, _opened(workspace, write=changes) as store:
            function(store=store, output=output, **own)

    return _exposing([_WORKSPACE, *_OUTPUT], call)


def plain_command() -> Callable[[Function], Function]:
    """A command that needs no workspace; the function is given `output`."""

    def call(function: Function, own: dict[str, Any], said: dict[str, Any]) -> None:
        with closing(_output(said)) as output:
            function(output=output, **own)

    return _exposing(_OUTPUT, call)


def _output(said: dict[str, Any]) -> Output:
    return Output(json=said["json"], quiet=said["quiet"], verbose=said["verbose"], color=not said["no_color"])


_PLACES = (
    *("inputs", "head", "address", "file", "suite", "candidates"),
    *("clip", "pretrained", "captioner", "inpainter", "classifier"),
)
"""Texts that may be paths."""


def _require_paths(said: dict[str, Any]) -> None:
    """Raise UsageError for a path on the command line that the system refuses, before anything is done."""
    for name, value in said.items():
        values = value if isinstance(value, list) else [value]
        if name == "ood":
            values = [Path(pair.partition("=")[2]) for pair in values if pair]
        for each in values:
            if isinstance(each, Path) or (name in _PLACES and each):
                require_possible(each)


def _exposing(
    options: Sequence[inspect.Parameter], call: Callable[[Function, dict[str, Any], dict[str, Any]], None]
) -> Callable[[Function], Function]:
    """Decorate a function so that typer sees its own parameters and `options`, and `call` gets what was said."""

    def decorate(function: Function) -> Function:
        # Names imported for type checkers only; the parameters that bear them are given, not said.
        unimported = dict.fromkeys(("Run", "Store", "Artifact", "Models"), Any)
        signature = inspect.signature(function, eval_str=True, locals=unimported)
        own = [p.replace(kind=p.KEYWORD_ONLY) for name, p in signature.parameters.items() if name not in _GIVEN]

        def given(**values: Any) -> Any:
            return function(**{name: value for name, value in values.items() if name in signature.parameters})

        @functools.wraps(function)
        def command(**said: Any) -> None:
            _require_paths(said)
            call(given, {p.name: said.pop(p.name) for p in own}, said)

        exposed = inspect.Signature([*own, *options])
        command.__signature__ = exposed  # type: ignore[attr-defined]
        command.__annotations__ = {name: p.annotation for name, p in exposed.parameters.items()}
        return command

    return decorate
