"""The negative labels of a head and how the two trainings went."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from synood_cli.reports.figures import HEADROOM, Plot, linear_axis, plot
from synood_cli.reports.lineage import Lineage
from synood_cli.store.store import Artifact, Store, loaded_name

MOST_ATTRACTIVE = 20
LOSS_POINTS = 200


class LabelCount(NamedTuple):
    """Labels of one role (ind, negative) and part of speech, and how many of them were tuned."""

    role: str
    part_of_speech: str
    labels: int
    tuned: int


class AttractiveLabel(NamedTuple):
    """A negative label, the synthetic images assigned to it, and their mean cosine similarity."""

    label: str
    images: int
    similarity: float


class Labels(NamedTuple):
    """The labels of a head. `assigned_by` is the head whose training assigned `images` images to `distinct` labels."""

    head: str
    counts: list[LabelCount]
    assigned_by: str
    images: int
    distinct: int
    attractive: list[AttractiveLabel]


def labels(store: Store, lineage: Lineage) -> Labels | None:
    """The labels of the lineage's newest head, and those that attract most synthetic images; None without a head."""
    if not lineage.heads:
        return None
    head = lineage.heads[0]
    counts = store.db.execute(
        """select role, coalesce(part_of_speech, ''), count(*), sum(tuned) from labels where artifact_id = ?
           group by 1, 2 order by 1, 2 desc""",
        [head.id],
    ).fetchall()
    made = Labels(head.name, [LabelCount(*row) for row in counts], "", 0, 0, [])
    for trained in lineage.heads:
        query = "select count(*), count(distinct label) from assignments where artifact_id = ?"
        images, distinct = store.db.execute(query, [trained.id]).fetchone()
        if images:
            found = _attractive(store, trained)
            return made._replace(assigned_by=trained.name, images=images, distinct=distinct, attractive=found)
    return made


def _attractive(store: Store, head: Artifact) -> list[AttractiveLabel]:
    rows = store.db.execute(
        """select label, count(*), avg(similarity) from assignments where artifact_id = ?
           group by label order by 2 desc, label limit ?""",
        [head.id, MOST_ATTRACTIVE],
    )
    return [AttractiveLabel(loaded_name(label), images, similarity) for label, images, similarity in rows.fetchall()]


def losses(store: Store, lineage: Lineage) -> list[Plot]:
    """The loss of every training step of the lineage's heads, the first training first; from LOSS_POINTS steps on,
    the means of as many equal stretches."""
    return [drawn for head in reversed(lineage.heads) if (drawn := _loss(store, head)) is not None]


def _loss(store: Store, head: Artifact) -> Plot | None:
    last = store.db.execute("select max(step) from training_steps where artifact_id = ?", [head.id]).fetchone()[0]
    if last is None:
        return None
    rows = store.db.execute(
        """select avg(step), avg(loss) from training_steps where artifact_id = ?
           group by (step - 1) * ? / ? order by 1""",
        [head.id, min(last, LOSS_POINTS), last],
    ).fetchall()
    step, loss = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    averaged = f"mean over {last / LOSS_POINTS:.3g} steps" if last > LOSS_POINTS else "every step"
    return plot(
        f"{head.stage} ({head.name})",
        f"Training loss of {head.name} over {last} steps, from {loss[0]:.4g} to {loss[-1]:.4g}.",
        linear_axis("step", float(step[0]), float(step[-1])),
        linear_axis(f"loss ({averaged})", min(0.0, float(loss.min())), HEADROOM * float(loss.max())),
        [("loss", step, loss)],
    )
