"""Mine labels: the first head, which is NegLabel: InD labels, and the candidates that are least like them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast, get_args

from synood_cli.config import CandidateList, MineSettings, Models
from synood_cli.data.wordnet import (
    Candidate,
    PartOfSpeech,
    conjugated,
    named_candidates,
    packed_candidates,
    read_candidates,
)
from synood_cli.errors import SynoodError, UsageError
from synood_cli.metrics.conventions import percentage
from synood_cli.models.checkpoint_file import activation_note
from synood_cli.models.revisions import resolve_revision
from synood_cli.records import ModelSpec, composed, printable
from synood_cli.stages.class_names import label_text
from synood_cli.stages.embed import Features, Rows, clip_facts, spread, surface_failures
from synood_cli.stages.heads import embed_selection, store_head
from synood_cli.stages.label_features import EmbeddedLabels, embed_labels
from synood_cli.stages.prompts import templates_of
from synood_cli.stages.run import Run
from synood_cli.stages.selected import class_folders
from synood_cli.store.files import sha256_bytes
from synood_cli.store.heads import Calibration, Head, HeadInfo, IndLabel, NegativeLabel, current_versions
from synood_cli.store.store import Artifact, canonical_json

POOLS: dict[PartOfSpeech, str] = {"noun": "nouns", "adj": "adjectives"}
"""The parts of speech, each mined apart, in the order of a head's negative labels."""


SHARE = {"share_of": "all candidates"}
"""Part of the identity: earlier versions took the share of those that name no in-distribution class."""


class Pool(NamedTuple):
    """The candidates of one part of speech, and the places in them of those that name no in-distribution class."""

    candidates: EmbeddedLabels
    allowed: list[int]


class MiningJob(NamedTuple):
    """Embedded InD labels, and pools of candidates."""

    ind: EmbeddedLabels
    pools: list[Pool]


class Mined(NamedTuple):
    """The chosen candidates of each pool with their percentiles, and the tensors and the threshold of a head."""

    chosen: list[list[int]]
    similarity: list[list[float]]
    tensors: dict[str, Features]
    threshold: float


@dataclass(frozen=True)
class Labels:
    """What is mined from: the InD labels, and the candidates by part of speech, with their features."""

    ind: list[IndLabel]
    candidates: dict[PartOfSpeech, list[Candidate]]
    job: MiningJob
    features: list[str]

    @property
    def pools(self) -> list[list[Candidate]]:
        """The candidates of each pool of the job."""
        return [pool for pool in self.candidates.values() if pool]


def mine_labels(
    run: Run, settings: MineSettings, models: Models, selection: Artifact, candidates: Path | None = None
) -> Artifact:
    """NegMining over `candidates` (a file; without one, what the settings name): the share that is least similar to
    the classes of `selection`, each part of speech apart; and the threshold that `tpr` of its images reach (Eq. 2).

    With the pool "csp" each adjective becomes a phrase with a superclass, and what is more similar than
    `csp_similarity` to any class is left out too. A candidate that names an InD class is left out. `--limit` takes so
    many candidates, evenly from the list.
    """
    _templates(settings)
    named = None if candidates else _named(settings.candidates)
    listed = packed_candidates(named) if named else canonical_json(_given(settings, candidates)).encode()
    unused = {"candidates"} | ({"pool", "csp_similarity", "csp_template"} if settings.pool != "csp" else set())
    spec = resolve_revision(models.clip_spec(), run.store.file_digest)
    draft = run.begin(
        "head",
        "mine-labels",
        items=len(candidate_pool(run, settings, candidates)) if run.dry_run else 0,  # reading takes half a second
        settings={**{name: value for name, value in settings.identity().items() if name not in unused}, **SHARE},
        inputs={"selection": selection},
        models={"clip": spec},
        digests={"candidates": sha256_bytes(listed)},
    )
    if draft.artifact.reused:
        return draft.artifact
    if note := activation_note(spec.name, spec.pretrained):
        run.note(note)
    labels = embedded_labels(run, settings, spec, selection, candidate_pool(run, settings, candidates))
    images = embed_selection(run, spec, selection, settings.precision)
    surface_failures(draft, [images])

    run.progress.start("mine labels", 1)
    options = {"settings": settings, "execution": run.execution, "seed": run.seed}
    calibration = Rows(images.folder, list(range(images.items_done)))
    mined: Mined = next(run.runner.map("mine-labels", options, [(labels.job, calibration)]))
    run.progress.advance()
    total, left = sum(map(len, labels.pools)), sum(len(pool.allowed) for pool in labels.job.pools)
    if not any(mined.chosen):
        raise SynoodError(
            f"{percentage(settings.share)} of {total} candidates is not even one label "
            f"({total - left} of them name an in-distribution class, and are left out)",
            hint="give more candidates, or a larger --share",
        )
    negative = [
        NegativeLabel(**pool[place]._asdict(), similarity=value)
        for pool, places, values in zip(labels.pools, mined.chosen, mined.similarity, strict=True)
        for place, value in zip(places, values, strict=True)
    ]
    info = HeadInfo(
        clip=clip_facts(spec, images),
        ind_labels=tuple(labels.ind),
        ind_template=settings.ind_template,
        negative_labels=tuple(negative),
        pool="CSP" if settings.pool == "csp" else "NegLabel",
        templates={"noun": settings.noun_template, "adj": _adjective_template(settings)},
        temperature=settings.temperature,
        groups=settings.groups,
        group_seed=run.seed,
        threshold=mined.threshold,
        calibration=Calibration(images=images.items_done, source=selection.name, tpr=settings.tpr, trained_on=False),
        versions=current_versions(),
    )
    notes = {
        "classes": len(labels.ind),
        "negative_labels": len(negative),
        "candidates": total,
        "excluded": total - left,
        "features": [*labels.features, images.name],
        "warnings": _warnings(labels.ind),
    }
    return store_head(draft, Head(info, mined.tensors), {}, notes)


def embedded_labels(
    run: Run, settings: MineSettings, spec: ModelSpec, selection: Artifact, pool: Sequence[Candidate]
) -> Labels:
    """The labels of `selection`'s classes and the candidates of `pool`, as CLIP sees them in their prompts."""
    templates = _templates(settings)
    names = class_folders(run.store, selection)
    ind = [IndLabel(text=label_text(name), class_name=printable(name)) for name in names]
    excluded = excluded_names([label.text for label in ind])
    features: list[str] = []

    def embed(role: str, texts: Sequence[str], what: str) -> EmbeddedLabels:
        embedded, made = embed_labels(run, spec, templates[role], texts, settings.precision, what)
        features.append(made.name)
        return embedded

    embedded_ind = embed("ind", [label.text for label in ind], "labels")
    candidates: dict[PartOfSpeech, list[Candidate]] = {
        kind: [candidate for candidate in pool if candidate.part_of_speech == kind] for kind in POOLS
    }
    pools = [
        Pool(
            embed(kind, [candidate.text for candidate in members], POOLS[kind]),
            [place for place, candidate in enumerate(members) if plain(candidate.text) not in excluded],
        )
        for kind, members in candidates.items()
        if members
    ]
    return Labels(ind, candidates, MiningJob(embedded_ind, pools), features)


def excluded_names(labels: Sequence[str]) -> set[str]:
    """What names an InD class, in the spelling of `plain`: each label, each part of one that is a list with commas,
    and their regular plurals and singulars."""
    names = {plain(part) for label in labels for part in (label, *label.split(","))}
    return {form for name in names for form in _number_forms(name)} - {""}


def plain(text: str) -> str:
    """`text` without regard to case, and with spaces for underscores and hyphens."""
    return " ".join(composed(text).casefold().replace("_", " ").replace("-", " ").split())


def _number_forms(name: str) -> list[str]:
    """`name`, and what regular plural formation makes of it or may have made it from."""
    forms = [name, f"{name}s", f"{name}es", name.removesuffix("s"), name.removesuffix("es")]
    if name.endswith("y"):
        forms.append(f"{name[:-1]}ies")
    if name.endswith("ies"):
        forms.append(f"{name[:-3]}y")
    return forms


def candidate_pool(run: Run, settings: MineSettings, path: Path | None) -> Sequence[Candidate]:
    """The candidates of a file, else what the settings name; `--limit` of them, evenly; CSP's with their superclasses.

    Raises UsageError where CSP finds no adjective."""
    pool = spread(_given(settings, path), run.limit)
    if settings.pool != "csp":
        return pool
    if not any(candidate.part_of_speech == "adj" for candidate in pool):
        hint = "candidates as `adj,word`, or WordNet's"
        raise UsageError("--pool csp needs adjectives, and there are none", hint=hint)
    return conjugated(pool, run.seed)


def _given(settings: MineSettings, path: Path | None) -> list[Candidate]:
    named = None if path else _named(settings.candidates)
    if named:
        return named_candidates(named)
    path = path or Path(settings.candidates)
    if not path.exists():
        hint = f"a file, or one of {', '.join(get_args(CandidateList))}"
        raise UsageError(f"there are no candidates {printable(str(path))!r}", hint=hint)
    return read_candidates(path)


def _named(candidates: str) -> CandidateList | None:
    """The list that comes with synood under this name; None for the path of a file (./csp is one)."""
    return cast(CandidateList, candidates) if candidates in get_args(CandidateList) else None


def _adjective_template(settings: MineSettings) -> str:
    return settings.csp_template if settings.pool == "csp" else settings.adjective_template


def _templates(settings: MineSettings) -> dict[str, list[str]]:
    """The templates of InD labels and of each part of speech. Raises UsageError as templates_of."""
    said = {"ind": settings.ind_template, "noun": settings.noun_template, "adj": _adjective_template(settings)}
    return {role: templates_of(text) for role, text in said.items()}


def _warnings(labels: Sequence[IndLabel]) -> list[str]:
    counts = Counter(label.text for label in labels)
    warnings = [
        f"{count} class folders have the label text {text!r}: CLIP cannot tell them apart"
        for text, count in counts.items()
        if count > 1
    ]
    if numbers := sum(label.text.isdecimal() for label in labels):
        warnings.append(f"{numbers} label texts are numbers: `synood select --classes NAME` gives them their names")
    return warnings
