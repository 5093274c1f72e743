"""`synood score`: is each image in-distribution?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from synood_cli.cli.command import scoring_command
from synood_cli.cli.options import DataRootOption
from synood_cli.cli.output import Output
from synood_cli.cli.result import SOME_FAILED, show_passed_over
from synood_cli.config import Execution, ScoreSettings
from synood_cli.errors import UsageError
from synood_cli.store.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from synood_cli.data.passed_over import PassedOver
    from synood_cli.stages.run import Run
    from synood_cli.stages.score_file import Known, Origin
    from synood_cli.stages.score_rows import Format, Row, Write
    from synood_cli.stages.stream import Scoring, Summary

FOUND_OOD = 4
"""Exit code of --fail-on-ood when an image is out-of-distribution; it goes before SOME_FAILED."""


class Wish(NamedTuple):
    """What the command line asks for, beside settings."""

    inputs: list[str]
    head: str | None
    clip: Path | None
    data_root: Path | None
    format: Literal["table", "csv", "jsonl", "parquet"] | None
    to: Path | None
    move: Path | None
    copy: Path | None
    watch: bool

    @property
    def streams(self) -> bool:
        """Whether rows go out as they come and are kept nowhere else. What is asked of one folder (image, shard,
        dataset), with a head of this workspace and without a file to write to, is kept as an artifact instead."""
        from synood_cli.data.inputs import LIST_SUFFIX, STDIN
        from synood_cli.head_address import in_workspace

        one = len(self.inputs) == 1 and self.inputs[0] != STDIN
        listed = one and self.inputs[0].lower().endswith(LIST_SUFFIX) and Path(self.inputs[0]).is_file()
        here = in_workspace(self.head) and self.clip is None
        return not (one and not listed and here) or bool(self.to or self.move or self.copy or self.watch)


@scoring_command(
    "score", takes=("limit", "retry_failed", "trust_clip"), execution=("device", "batch_size", "workers", "poll")
)
def score(
    settings: ScoreSettings,
    execution: Execution,
    place: Workspace | None,
    output: Output,
    said: dict[str, Any],
    as_stage: Callable[..., int],
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, list files (.txt, a path a line), - for a list on stdin; one .tar shard or dataset.",
            metavar="INPUT...",
        ),
    ],
    head: Annotated[
        str | None,
        typer.Option(
            help="Head to score with: head@N, user/repository\\[@revision] of the hub, or ./folder; else the newest.",
            metavar="HEAD",
        ),
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option(help="Where the head's CLIP is, if not where the head says; or its name again.", metavar="DIR"),
    ] = None,
    data_root: DataRootOption = None,
    format_: Annotated[
        Literal["table", "csv", "jsonl", "parquet"] | None,
        typer.Option("--format", help="How to write them; else by FILE's ending, csv for others, a table on stdout."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to a file; csv and jsonl are resumed.", metavar="FILE"),
    ] = None,
    fail_on_ood: Annotated[
        bool, typer.Option("--fail-on-ood", help=f"Exit with {FOUND_OOD} if an image is out-of-distribution.")
    ] = False,
    move_ood: Annotated[
        Path | None,
        typer.Option(help="Move out-of-distribution images here, at their relative paths.", metavar="DIR"),
    ] = None,
    copy_ood: Annotated[Path | None, typer.Option(help="The same, but copy them.", metavar="DIR")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with what arrives in the folders, until interrupted.")
    ] = False,
) -> int:
    """Score images with a head (Eq. 2): the higher, the more in-distribution."""
    wish = Wish(inputs, head, clip, data_root, format_, to, move_ood, copy_ood, watch)
    ood: list[str] = []
    if wish.streams:
        summary = streamed(wish, settings, execution, place, output, said)
        found, code = summary.ood + summary.known_ood, SOME_FAILED if summary.any_failed else 0
    else:
        code = as_stage(lambda run: stored(run, wish, settings, output, ood))
        found = len(ood)
    return FOUND_OOD if fail_on_ood and found else code


def stored(run: Run, wish: Wish, settings: ScoreSettings, output: Output, ood: list[str]) -> Any:
    """Score one folder into a scores artifact; `ood` gets the paths that are out-of-distribution."""
    from synood_cli.stages.score import chosen_threshold, score_rows
    from synood_cli.stages.score import score as stage
    from synood_cli.stages.score_rows import encoder
    from synood_cli.store.heads import HeadInfo

    encoder(wish.format or "table")  # raises for what cannot go to stdout before anything is done
    head = run.store.resolve(wish.head, "head")
    artifact = stage(run, settings, head, Path(wish.inputs[0]), wish.data_root)
    threshold = chosen_threshold(HeadInfo.read(head.folder), settings, head.name)
    rows = score_rows(run.store, artifact, threshold)
    ood += [row["path"] for row in rows if row["decision"] == "ood"]
    return artifact, {"threshold": threshold, "rows": rows}, lambda: show_scores(output, rows, wish.format)


def show_scores(output: Output, rows: list[Row], format_: Format | None) -> None:
    """The rows on stdout."""
    from synood_cli.stages.score_rows import COLUMNS, text_writer

    if format_ in (None, "table"):
        output.table(COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    else:
        text_writer(format_, output.raw)(rows)


def streamed(
    wish: Wish,
    settings: ScoreSettings,
    execution: Execution,
    place: Workspace | None,
    output: Output,
    said: dict[str, Any],
) -> Summary:
    """Score a stream of images into a file or to stdout, and say at the end how many there were."""
    from synood_cli.data.inputs import find_images
    from synood_cli.data.passed_over import PassedOver
    from synood_cli.data.set_aside import SetAside
    from synood_cli.data.watching import Watch
    from synood_cli.stages.score_file import Known
    from synood_cli.stages.stream import Summary, stream_scores
    from synood_cli.store.files import disk_errors

    _check(wish, output, said)
    scoring, name, about_clip = _scoring(wish, settings, execution, place, said["trust_clip"])
    if about_clip:
        output.note(about_clip)
    aside = wish.move or wish.copy
    if aside:
        with disk_errors(aside):
            aside.mkdir(parents=True, exist_ok=True)  # before the images are looked for, which leaves it out
    set_aside = SetAside(aside, move=wish.move is not None) if aside else None
    summary, passed_over = Summary(), PassedOver()
    try:
        with closing(Known()) as known, _rows_to(wish, output, scoring.origin(name), known, said) as write:
            skip = set_aside.folder if set_aside else None
            watch = Watch(wish.inputs, skip, known.is_done, passed_over, seconds=execution.poll)
            stream_scores(
                scoring,
                watch.rounds() if wish.watch else [find_images(wish.inputs, skip, wish.data_root, passed_over)],
                write,
                known,
                output.progress,
                limit=said["limit"],
                set_aside=set_aside,
                postpone=watch.postpone,
                report=lambda path, reason: output.problem(f"{path} {reason}"),
                summary=summary,
            )
    except KeyboardInterrupt:
        if wish.watch:  # which ends in no other way
            _tell(summary, passed_over, wish, output, scoring, name)
        raise
    _require_images(summary, passed_over, wish)
    _tell(summary, passed_over, wish, output, scoring, name)
    return summary


def _check(wish: Wish, output: Output, said: dict[str, Any]) -> None:
    from synood_cli.data.inputs import check_inputs
    from synood_cli.store.outputs import descriptor_of

    if said["dry_run"]:
        raise UsageError("--dry-run is for one folder whose scores are kept in the workspace")
    if wish.move and wish.copy:
        raise UsageError("--move-ood and --copy-ood are two answers to one question", hint="give one of them")
    if output.json and (wish.to is None or descriptor_of(wish.to) == 1):
        raise UsageError("--json makes stdout one document, and the rows need another place", hint="-o FILE")
    check_inputs(wish.inputs, folders_only=wish.watch)
    aside = wish.move or wish.copy
    for given in wish.inputs:
        if wish.to and _is_same(given, wish.to):
            raise UsageError(f"{given} is an input, and -o would replace it", hint="-o another FILE")
        if aside and _is_same(given, aside):
            raise UsageError(f"the images of {given} are in {aside} already", hint="name another folder")


def _is_same(given: str, place: Path) -> bool:
    try:
        return place.samefile(given)
    except OSError:  # one of them does not exist, or is stdin
        return False


def _scoring(
    wish: Wish, settings: ScoreSettings, execution: Execution, place: Workspace | None, trust_clip: bool
) -> tuple[Scoring, str, str | None]:
    from synood_cli.head_address import find_head
    from synood_cli.stages.score import chosen_threshold
    from synood_cli.stages.stream import Scoring

    head = find_head(wish.head, place, wish.clip, trust_clip=trust_clip)
    threshold = chosen_threshold(head.info, settings, head.name)
    scoring = Scoring(head.folder, head.info, head.spec, threshold, settings, execution)
    return scoring, head.name, head.about_clip


@contextmanager
def _rows_to(wish: Wish, output: Output, origin: Origin, known: Known, said: dict[str, Any]) -> Iterator[Write]:
    from synood_cli.stages.score_file import format_for, score_file
    from synood_cli.stages.score_rows import text_writer

    format_ = format_for(wish.to, wish.format)
    if wish.to is None:
        yield text_writer(format_, output.raw)
        return
    retry = said["retry_failed"]
    with score_file(wish.to, format_, origin, known, anew=said["force"], retry_failed=retry) as write:
        yield write


def _require_images(summary: Summary, passed_over: PassedOver, wish: Wish) -> None:
    seen = summary.done + summary.failed + summary.skipped
    if not seen and all(Path(given).is_dir() or Path(given).is_file() for given in wish.inputs):
        others = f"; {passed_over}" if passed_over.files else ""
        raise UsageError(
            f"there are no images in {', '.join(wish.inputs)}{others}",
            hint="give a folder of images (.jpg, .png, .webp, …), or a list file with one path a line",
        )


def _tell(summary: Summary, passed_over: PassedOver, wish: Wish, output: Output, scoring: Scoring, name: str) -> None:
    facts = {"output": str(wish.to) if wish.to else None, "head": name, "threshold": scoring.threshold}
    output.document({**facts, **asdict(summary), "passed_over": passed_over.document()})
    there = f", {summary.skipped} were there already" if summary.skipped else ""
    failed = f", {summary.failed} could not be read" if summary.failed else ""
    stuck = f", {summary.stuck} could not be set aside" if summary.stuck else ""
    output.note(f"{name}: {summary.done} scored, {summary.ood} of them out-of-distribution{failed}{stuck}{there}")
    show_passed_over(output, passed_over)
    if summary.failed + summary.known_failed and wish.to:
        output.problem(f"{wish.to} has the reasons; --retry-failed tries those images again")
