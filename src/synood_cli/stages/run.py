"""What every stage is given beside its settings: the store, the runner, and how to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from synood_cli.config import Execution
from synood_cli.data.passed_over import PassedOver
from synood_cli.errors import SynoodError
from synood_cli.records import ModelSpec
from synood_cli.registry import Registry
from synood_cli.runners.local import LocalRunner
from synood_cli.store.draft import Draft
from synood_cli.store.store import Artifact, Store

T = TypeVar("T")

WORKERS = Registry(
    "worker",
    {
        "caption": "synood_cli.stages.workers.caption:CaptionWorker",
        "synthesize": "synood_cli.stages.workers.synthesize:SynthesisWorker",
        "embed": "synood_cli.stages.workers.embed:EmbeddingWorker",
        "classify": "synood_cli.stages.workers.embed:ClassifierWorker",
        "mine-labels": "synood_cli.stages.workers.mine:MiningWorker",
        "train-proj": "synood_cli.stages.workers.train:ProjectionWorker",
        "train-labels": "synood_cli.stages.workers.train:LabelWorker",
        "score": "synood_cli.stages.workers.score:ScoringWorker",
        "evaluate": "synood_cli.stages.workers.evaluate:EvaluationWorker",
        "baselines": "synood_cli.stages.workers.baselines:BaselineWorker",
        "export-onnx": "synood_cli.stages.workers.export_onnx:OnnxExporter",
        "calibrate": "synood_cli.stages.workers.calibrate:CalibrationWorker",
    },
)


class Progress(Protocol):
    """Where a stage tells how far it is."""

    def start(self, what: str, total: int | None, done: int = 0) -> None:
        """A new piece of work of `total` items begins, `done` of which are finished already."""

    def advance(self, items: int = 1) -> None:
        """`items` more are finished."""


class Planned(Exception):  # noqa: N818  (an answer, not an error)
    """Raised by `Run.begin` on a dry run: what would be done."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__(plan)
        self.plan = plan


@dataclass(frozen=True)
class Run:
    """The circumstances of one command."""

    store: Store
    execution: Execution
    progress: Progress
    seed: int
    force: bool = False
    retry_failed: bool = False
    limit: int | None = None
    dry_run: bool = False
    trust_clip: bool = False
    """Load the CLIP of a head from elsewhere although it is not a known one."""
    note: Callable[[str], None] = lambda _: None
    """Tells the user something worth knowing."""
    runner: LocalRunner = field(default_factory=lambda: LocalRunner(WORKERS))
    passed_over: PassedOver = field(default_factory=PassedOver)
    """Files beside the images that the stage was given, which it did not look at."""

    def begin(
        self,
        kind: str,
        stage: str,
        *,
        items: int,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        models: Mapping[str, ModelSpec] | None = None,
        digests: Mapping[str, str] | None = None,
        seeded: bool = True,
        keep_failures: bool = False,
    ) -> Draft:
        """Find or start the artifact of this stage; on a dry run, say what would happen (raises Planned).

        `--limit` is part of the question: fewer items are another artifact. So is the seed, unless the stage draws
        no random numbers (`seeded` false).
        """
        question: dict[str, Any] = {
            "settings": {**settings, **({"limit": self.limit} if self.limit is not None else {})},
            "inputs": inputs,
            "models": models or {},
            "seed": self.seed if seeded else 0,
            "digests": digests,
        }
        if self.dry_run:
            identity = Draft.identity(stage, **question)
            complete = None if self.force else self.store.find(identity, "complete")
            again = complete is not None and self.retry_failed and complete.items_failed > 0
            unfinished = self.store.find(identity, "unfinished")
            known = complete or unfinished
            raise Planned(
                {
                    "stage": stage,
                    "action": "make" if again else "reuse" if complete else "resume" if unfinished else "make",
                    "artifact": known.name if known and not again else kind,
                    "items": items,
                    "done": known.items_done if known else 0,
                    "inputs": {role: made.name for role, made in inputs.items()},
                    "models": {role: spec.name for role, spec in (models or {}).items()},
                    "settings": question["settings"],
                }
            )
        return Draft.begin(
            self.store,
            kind,
            stage,
            **question,
            force=self.force,
            retry_failed=self.retry_failed,
            keep_failures=keep_failures,
        )


def complete(draft: Draft, what: str) -> Artifact:
    """Seal the artifact. Raises SynoodError when all of its items (`what`, in the plural) failed: it stays unfinished,
    so that no later stage takes it for its input and the same command tries again.
    """
    made = draft.store.get(draft.artifact.name)
    if made.items_failed and not made.items_done:
        item, reason = draft.store.failures(made)[0]
        raise SynoodError(
            f"all {made.items_failed} {what} failed; the first: {item}: {reason}",
            hint=f"all of them: synood show {made.name} --failures",
        )
    return draft.complete()


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in runs of `size`; the last may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
