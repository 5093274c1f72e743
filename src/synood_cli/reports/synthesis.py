"""What the synthesis did: photographs beside their synthetic neighbours, and how their scores moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from synood_cli.reports.figures import HEADROOM, Axis, Plot, Sparkline, Tick, linear_axis, plot, sparkline
from synood_cli.reports.lineage import Lineage
from synood_cli.reports.pictures import Picture, thumbnail
from synood_cli.store.store import Artifact, Store, loaded_name

PER_GROUP = 8

GROUPS = {
    # title → SQL order of the images of a class; no two of a class before every class had its turn
    "Nearest the boundary": "abs(s.score - s.boundary)",
    "Farthest from the boundary": "abs(s.score - s.boundary) desc",
    "At random": "s.seed",
}
"""An image's own seed is a hash of the run's seed and of its content, so its order is random and always the same."""


class Assigned(NamedTuple):
    """The negative label nearest to a synthetic image, and their cosine similarity."""

    label: str
    similarity: float


class Example(NamedTuple):
    """One photograph and its synthetic neighbour. `first` and `last` are S_E - m_out at the first and last iteration;
    `top1` is the class that g gives the saved one, with its probability."""

    class_name: str
    name: str
    photograph: Picture
    synthetic: Picture
    prompt: str
    first: float
    last: float
    iterations: int
    kept: int
    top1: str
    top1_probability: float
    trajectory: Sparkline
    assigned: Assigned | None


class Iteration(NamedTuple):
    """All images at one iteration: their number, the means of S_E - m_out and of its absolute value, and the share of
    them on the OOD side (S_E ≤ m_out)."""

    iteration: int
    images: int
    distance: float
    absolute: float
    ood_share: float


class Synthesis(NamedTuple):
    """A synthetic artifact: boundary, trajectory in the mean, share of the saved images on the OOD side, examples."""

    images: int
    boundary: float
    iterations: list[Iteration]
    trajectory: Plot | None
    ood_share: float
    groups: list[tuple[str, list[Example]]]


def synthesis(store: Store, lineage: Lineage) -> Synthesis | None:
    """What became of the images of the lineage's synthetic artifact; None where there is none or it has no image."""
    made = lineage.synthetic
    if made is None:
        return None
    images, boundary, share = store.db.execute(
        "select count(*), max(boundary), avg(score <= boundary) from synthetic_images where artifact_id = ?", [made.id]
    ).fetchone()
    if not images:
        return None
    iterations = _iterations(store, made)
    return Synthesis(images, boundary, iterations, _trajectory(iterations), share, _groups(store, lineage, made))


def _iterations(store: Store, made: Artifact) -> list[Iteration]:
    rows = store.db.execute(
        """select t.iteration, count(*), avg(t.score - s.boundary), avg(abs(t.score - s.boundary)),
           avg(t.score <= s.boundary) from iterations t
           join synthetic_images s on s.artifact_id = t.artifact_id and s.image_id = t.image_id
           where t.artifact_id = ? group by t.iteration order by t.iteration""",
        [made.id],
    )
    return [Iteration(*row) for row in rows.fetchall()]


def _trajectory(iterations: Sequence[Iteration]) -> Plot | None:
    if len(iterations) < 2:
        return None
    numbers = np.array([row.iteration for row in iterations], dtype=np.float64)
    absolute = np.array([row.absolute for row in iterations])
    ticks = tuple(Tick(row.iteration, str(row.iteration)) for row in iterations)
    x = Axis("iteration", iterations[0].iteration, iterations[-1].iteration, ticks)
    values = ", ".join(f"{row.absolute:.3g} at iteration {row.iteration}" for row in iterations)
    return plot(
        "Mean distance to the boundary",
        f"Mean distance to the boundary: {values}.",
        x,
        linear_axis("mean |S - m_out|", 0.0, HEADROOM * float(absolute.max())),
        [("mean |S - m_out|", numbers, absolute)],
    )


def _groups(store: Store, lineage: Lineage, made: Artifact) -> list[tuple[str, list[Example]]]:
    chosen: dict[str, list[dict[str, Any]]] = {}
    taken: list[int] = []
    for title, order in GROUPS.items():
        chosen[title] = _choose(store, made, order, taken)
        taken += [row["image_id"] for row in chosen[title]]
    trajectories = _trajectories(store, made, taken)
    assigned = _assigned(store, lineage.heads, taken)
    return [
        (title, [_example(store, made, row, trajectories[row["image_id"]], assigned) for row in rows])
        for title, rows in chosen.items()
        if rows
    ]


def _choose(store: Store, made: Artifact, order: str, taken: Sequence[int]) -> list[dict[str, Any]]:
    """The first PER_GROUP images in this order that are not taken yet: the first of each class, then the second, …"""
    query = f"""
        select * from (
            select s.*, row_number() over (partition by i.class_name order by {order}, s.image_id) as turn
            from synthetic_images s join images i on i.id = s.image_id
            where s.artifact_id = ? and s.image_id not in ({_marks(taken)})
        ) s order by turn, {order}, image_id limit ?"""
    return list(store.db.query(query, [made.id, *taken, PER_GROUP]))


def _trajectories(store: Store, made: Artifact, images: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    query = f"select * from iterations where artifact_id = ? and image_id in ({_marks(images)}) order by iteration"
    found: dict[int, list[dict[str, Any]]] = {image: [] for image in images}
    for row in store.db.query(query, [made.id, *images]):
        found[row["image_id"]].append(row)
    return found


def _assigned(store: Store, heads: Sequence[Artifact], images: Sequence[int]) -> dict[int, Assigned]:
    """By image, from the newest head that has assignments."""
    query = f"select * from assignments where artifact_id = ? and image_id in ({_marks(images)})"
    for head in heads:
        rows = list(store.db.query(query, [head.id, *images]))
        if rows:
            return {row["image_id"]: Assigned(_text(row["label"]), row["similarity"]) for row in rows}
    return {}


def _example(
    store: Store,
    made: Artifact,
    row: dict[str, Any],
    steps: Sequence[dict[str, Any]],
    assigned: dict[int, Assigned],
) -> Example:
    image = store.image(row["image_id"])
    scores = [step["score"] for step in steps] or [row["score"]]
    kept = next((step for step in steps if step["iteration"] == row["kept_iteration"]), None)
    number = next((index for index, step in enumerate(steps) if step is kept), 0)
    return Example(
        class_name=image["class_name"],
        name=image["name"],
        photograph=thumbnail(image["path"]),
        synthetic=thumbnail(made.folder / _text(row["path"])),
        prompt=_text(row["prompt"]),
        first=scores[0] - row["boundary"],
        last=scores[-1] - row["boundary"],
        iterations=len(scores),
        kept=row["kept_iteration"],
        top1=(_text(kept["top1_name"]) if kept["top1_name"] else f"class {kept['top1']}") if kept else "",
        top1_probability=kept["top1_probability"] if kept else 0.0,
        trajectory=sparkline(scores, row["boundary"], number),
        assigned=assigned.get(row["image_id"]),
    )


def _marks(values: Sequence[int]) -> str:
    return ", ".join("?" * len(values))


def _text(value: str | bytes) -> str:
    return loaded_name(value)
