"""Score a stream of images: rows go out as they come, nothing is kept in memory or in a workspace."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from synood_cli.config import Execution, ScoreSettings
from synood_cli.data.identity import MISSING, Identity
from synood_cli.data.inputs import Found
from synood_cli.data.set_aside import ChangedError, SetAside
from synood_cli.errors import ItemError
from synood_cli.records import ModelSpec
from synood_cli.runners.local import LocalRunner
from synood_cli.stages.embed import BATCHES_PER_JOB
from synood_cli.stages.run import WORKERS, Progress
from synood_cli.stages.score import CHANGED, Scored, described_rows
from synood_cli.stages.score_file import Known, Origin, Told
from synood_cli.stages.score_rows import FILE_COLUMNS, Row, Write
from synood_cli.store.files import sha256_bytes, sha256_file
from synood_cli.store.heads import TENSOR_FILE, HeadInfo
from synood_cli.store.identity import ALGORITHMS
from synood_cli.store.store import canonical_json


@dataclass
class Summary:
    """How many images, each counted once, were scored (`done`), how many of them are OOD, how many could not be read
    (`failed`), how many OOD images could not be set aside (`stuck`), and how many had their row already (`skipped`; of
    these `known_ood` are OOD and `known_failed` could not be read)."""

    done: int = 0
    ood: int = 0
    failed: int = 0
    stuck: int = 0
    skipped: int = 0
    known_ood: int = 0
    known_failed: int = 0

    @property
    def any_failed(self) -> bool:
        """Whether an image could not be read, also in an earlier run, or not be set aside."""
        return bool(self.failed or self.stuck or self.known_failed)


@dataclass(frozen=True)
class Scoring:
    """A head that scores: its folder, what it says of itself, its CLIP, the threshold, and how to run."""

    head: Path
    info: HeadInfo
    spec: ModelSpec
    threshold: float
    settings: ScoreSettings
    execution: Execution
    runner: LocalRunner = field(default_factory=lambda: LocalRunner(WORKERS))

    def origin(self, name: str) -> Origin:
        """What the rows depend on: the head without its threshold and what was published with it, and the
        precision."""
        said = self.info.model_dump(mode="json", exclude={"threshold", "calibration", "versions", "publication"})
        tensors = sha256_file(self.head / TENSOR_FILE)
        digest = sha256_bytes(canonical_json([said, tensors, self.settings.precision]).encode())
        return Origin(digest, name, self.threshold, ALGORITHMS["score"])

    def rows(self, images: Sequence[Found]) -> list[Row]:
        """One row an image, in order; one that cannot be read has an error and nothing else."""
        readable = [image for image in images if image.problem is None]
        options = {
            "head": self.head,
            "spec": self.spec,
            "execution": self.execution,
            "precision": self.settings.precision,
        }
        jobs = [[Path(image.path) for image in readable]] if readable else []
        problems: dict[str, str] = {image.path: image.problem for image in images if image.problem is not None}
        identities: dict[str, Identity | None] = {}
        described: Iterator[Row] = iter(())
        for scored in self.runner.map("score", options, jobs):
            found: Scored = scored
            for image, problem, identity in zip(readable, found.problems, found.identities, strict=True):
                identities[image.path] = identity
                if problem:
                    problems[image.path] = problem
            described = iter(described_rows(self.info, found.detections, self.threshold))
        return [
            self._row(image.path, identities.get(image.path), problems.get(image.path), described) for image in images
        ]

    def _row(self, path: str, identity: Identity | None, problem: str | None, described: Iterator[Row]) -> Row:
        sha256, stamp = identity or Identity(None, MISSING)
        row = dict.fromkeys(FILE_COLUMNS) | {"path": path, "sha256": sha256, "stamp": stamp}
        return row | ({"error": problem} if problem else next(described))


def stream_scores(
    scoring: Scoring,
    rounds: Iterable[Iterable[Found]],
    write: Write,
    known: Known,
    progress: Progress,
    *,
    limit: int | None = None,
    set_aside: SetAside | None = None,
    postpone: Callable[[str], bool] = lambda _: False,
    report: Callable[[str, str], None],
    summary: Summary,
) -> None:
    """Score the images of each round that are not `known`, write their rows, and set those that are OOD aside.

    A row is written before its image is moved: what an interruption leaves unmoved is moved when the image comes by
    again. What is moved is what was scored: an image that is replaced in between is scored once more in its round.
    `limit` ends after so many new rows. An image that cannot be read has no row yet where `postpone` says so of its
    path: it will come again. `report` is told (path, reason) of what stays, `summary` how many there were so far.
    """
    stream = _Stream(scoring, write, known, progress, limit, set_aside, postpone, report, summary)
    progress.start("score", limit)
    for images in rounds:
        changed: list[Found] = []
        stream.score(images, changed.append)
        stream.score(changed, None)
        if stream.left == 0:
            break


@dataclass
class _Stream:
    """One call of stream_scores."""

    scoring: Scoring
    write: Write
    known: Known
    progress: Progress
    limit: int | None
    set_aside: SetAside | None
    postpone: Callable[[str], bool]
    report: Callable[[str, str], None]
    summary: Summary

    @property
    def left(self) -> int | None:
        """How many new rows the limit allows."""
        return None if self.limit is None else max(0, self.limit - self.summary.done - self.summary.failed)

    def score(self, images: Iterable[Found], again: Callable[[Found], None] | None) -> None:
        """Score the new ones of `images`; what changed meanwhile goes to `again`, or stays as it is."""
        size = self.scoring.execution.batch_size * BATCHES_PER_JOB
        coming = self._new(images, again)
        while part := _next_part(coming, size if self.left is None else min(size, self.left)):
            scored = list(zip(part, self.scoring.rows(part), strict=True))
            if again is not None:
                for image in [image for image, row in scored if row["error"] == CHANGED]:
                    again(image)
                scored = [(image, row) for image, row in scored if row["error"] != CHANGED]
            scored = [(image, row) for image, row in scored if not (row["error"] and self.postpone(image.path))]
            rows = [row for _, row in scored]
            self.write(rows)
            self.known.add(rows, Told.ROW)
            for image, row in scored:
                if row["error"]:
                    self.summary.failed += 1
                else:
                    self.summary.done += 1
                if row["decision"] == "ood":
                    self.summary.ood += 1
                    self._put_aside(image, row["sha256"], again)
            self.progress.advance(len(rows))

    def _new(self, images: Iterable[Found], again: Callable[[Found], None] | None) -> Iterator[Found]:
        """Those that have no row. Of an image that has one it is counted what the row says."""
        for image in images:
            verdict = self.known.current(image.path) if image.problem is None else self.known.verdict(image.path)
            if verdict is None:
                yield image
                continue
            if self.known.first(image.path, Told.ROW):
                self.summary.skipped += 1
                self.summary.known_failed += verdict.says == "error"
                self.summary.known_ood += verdict.says == "ood"
            if verdict.says == "ood":
                self._put_aside(image, verdict.sha256, again)

    def _put_aside(self, image: Found, sha256: str | None, again: Callable[[Found], None] | None) -> None:
        source = Path(image.path)
        if self.set_aside is None or sha256 is None or not os.path.lexists(source):  # it has been moved already
            return
        try:
            self.set_aside(source, image.name, sha256)
        except ChangedError as error:
            if again is not None:
                again(image)
                return
            self._stuck(image, error)
        except ItemError as error:
            self._stuck(image, error)

    def _stuck(self, image: Found, error: ItemError) -> None:
        if not self.known.first(image.path, Told.STUCK):
            return
        self.summary.stuck += 1
        self.report(image.path, f"is out-of-distribution and stays where it is: {error.message}")


def _next_part(images: Iterator[Found], size: int) -> list[Found]:
    """The next `size` images at most, each path once."""
    return list({image.path: image for image in islice(images, max(size, 0))}.values())
