"""The model card of a published head: README.md with the hub's metadata."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

from synood_cli.errors import ModelError
from synood_cli.metrics.conventions import fpr_name
from synood_cli.models.revisions import located, named_by_content
from synood_cli.playground import BUNDLED_CLIP
from synood_cli.records import ModelSpec, printable
from synood_cli.store.files import sha256_file
from synood_cli.store.heads import HeadInfo
from synood_cli.store.publication import EvaluationRow

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

CARD_FILE = "README.md"

TASK = "out-of-distribution-detection"

LABELS_SHOWN = 12
"""Labels of either kind that the card lists."""

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#|!&~$])")


def model_card(info: HeadInfo, name: str) -> str:
    """README.md of the published head `info` that can be pulled as `name`: metadata in YAML (tags, base model, licence,
    evaluation results), then what it detects, how it was made, its table, its limits and how to use it, in Markdown.

    Every name in it is escaped: none can become markup, HTML or a terminal's command.
    """
    from huggingface_hub import ModelCard, ModelCardData

    if info.publication is None:
        raise ValueError("only a published head has a model card")
    evaluation = info.publication.evaluation
    rows = evaluation.rows if evaluation else ()
    data = ModelCardData(
        license=info.publication.license,
        base_model=base_model(info.clip.model),
        library_name="synood",
        pipeline_tag="image-classification",
        tags=[TASK, "ood", "clip", "synood"],
        model_name=name,
        eval_results=_results(rows, evaluation.tpr) if evaluation else None,
    )
    template = files("synood_cli.hub").joinpath("templates/card.md").read_text(encoding="utf-8")
    card = ModelCard.from_template(
        data,
        template_str=template,
        name=name,
        address=name,
        info=info,
        publication=info.publication,
        rows=rows,
        fpr=fpr_name(evaluation.tpr) if evaluation else "",
        local=_must_be_brought(info.clip.model),
        shown=LABELS_SHOWN,
        md=markdown,
        percent=_percent,
    )
    return f"{card}\n"


def base_model(spec: ModelSpec) -> str | None:
    """The hub repository of the CLIP: its own id, or the one from which open_clip loads a built-in name; None for
    local weights.
    """
    if named_by_content(spec):
        return None
    if "/" in spec.name:
        return spec.name.removeprefix("hf-hub:")
    from open_clip import get_pretrained_cfg

    return str(get_pretrained_cfg(spec.name, spec.pretrained or "").get("hf_hub", "")).strip("/") or None


def _must_be_brought(spec: ModelSpec) -> bool:
    """Whether the CLIP is neither found by its name nor the one that comes with synood."""
    try:
        return named_by_content(located(spec, [BUNDLED_CLIP], sha256_file))
    except ModelError:
        return True


def markdown(text: str) -> str:
    """`text` as Markdown that shows just that: no markup, no HTML, one line."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def _results(rows: tuple[EvaluationRow, ...], tpr: float) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=TASK,
            task_name="Out-of-distribution detection",
            dataset_type=row.dataset,
            dataset_name=row.dataset,
            metric_type=kind,
            metric_name=name,
            metric_value=round(100 * value, 4),
        )
        for row in rows
        for kind, name, value in (
            ("auroc", "AUROC (%)", row.auroc),
            ("fpr95", f"{fpr_name(tpr)} (%), {row.fpr95_positive} positive", row.fpr95),
        )
    ]


def _percent(value: float | None, low: float | None = None, high: float | None = None) -> str:
    interval = "" if low is None or high is None else f" ({100 * low:.2f} to {100 * high:.2f})"
    return "" if value is None else f"{100 * value:.2f}{interval}"
