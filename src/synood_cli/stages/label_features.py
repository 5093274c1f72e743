"""Labels as CLIP sees them: their prompts, embedded under every template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from synood_cli.records import ModelSpec, Precision
from synood_cli.stages.embed import Features, embed_texts, load_features
from synood_cli.stages.prompts import prompts_of
from synood_cli.stages.run import Run
from synood_cli.store.store import Artifact


class EmbeddedLabels(NamedTuple):
    """Features of `labels` labels under `templates` templates: as many blocks of rows in the features at `folder`."""

    folder: Path
    labels: int
    templates: int

    def blocks(self) -> Iterator[Features]:
        """(labels, D) before normalisation, for each template."""
        for start in range(0, self.templates * self.labels, self.labels):
            yield load_features(self.folder, start, start + self.labels)


def embed_labels(
    run: Run, spec: ModelSpec, templates: Sequence[str], texts: Sequence[str], precision: Precision, what: str
) -> tuple[EmbeddedLabels, Artifact]:
    """The labels `texts` under each template, and the features artifact that holds them."""
    made = embed_texts(run, spec, prompts_of(templates, texts), precision=precision, what=what)
    return EmbeddedLabels(made.folder, len(texts), len(templates)), made
