"""Labels, assignments and losses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from report_study import make_heads
from synood_cli.reports.figures import LEFT, RIGHT
from synood_cli.reports.lineage import trace
from synood_cli.reports.training import LOSS_POINTS, labels, losses
from synood_cli.store.store import Store

if TYPE_CHECKING:
    from conftest import Study


def test_counts_and_the_most_attractive_labels_by_hand(store: Store, study: Study) -> None:
    found = labels(store, trace(store, study.evaluation))
    assert found is not None
    assert found.head == found.assigned_by == "head@3"
    assert found.counts == [("ind", "", 2, 0), ("negative", "noun", 3, 1), ("negative", "adj", 2, 0)]
    assert (found.images, found.distinct) == (4, 2)
    assert found.attractive == [("anvil", 3, 0.5), ("cog", 1, 0.5)]


def test_a_head_without_training_has_labels_only(store: Store, study: Study) -> None:
    lineage = trace(store, study.heads[0])
    found = labels(store, lineage)
    assert found is not None
    assert (found.head, found.assigned_by, found.attractive) == ("head@1", "", [])
    assert losses(store, lineage) == []
    assert labels(store, trace(store, study.synthetic)) is None


def test_only_the_first_twenty_labels(store: Store, study: Study) -> None:
    more = [row[0] for row in store.db.execute("select id from images").fetchall()]
    for number in range(30):
        more += store.add_images(
            [{"sha256": str(number), "root": "/r", "name": str(number), "class_name": "cat", "width": 1}
             | {"height": 1, "bytes": 1, "format": "PNG"}]
        )  # fmt: skip
    assigned = {image: f"label {number:02}" for number, image in enumerate(more)}
    heads = make_heads(store, study.selection, study.synthetic, assigned, [1.0])
    found = labels(store, trace(store, heads[-1]))
    assert found is not None
    assert [row.label for row in found.attractive] == [f"label {number:02}" for number in range(20)]
    assert (found.images, found.distinct) == (34, 34)


def test_every_step_of_a_short_training_is_drawn(store: Store, study: Study) -> None:
    found = losses(store, trace(store, study.evaluation))
    assert [plot.title for plot in found] == ["train-proj (head@2)", "train-labels (head@3)"]
    assert found[0].y_label == "loss (every step)"
    points = re.findall(r"([\d.]+),([\d.]+)", found[0].curves[0].path)
    assert [float(x) for x, _ in points] == [LEFT, (LEFT + RIGHT) / 2, RIGHT]
    heights = [float(y) for _, y in points]
    assert (heights[1] - heights[0]) / (heights[2] - heights[1]) == pytest.approx(2, rel=0.01)  # 3, 2, 1.5
    assert "over 3 steps, from 3 to 1.5" in found[0].description


def test_a_long_training_is_drawn_as_means_of_equal_stretches(store: Store, study: Study) -> None:
    loss = np.linspace(10, 0, 1000)
    heads = make_heads(store, study.selection, study.synthetic, {}, loss.tolist())
    [first, _] = losses(store, trace(store, heads[-1]))
    assert first.y_label == "loss (mean over 5 steps)"
    assert first.curves[0].path.count("L") == LOSS_POINTS - 1
    assert f"from {loss[:5].mean():.4g} to {loss[-5:].mean():.4g}" in first.description
