"""A head's arithmetic on a device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from synood_cli.method.boundary import threshold_at_tpr
from synood_cli.method.projection import Projection
from synood_cli.method.scores import grouping, neglabel_score, predicted_class
from synood_cli.models.equal_batches import filled, rows_at_once
from synood_cli.stages.embed import Features
from synood_cli.stages.heads import Detections
from synood_cli.store.heads import Head

CHUNK = 1024
"""Images that meet all labels at once: at 11,500 labels a similarity matrix of 47 MB."""

DETECTED = 256
"""Images that `detect` takes at once, always, on a GPU. On the CPU it takes one after another: see `equal_batches`."""


class TorchHead:
    """The tensors of a head, ready to score features F(x) (before normalisation)."""

    def __init__(
        self,
        tensors: Mapping[str, Features],
        *,
        temperature: float,
        groups: int,
        group_seed: int,
        device: str,
    ) -> None:
        self.device = device
        self.ind = torch.tensor(tensors["ind_features"], device=device)
        self.negatives = torch.tensor(tensors["negative_features"], device=device)
        self.temperature = temperature
        self._rows = rows_at_once(device, DETECTED)
        count = len(self.negatives)
        self.groups = grouping(count, groups, group_seed).to(device) if groups else None
        self.projection: Projection | None = None
        weights = {
            name.removeprefix("projection."): torch.tensor(tensor)
            for name, tensor in tensors.items()
            if name.startswith("projection.")
        }
        if weights:
            self.projection = Projection(self.ind.shape[1], torch.Generator())
            self.projection.load_state_dict(weights)
            self.projection.to(device).eval()

    @classmethod
    def of(cls, head: Head, device: str) -> TorchHead:
        """`head` on `device`."""
        info = head.info
        return cls(
            head.tensors,
            temperature=info.temperature,
            groups=info.groups,
            group_seed=info.group_seed,
            device=device,
        )

    @torch.no_grad()
    def image_features(self, features: Tensor) -> Tensor:
        """Î: F(x), projected where the head has a projection, at unit length. (B, D) → (B, D)."""
        return normalize(features, dim=-1) if self.projection is None else self.projection(features)

    def detect(self, features: Tensor | Features) -> Detections:
        """S of each image (Eq. 2), and its nearest labels. (B, D) F(x) → B detections, on the CPU. Those of an image
        do not depend on the others."""
        chunks = torch.split(torch.as_tensor(features), self._rows)
        found = [[part[: len(chunk)] for part in self._detected(chunk)] for chunk in chunks]
        joined = [torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True)]
        return Detections(*joined)

    def _detected(self, chunk: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.detections(filled(chunk.to(self.device), self._rows))

    def scores(self, features: Tensor) -> Tensor:
        """S of each image (Eq. 2): (B, D) F(x) on the device → (B,)."""
        return neglabel_score(self.image_features(features), self.ind, self.negatives, self.temperature, self.groups)

    def threshold(self, features: Tensor | Features, tpr: float) -> float:
        """The η that a share `tpr` of these images reaches."""
        return threshold_at_tpr(torch.tensor(self.detect(features).scores), tpr)

    def detections(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The fields of Detections, as tensors: (B, D) F(x) → four of (B,). Memory grows with B: see `detect`."""
        image = self.image_features(features)
        scores = neglabel_score(image, self.ind, self.negatives, self.temperature, self.groups)
        similarity, nearest = (image @ self.negatives.T).max(dim=-1)
        return scores, predicted_class(image, self.ind), nearest, similarity


def numpy_features(features: Tensor) -> Features:
    """A tensor as a head stores it: float32 on the CPU."""
    array: Features = features.detach().cpu().numpy().astype(np.float32, copy=False)
    return array
