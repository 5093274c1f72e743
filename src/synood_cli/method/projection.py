"""The projection on CLIP's image side (Eq. 12).

Shapes: P pairs of image and label, B of them in a batch, K labels (InD and Y*⁻), D = CLIP width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from synood_cli.method.training import CosinePer, Descent, OnStep, minimise


class Projection(nn.Module):
    """Î = normalise(f + δ(f)) (Eq. 12), δ = Linear(D, D) → LayerNorm → ReLU, f = F(x) *before* normalisation.

    The linear layer starts uniform in ±1/√D like `nn.Linear`, drawn on the CPU from `generator` alone.

    *Deviation:* the paper says "a projection layer" only; δ's layers are the public release's.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        # By way of "meta": the layer's own initialisation would draw from the global generator.
        self.linear = nn.Linear(width, width, device="meta").to_empty(device="cpu")
        self.norm = nn.LayerNorm(width)
        with torch.no_grad():
            self.linear.weight.uniform_(-(width**-0.5), width**-0.5, generator=generator)
            self.linear.bias.uniform_(-(width**-0.5), width**-0.5, generator=generator)

    def delta(self, features: Tensor) -> Tensor:
        """δ(f) ≥ 0: (B, D) → (B, D)."""
        return torch.relu(self.norm(self.linear(features)))

    def forward(self, features: Tensor) -> Tensor:
        """Î: (B, D) before normalisation → (B, D) of unit length."""
        return functional.normalize(features + self.delta(features), dim=-1)


def projection_loss(projected: Tensor, text: Tensor, target: Tensor, logit_scale: float) -> Tensor:
    """-mean_i log softmax_k(s · Î_i · T_k)[target_i] (Eq. 12), s = `logit_scale` = 1/τ of CLIP's training.

    projected: (B, D), text: (K, D), both of unit length; target: (B,) rows of `text` → scalar ≥ 0.
    """
    return functional.cross_entropy(logit_scale * projected @ text.T, target)


def train_projection(
    features: Tensor,
    targets: Tensor,
    text: Tensor,
    *,
    logit_scale: float,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    cosine_to: float | None,
    generator: torch.Generator,
    cosine_per: CosinePer = "step",
    steps: int | None = None,
    on_step: OnStep | None = None,
) -> tuple[Projection, list[float]]:
    """The projection that minimises Eq. 12 with Adam, frozen, and the loss of each step.

    features: (P, D) *before* normalisation; targets: (P,) rows of text (K, D), unit length and fixed. cosine_to:
    final learning rate of a cosine decay, per step or per epoch as in `Descent`; None = constant. generator: a CPU
    generator, for initialisation and order. steps: so many in all, instead of epochs. Raises SynoodError if there are
    no pairs or the loss diverges.
    """
    projection = Projection(features.shape[1], generator).to(features.device)
    optimizer = torch.optim.Adam(projection.parameters(), lr=learning_rate, weight_decay=weight_decay)

    def batch_loss(indices: Tensor) -> Tensor:
        rows = indices.to(features.device)
        return projection_loss(projection(features[rows]), text, targets[rows], logit_scale)

    losses = minimise(
        batch_loss,
        Descent(optimizer, cosine_to, cosine_per),
        count=len(features),
        epochs=epochs,
        batch_size=batch_size,
        generator=generator,
        steps=steps,
        on_step=on_step,
    )
    return projection.requires_grad_(False), losses
