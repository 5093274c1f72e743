"""Fine-tune the text features of the chosen negative labels Y*⁻ (Eqs. 13-14); everything else stays fixed.

Shapes: M synthetic images, B of them in a batch, K labels in Y*⁻, D = CLIP width. Images are F(x) without δ, but for
the strategies of Table 5 that see Î.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from synood_cli.method.training import CosinePer, Descent, OnStep, minimise


def text_to_image_loss(images: Tensor, labels: Tensor, target: Tensor, logit_scale: float) -> Tensor:
    """-mean_i log(exp(s · I_i · T_i) / Σ_j exp(s · I_j · T_i)) (Eq. 14): for the pair (I_i, T_i) the denominator runs
    over the images of the batch. s = `logit_scale`, T_i = normalise(labels[target_i]).

    images: (B, D) of unit length; labels: (K, D) of any length; target: (B,) rows of labels → scalar ≥ 0.
    """
    text = functional.normalize(labels[target], dim=-1)
    return functional.cross_entropy(logit_scale * text @ images.T, torch.arange(len(images), device=images.device))


def image_to_text_loss(images: Tensor, labels: Tensor, target: Tensor, logit_scale: float) -> Tensor:
    """-mean_i log(exp(s · I_i · T_i) / Σ_k exp(s · I_i · T_k)): the denominator runs over the labels Y*⁻.

    Shapes as in `text_to_image_loss`. *Deviation:* the public release's loss; Eq. 14 runs over images.
    """
    text = functional.normalize(labels, dim=-1)
    return functional.cross_entropy(logit_scale * images @ text.T, target)


LABEL_LOSSES = {"text-to-image": text_to_image_loss, "image-to-text": image_to_text_loss}


def tune_labels(
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    *,
    loss: Literal["text-to-image", "image-to-text"],
    logit_scale: float,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    cosine: bool,
    generator: torch.Generator,
    cosine_per: CosinePer = "step",
    steps: int | None = None,
    on_step: OnStep | None = None,
) -> tuple[Tensor, list[float]]:
    """The features of Y*⁻ that minimise `loss` with SGD, (K, D) of unit length, and the loss of each step.

    images: (M, D) of unit length; labels: (K, D) of any length, the initial features, left as they are; targets: (M,)
    rows of labels. Features of length l move as if those of unit length were trained at 1/l² of the learning rate: the
    loss sees directions only, its gradient shrinks by l, and a step turns the feature by 1/l less again.
    cosine: the learning rate decays along a cosine to zero, per step or per epoch as in `Descent`. generator: a CPU
    generator, for the order. steps: so many in all, instead of epochs. Raises SynoodError if there are no images or the
    loss diverges.
    """
    tuned = labels.detach().clone().requires_grad_()
    optimizer = torch.optim.SGD([tuned], lr=learning_rate, momentum=momentum, weight_decay=weight_decay)

    def batch_loss(indices: Tensor) -> Tensor:
        rows = indices.to(images.device)
        return LABEL_LOSSES[loss](images[rows], tuned, targets[rows], logit_scale)

    losses = minimise(
        batch_loss,
        Descent(optimizer, 0.0 if cosine else None, cosine_per),
        count=len(images),
        epochs=epochs,
        batch_size=batch_size,
        generator=generator,
        steps=steps,
        on_step=on_step,
    )
    return functional.normalize(tuned.detach(), dim=-1), losses
