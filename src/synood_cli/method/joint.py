"""Learn the projection and the text features of Y*⁻ at once: "joint" of Table 5.

Shapes: m pairs of a synthetic and a selected image, B of them in a batch, C InD labels, K labels in Y*⁻, D = CLIP's
width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from synood_cli.method.label_tuning import LABEL_LOSSES
from synood_cli.method.projection import Projection, projection_loss
from synood_cli.method.training import CosinePer, Descent, OnStep, minimise


def joint_loss(
    projected_synthetic: Tensor,
    projected_ind: Tensor,
    labels: Tensor,
    assigned: Tensor,
    ind_text: Tensor,
    classes: Tensor,
    *,
    loss: Literal["text-to-image", "image-to-text"],
    logit_scale: float,
) -> Tensor:
    """Eq. 12 on both images of each pair, against the InD labels and Y*⁻ as it is by now, plus `loss` (Eq. 14) on the
    projected synthetic ones: one scalar ≥ 0, whose gradient reaches projection and labels from both terms.

    projected_*: Î, (B, D) of unit length; labels: (K, D) of any length; assigned: (B,) rows of labels; ind_text:
    (C, D) of unit length; classes: (B,) rows of ind_text.
    """
    text = torch.cat([ind_text, functional.normalize(labels, dim=-1)])
    targets = torch.cat([len(ind_text) + assigned, classes])
    images = torch.cat([projected_synthetic, projected_ind])
    tuning = LABEL_LOSSES[loss](projected_synthetic, labels, assigned, logit_scale)
    return projection_loss(images, text, targets, logit_scale) + tuning


def train_jointly(
    synthetic: Tensor,
    ind: Tensor,
    labels: Tensor,
    assigned: Tensor,
    ind_text: Tensor,
    classes: Tensor,
    *,
    loss: Literal["text-to-image", "image-to-text"],
    logit_scale: float,
    epochs: int,
    batch_size: int,
    projection_learning_rate: float,
    projection_weight_decay: float,
    projection_cosine_to: float | None,
    label_learning_rate: float,
    label_momentum: float,
    label_weight_decay: float,
    label_cosine: bool,
    generator: torch.Generator,
    projection_cosine_per: CosinePer = "step",
    label_cosine_per: CosinePer = "step",
    steps: int | None = None,
    on_step: OnStep | None = None,
) -> tuple[Projection, Tensor, list[float]]:
    """The projection (by Adam) and the features of Y*⁻ (by SGD; (K, D) of unit length) that minimise `joint_loss`
    together, and the loss of each step.

    synthetic, ind: (m, D) *before* normalisation, row i of both is pair i; the rest as in `joint_loss`. Each part has
    the optimiser and schedule of its separate training (`train_projection`, `tune_labels`). Raises SynoodError if there
    are no pairs or the loss diverges.

    *Deviation:* the paper names the strategy and does not define it; the sum is our reading.
    """
    projection = Projection(synthetic.shape[1], generator).to(synthetic.device)
    tuned = labels.detach().clone().requires_grad_()
    adam = torch.optim.Adam(projection.parameters(), lr=projection_learning_rate, weight_decay=projection_weight_decay)
    sgd = torch.optim.SGD([tuned], lr=label_learning_rate, momentum=label_momentum, weight_decay=label_weight_decay)

    def batch_loss(indices: Tensor) -> Tensor:
        rows = indices.to(synthetic.device)
        return joint_loss(
            projection(synthetic[rows]),
            projection(ind[rows]),
            tuned,
            assigned[rows],
            ind_text,
            classes[rows],
            loss=loss,
            logit_scale=logit_scale,
        )

    losses = minimise(
        batch_loss,
        Descent(adam, projection_cosine_to, projection_cosine_per),
        Descent(sgd, 0.0 if label_cosine else None, label_cosine_per),
        count=len(synthetic),
        epochs=epochs,
        batch_size=batch_size,
        generator=generator,
        steps=steps,
        on_step=on_step,
    )
    return projection.requires_grad_(False), functional.normalize(tuned.detach(), dim=-1), losses
