"""AdaNeg (Zhang & Zhang, "AdaNeg: Adaptive Negative Proxy Guided OOD Detection with Vision-Language Models", NeurIPS
2024): a score that adapts to the test images while they stream by. Higher = more in-distribution.

Its values depend on the order of the images and on how many of them are OOD: they belong to one stream.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from synood_cli.errors import SynoodError
from synood_cli.method.scores import ind_share


class ProxyMemory:
    """Image features of the stream that stand beside each label's text feature.

    labels: (N, D) unit length, and always remembered; `slots` images per label, those of the lowest entropy.
    """

    def __init__(self, labels: Tensor, slots: int) -> None:
        self.labels = labels
        self.slots = slots
        self.features = labels.new_zeros(len(labels), 1 + slots, labels.shape[1])
        self.features[:, 0] = labels
        self.entropies: list[list[float]] = [[] for _ in range(len(labels))]

    def remember(self, label: int, feature: Tensor, entropy: float) -> None:
        """Add (D,) `feature` to the images of `label`; a full memory gives up the image of the highest entropy, if the
        new one's is lower."""
        known = self.entropies[label]
        if len(known) < self.slots:
            known.append(entropy)
            self.features[label, len(known)] = feature
            return
        worst = max(range(len(known)), key=known.__getitem__)
        if entropy < known[worst]:
            known[worst] = entropy
            self.features[label, 1 + worst] = feature

    def cosines(self, image: Tensor, beta: float) -> Tensor:
        """cos(x, proxy of each label), (B, D) → (B, N).

        The proxy is normalise(Σ_k w_k m_k) over what the label remembers, text included, with the sample-adaptive
        weights w_k = exp(-β (1 - cos(x, m_k))); at β = 0 it is the mean, the task-adaptive proxy. A label without
        images keeps its text feature. At most (B, labels with images, 1 + slots) weights exist at once.
        """
        cosines = image @ self.labels.T
        used = [label for label, known in enumerate(self.entropies) if known]
        if used:
            rows = torch.tensor(used, device=image.device)
            memory = self.features[rows]
            similarity = torch.einsum("bd,akd->bak", image, memory)
            filled = memory.abs().amax(dim=2) > 0
            weights = torch.exp(-beta * (1 - similarity)) * filled
            # |Σ w m|² = wᵀ G w with the Gram matrix G of the memory: no (B, labels, D) proxies are made.
            gram = memory @ memory.transpose(1, 2)
            squared = torch.einsum("bak,akl,bal->ba", weights, gram, weights)
            cosines[:, rows] = (weights * similarity).sum(dim=2) / squared.clamp_min(1e-12).sqrt()
        return cosines


class Streamed(NamedTuple):
    """What AdaNeg says of S images, in the order of their stream: scores and positions of InD labels. Each (S,)."""

    scores: Tensor
    predicted: Tensor


def adaneg(
    stream: Tensor,
    ind: Tensor,
    negatives: Tensor,
    *,
    temperature: float,
    groups: Tensor | None,
    memory: int,
    threshold: float,
    gap: float,
    weight: float,
    beta: float,
    batch: int,
) -> Streamed:
    """S_ada(x) + λ S(x) of each image of a stream, in its order, and its class: (S, D) unit length → (S,), in
    [0, 1 + λ], float64.

    S is Eq. 2 on the labels' text features, S_ada Eq. 2 on their proxies (`ProxyMemory`); λ = `weight`. Images with
    S > t + g (1 - t) are remembered for their nearest InD label, those with S < t - g t for their nearest negative one
    (t = `threshold`, g = `gap`), by the entropy of the softmax over the labels of that kind. `batch` images are
    remembered, then scored, at a time: an image's own batch has been seen when it is scored. groups as in
    `neglabel_score`, for both scores. ind: (C, D), negatives: (N, D), unit length. Raises SynoodError for no labels of
    either kind.

    The class is argmax_c (p_c + λ p_ada,c) over the InD labels, with p the softmax of cos/τ over all labels, of both
    kinds and without groups, and p_ada that of the cosines to the proxies (of the public code; the paper says none).
    """
    if len(ind) == 0 or len(negatives) == 0:
        raise SynoodError(f"AdaNeg needs labels of both kinds: {len(ind)} in-distribution, {len(negatives)} negative")
    proxies = ProxyMemory(torch.cat([ind, negatives]), memory)
    scores, predicted = [stream.new_empty(0, dtype=torch.float64)], [stream.new_empty(0, dtype=torch.long)]
    for images in torch.split(stream, batch):
        cosines = (images @ proxies.labels.T).double()
        static = ind_share(cosines[:, : len(ind)], cosines[:, len(ind) :], temperature, groups)
        for chosen, columns, first in (
            (static > threshold + gap * (1 - threshold), slice(None, len(ind)), 0),
            (static < threshold - gap * threshold, slice(len(ind), None), len(ind)),
        ):
            nearest, entropy = _nearest(cosines[chosen, columns] / temperature)
            for image, label, uncertainty in zip(images[chosen], nearest.tolist(), entropy.tolist(), strict=True):
                proxies.remember(first + label, image, uncertainty)
        adapted = proxies.cosines(images, beta).double()
        scores.append(ind_share(adapted[:, : len(ind)], adapted[:, len(ind) :], temperature, groups) + weight * static)
        p, p_ada = ((each / temperature).softmax(dim=1) for each in (cosines, adapted))
        predicted.append((p + weight * p_ada)[:, : len(ind)].argmax(dim=1))
    return Streamed(torch.cat(scores), torch.cat(predicted))


def _nearest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The largest logit's position, and the entropy of the softmax. (B, N) → (B,) long, (B,)."""
    log_p = logits.log_softmax(dim=1)
    return logits.argmax(dim=1), -(log_p.exp() * log_p).sum(dim=1)
