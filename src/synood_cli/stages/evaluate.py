"""Evaluate: how well each method tells in-distribution from OOD images (Sec. 4), all on the same ones."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from synood_cli.config import EvalSettings
from synood_cli.data.image_sets import ImageSet, images_fingerprint, set_fingerprint
from synood_cli.data.sources import find_images, find_ind
from synood_cli.errors import UsageError
from synood_cli.evaluated_methods import ADANEG_RULES, BASELINE_RULES
from synood_cli.metrics.conventions import AVERAGE, IND, model_label
from synood_cli.models.revisions import resolve_revision
from synood_cli.records import AnyImage, ModelSpec, composed, printable
from synood_cli.stages.baselines import Plan, fitting_images, plan_baselines, require_library, score_baselines
from synood_cli.stages.contenders import (
    MCM_TEMPERATURE,
    Contender,
    EmbeddedSet,
    Entrant,
    contenders,
    score_contender,
)
from synood_cli.stages.embed import embed_images, folder_items, spread, surface_failures
from synood_cli.stages.heads import require_clip, require_labels
from synood_cli.stages.image_sets import SuiteUse, labels_digest, number_names
from synood_cli.stages.resources import resources
from synood_cli.stages.run import Run
from synood_cli.stages.tabulate import reference, tables
from synood_cli.store.draft import Draft
from synood_cli.store.store import Artifact


def evaluate(
    run: Run,
    settings: EvalSettings,
    heads: Sequence[Artifact],
    ind: Path | ImageSet,
    ood: Mapping[str, Path | ImageSet],
    suite: SuiteUse | None = None,
    *,
    classifier: ModelSpec | None = None,
    selection: Artifact | None = None,
) -> Artifact:
    """AUROC, FPR95 and AUPR of each method on every OOD set against the InD images, their average (of each group of a
    `suite` too), and how the methods differ. The methods: MCM, the scores asked for on each head, and the baselines on
    `classifier`, of which some are fitted on `selection` (the newest, if None).

    InD images with classes, which must be the heads', also give the accuracy; without, they are taken as they are.
    Each set is embedded once and every score is kept. `--limit` takes so many images of each set, evenly.
    """
    _check_datasets(ood)
    if settings.baselines:
        require_library()
    methods = contenders(run, heads, settings)
    data = _find(run, methods, ind, ood)
    groups = suite.groups if suite else {}
    for contender in methods:
        require_labels(contender.head, contender.info, data.classes)
    plan = _plan(run, settings, methods, classifier, selection)
    _check_reference(methods, settings)
    specs = {f"clip-{number}": spec for number, spec in enumerate(_distinct(methods), start=1)}
    own = {contender.head.name: contender.head for contender in methods}
    inputs = {f"head-{number}": head for number, head in enumerate(own.values(), start=1)}
    if plan is not None and plan.selection is not None:
        inputs["selection"] = plan.selection
    draft = run.begin(
        "eval",
        "eval",
        items=sum(map(len, data.images.values())),
        settings=_asked(settings, methods),
        inputs=inputs,
        models=specs | ({"classifier": plan.spec} if plan else {}),
        digests={**data.digests, "labels and groups": labels_digest(data.images[IND], groups)},
    )
    if draft.artifact.reused:
        return draft.artifact
    for dataset, files in data.sets.items():
        for name, reason in files.problems:
            draft.fail(f"{dataset}/{name}", reason)
    features = {spec: _embed(run, spec, data, settings) for spec in specs.values()}
    if plan is not None:
        features[plan.spec] = _embed(run, plan.spec, data, settings, classifier=True)
    for dataset in data.images:
        surface_failures(draft, [made[dataset] for made in features.values()], of=dataset)
    for contender in methods:
        require_clip(contender.info, contender.head.name, features[contender.spec][IND].notes["clip"])
    draft.note({"mcm": {c.head.name: c.mcm for c in methods}, "clips": {c.head.name: _clip(c.spec) for c in methods}})
    entrants = _score(run, draft, methods, plan, data, features, settings)
    found = tables(run.store, run.store.get(draft.artifact.name), entrants, settings, run.seed, groups)
    sizes = {c.head.name: features[c.spec][IND].notes["clip"].get("parameters") for c in methods}
    draft.note(
        {
            "ind": str(data.sets[IND].place),
            "ood": {name: str(data.sets[name].place) for name in ood},
            "suite": suite._asdict() if suite else None,
            "features": sorted({made.name for sets in features.values() for made in sets.values()}),
            "methods": [[entrant.method, entrant.head] for entrant in entrants],
            "resources": resources(run, own, sizes, settings.timing),
            "warnings": [*(suite.differences if suite else []), *_warnings(methods, data.classes, plan, settings)],
        }
    )
    draft.commit({"metrics": found.metrics, "differences": found.differences})
    return draft.complete(done=sum(made.items_done for made in features[methods[0].spec].values()))


class _Data(NamedTuple):
    """The images of each data set (IND among them), what stands for them in the identity of their features, what stands
    for the set in that of the evaluation, and their classes."""

    sets: dict[str, ImageSet]
    images: dict[str, list[AnyImage]]
    looks: dict[str, str]
    digests: dict[str, str]
    classes: list[str]


def _check_datasets(ood: Mapping[str, object]) -> None:
    if not ood:
        raise UsageError("there is no OOD set to evaluate on", hint="--ood NAME=IMAGES, as often as you like")
    shown: dict[str, str] = {}
    for name in ood:
        alike = shown.setdefault(unicodedata.normalize("NFC", printable(name)), name)
        if alike != name:
            raise UsageError(
                f"the OOD sets {alike!r} and {name!r} have names that look alike",
                hint="--ood NAME=IMAGES, with another NAME",
            )
        if name == IND or name.startswith((f"{IND}:", AVERAGE)) or not name.strip():
            raise UsageError(f"an OOD set cannot be called {name!r}", hint="--ood NAME=IMAGES, with another NAME")


def _find(run: Run, methods: Sequence[Contender], ind: Path | ImageSet, ood: Mapping[str, Path | ImageSet]) -> _Data:
    ind_set = _named(find_ind(ind) if isinstance(ind, Path) else ind, methods)
    ood_sets = {name: find_images(found) if isinstance(found, Path) else found for name, found in ood.items()}
    sets = {IND: ind_set, **ood_sets}
    for dataset, found in sets.items():
        run.passed_over.add(f"{dataset}/{name}" for name in found.strays)
    images = {dataset: list(spread(found.images, run.limit)) for dataset, found in sets.items()}
    looks = {dataset: images_fingerprint(files) for dataset, files in images.items()}
    digests = {dataset: set_fingerprint(found, looks[dataset]) for dataset, found in sets.items()}
    return _Data(sets, images, looks, digests, ind_set.classes)


def _named(images: ImageSet, methods: Sequence[Contender]) -> ImageSet:
    """`images` with the class names that all heads mean by their numbers. Raises UsageError where they differ."""
    first, *others = {contender.head.name: contender.info for contender in methods}.items()
    names = number_names(images, *first)
    for head, info in others:
        if number_names(images, head, info) != names:
            raise UsageError(
                f"{printable(str(images.place))}: the labels are numbers, and {first[0]} and {head} have different "
                "classes at the same places",
                hint="evaluate these heads one by one, or label the images by class names",
            )
    return images.renamed(names) if names else images


def _known_classes(methods: Sequence[Contender]) -> list[str]:
    """The classes of all heads, which the baselines' logits are restricted to. Raises UsageError where they differ."""
    classes = {c.head.name: sorted(composed(label.class_name) for label in c.info.ind_labels) for c in methods}
    first, *others = classes
    for head in others:
        if classes[head] != classes[first]:
            raise UsageError(
                f"the baselines need one list of classes, and {first} and {head} have different ones",
                hint="evaluate these heads one by one, or leave out --baselines",
            )
    return [composed(label.class_name) for label in methods[0].info.ind_labels]


def _plan(
    run: Run,
    settings: EvalSettings,
    methods: Sequence[Contender],
    classifier: ModelSpec | None,
    selection: Artifact | None,
) -> Plan | None:
    if not settings.baselines:
        return None
    if classifier is None:
        raise UsageError("the baselines need a classifier", hint="--classifier NAME, or [models] in synood.toml")
    spec = resolve_revision(classifier, run.store.file_digest)
    return plan_baselines(run, settings, spec, selection, _known_classes(methods))


def _check_reference(methods: Sequence[Contender], settings: EvalSettings) -> None:
    """Before any work: a reference that a mistyped --against does not name."""
    baselines = [Entrant(name) for name in settings.baselines]
    reference([*(contender.entrant for contender in methods), *baselines], settings.against)


def _asked(settings: EvalSettings, methods: Sequence[Contender]) -> dict[str, object]:
    """The settings that this evaluation depends on: those of methods that take no part are left out."""
    absent = {
        *(() if "adaneg" in settings.method else ("adaneg",)),
        *(() if settings.baselines else ("baseline",)),
    }
    asked: dict[str, object] = settings.model_dump(mode="json", exclude=absent)
    asked["mcm_temperature"] = MCM_TEMPERATURE
    if settings.baselines:
        asked["baseline_rules"] = BASELINE_RULES
    if "adaneg" in settings.method:
        asked["adaneg_rules"] = ADANEG_RULES
    if mcm := sorted({contender.mcm for contender in methods if contender.mcm}):
        asked["mcm"] = mcm
    return asked


def _distinct(methods: Sequence[Contender]) -> list[ModelSpec]:
    return list(dict.fromkeys(contender.spec for contender in methods))


def _clip(spec: ModelSpec) -> str:
    """A CLIP as the tables name it."""
    return f"{model_label(spec.name)} {spec.pretrained or ''}".strip()


def _embed(
    run: Run, spec: ModelSpec, data: _Data, settings: EvalSettings, *, classifier: bool = False
) -> dict[str, Artifact]:
    return {
        dataset: embed_images(
            run,
            spec,
            folder_items(files),
            digest=data.looks[dataset],
            precision=settings.precision,
            what=dataset,
            role="classifier" if classifier else "clip",
        )
        for dataset, files in data.images.items()
    }


def _score(
    run: Run,
    draft: Draft,
    methods: Sequence[Contender],
    plan: Plan | None,
    data: _Data,
    features: Mapping[ModelSpec, Mapping[str, Artifact]],
    settings: EvalSettings,
) -> list[Entrant]:
    """Score everything; the methods in the order of the tables."""
    sets = {
        spec: {dataset: EmbeddedSet.of(run.store, data.images[dataset], made) for dataset, made in found.items()}
        for spec, found in features.items()
    }
    fitting = fitting_images(run, draft, plan, settings) if plan else None
    run.progress.start("evaluate", (len(methods) + (plan is not None)) * len(data.images))
    entrants = [score_contender(run, draft, contender, sets[contender.spec], settings) for contender in methods]
    if plan is not None:
        entrants += score_baselines(run, draft, plan, fitting, sets[plan.spec], settings)
    return entrants


def _warnings(
    methods: Sequence[Contender], classes: Sequence[str], plan: Plan | None, settings: EvalSettings
) -> list[str]:
    warnings = []
    if plan is not None and plan.selection is not None:
        count, k = plan.selection.items_done, settings.baseline.knn_k
        if "KNN" in settings.baselines and count < k:
            warnings.append(f"KNN looks at {k} neighbours, and {plan.selection.name} has {count} images: it takes all")
        of_heads = {label.class_name for contender in methods for label in contender.info.ind_labels}
        if of_heads != set(plan.classes):
            warnings.append(
                f"the baselines know the {len(plan.classes)} classes of {plan.selection.name}, the heads other ones "
                f"({len(of_heads)})"
            )
    for head, info in {contender.head.name: contender.info for contender in methods}.items():
        lacking = len(info.ind_labels) - len(info.labelled(classes))
        if classes and lacking:
            warnings.append(f"{lacking} of the {len(info.ind_labels)} classes of {head} have no in-distribution images")
    return warnings
