"""Explain: why NegMining kept a candidate as a negative label, or dropped it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synood_cli.config import MineSettings, Models
from synood_cli.models.revisions import resolve_revision
from synood_cli.stages.mine_labels import POOLS, candidate_pool, embedded_labels, excluded_names, plain
from synood_cli.stages.run import Run
from synood_cli.store.store import Artifact

NEAREST_SHOWN = 3
"""InD labels that are named beside a candidate, the most similar first."""


class WantedLabel(NamedTuple):
    """A candidate by the number of its pool and its place there."""

    pool: int
    place: int


class Explained(NamedTuple):
    """NegMining's numbers of one candidate: its percentile, its rank among the `pool` candidates that name no class
    (1 = least similar; None when it names one), how many of them are kept, the percentile of the last that is
    (None when none is), and (place, cosine similarity) of the InD labels, the most similar first."""

    similarity: float
    rank: int | None
    pool: int
    kept: int
    cut: float | None
    nearest: list[tuple[int, float]]


def explain(
    run: Run,
    settings: MineSettings,
    models: Models,
    selection: Artifact,
    candidates: Path | None,
    words: Sequence[str],
) -> list[dict[str, Any]]:
    """One row for each of `words` and part of speech that it is a candidate in, when negative labels are mined with
    these settings: whether it is kept, its numbers, and the rule that decides. Spelling as in `plain`.
    """
    if not words:
        return []
    spec = resolve_revision(models.clip_spec(), run.store.file_digest)
    labels = embedded_labels(run, settings, spec, selection, candidate_pool(run, settings, candidates))
    asked = list(dict.fromkeys(plain(word) for word in words))
    found = [
        (word, WantedLabel(number, place))
        for word in asked
        for number, pool in enumerate(labels.pools)
        for place, candidate in enumerate(pool)
        if plain(candidate.text) == word
    ]
    options = {"settings": settings, "execution": run.execution, "seed": run.seed}
    job = (labels.job, [label for _, label in found])
    results: list[Explained] = next(run.runner.map("mine-labels", options, [job], method="explain"))
    rows: dict[str, list[dict[str, Any]]] = {word: [] for word in asked}
    named = {name: label.text for label in labels.ind for name in excluded_names([label.text])}
    for (word, label), result in zip(found, results, strict=True):
        candidate = labels.pools[label.pool][label.place]
        rows[word].append(
            {
                "label": candidate.text,
                "part_of_speech": candidate.part_of_speech,
                "kept": result.rank is not None and result.rank <= result.kept,
                "similarity": result.similarity,
                "rank": result.rank,
                "of": result.pool,
                "keeps": result.kept,
                "cut": result.cut,
                "nearest": [
                    {"label": labels.ind[place].text, "similarity": value}
                    for place, value in result.nearest[:NEAREST_SHOWN]
                ],
                "rule": _rule(result, POOLS[candidate.part_of_speech], named.get(word), settings),
            }
        )
    return [row for word in asked for row in rows[word] or [_no_candidate(word)]]


def _rule(result: Explained, pool: str, named: str | None, settings: MineSettings) -> str:
    if result.rank is None:
        return f"dropped: it names the in-distribution class {named!r}"
    share = f"the {result.kept} {pool} that are least similar to the classes ({settings.share:.4g} of all)"
    if result.rank <= result.kept:
        return f"kept: it is among {share}"
    if settings.pool == "csp" and result.nearest[0][1] > settings.csp_similarity:
        return f"dropped: more than {settings.csp_similarity:g} similar to an in-distribution label"
    return f"dropped: it is not among {share}"


def _no_candidate(word: str) -> dict[str, Any]:
    numbers = dict.fromkeys(("part_of_speech", "similarity", "rank", "of", "keeps", "cut"))
    return {"label": word, "kept": False, **numbers, "nearest": [], "rule": "it is no candidate"}
