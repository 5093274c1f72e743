"""Results as they are printed in the paper, to stand beside one's own, always marked as published.

Source: Li et al., "Synthesizing Near-Boundary OOD Samples for Out-of-Distribution Detection", ICCV 2025 (arXiv
2507.10225), ImageNet-1k in-distribution, averages over iNaturalist, SUN, Places and Textures (`imagenet-ood`), and
over OpenOOD v1.5's near and far sets. FPR95 with in-distribution as positive, but for AdaNeg: its row is that of
its own paper, whose code takes OOD as positive. Rows of other methods are the SynOOD paper's too.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

SOURCE = "Li et al., ICCV 2025 (arXiv 2507.10225), ImageNet-1k"
TPR = 0.95
"""True-positive rate of every published FPR."""


class Published(NamedTuple):
    """One printed result, in percent. `dataset` is an OOD set of the suite, or "average" over it; `fpr95_positive` the
    positive class of its FPR95."""

    method: str
    backbone: str
    suite: str
    dataset: str
    auroc: float
    fpr95: float
    adapts: bool = False
    fpr95_positive: Literal["ind", "ood"] = "ind"


_MOS, _OPENOOD = "imagenet-ood", "openood-imagenet"

PUBLISHED = (
    Published("MCM", "ViT-B/16", _MOS, "average", 90.82, 43.93),
    Published("NegLabel", "ViT-B/16", _MOS, "average", 94.21, 25.40),
    Published("CSP", "ViT-B/16", _MOS, "average", 95.76, 17.51),
    Published("AdaNeg", "ViT-B/16", _MOS, "average", 96.66, 18.92, adapts=True, fpr95_positive="ood"),
    Published("SynOOD", "ViT-B/16", _MOS, "iNaturalist", 99.57, 1.57),
    Published("SynOOD", "ViT-B/16", _MOS, "SUN", 95.82, 20.46),
    Published("SynOOD", "ViT-B/16", _MOS, "Places", 97.37, 12.12),
    Published("SynOOD", "ViT-B/16", _MOS, "Textures", 95.29, 22.94),
    Published("SynOOD", "ViT-B/16", _MOS, "average", 97.01, 14.27),
    Published("SynOOD", "ResNet-50", _MOS, "average", 95.80, 20.05),
    Published("SynOOD", "ViT-B/32", _MOS, "average", 95.93, 19.41),
    Published("NegLabel", "ViT-B/16", _OPENOOD, "near", 75.47, 74.74),
    Published("NegLabel", "ViT-B/16", _OPENOOD, "far", 94.30, 25.73),
    Published("SynOOD", "ViT-B/16", _OPENOOD, "near", 77.55, 71.68),
    Published("SynOOD", "ViT-B/16", _OPENOOD, "far", 96.21, 17.11),
)


def published_rows() -> list[dict[str, Any]]:
    """The published results as rows of a table, in shares like one's own, with their source."""
    return [
        {**row._asdict(), "auroc": row.auroc / 100, "fpr95": row.fpr95 / 100, "source": SOURCE} for row in PUBLISHED
    ]
