"""NegMining on embedded labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synood_cli.config import Execution, MineSettings
from synood_cli.method.negative_labels import ensemble, label_similarity_percentile, mine, most_similar
from synood_cli.models.loading import choose_device
from synood_cli.stages.embed import Rows
from synood_cli.stages.explain import Explained, WantedLabel
from synood_cli.stages.label_features import EmbeddedLabels
from synood_cli.stages.mine_labels import Mined, MiningJob
from synood_cli.stages.workers.torch_head import TorchHead

SIMILARITIES = 1 << 22
"""Similarities of candidates to InD labels that exist at once: with their sort some 100 MB, however many labels."""


class MiningWorker:
    """Chooses the negative labels of a new head, and its threshold."""

    def __init__(self, settings: MineSettings, execution: Execution, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._device = choose_device(execution.device)

    def __call__(self, job: tuple[MiningJob, Rows]) -> Mined:
        """The least similar share of each pool, in the order of the pools; within one, least similar first. The
        threshold is set on the images of `calibration`, the second part of the job."""
        settings = self._settings
        mining, calibration = job
        ind = self._features(mining.ind)
        chosen: list[list[int]] = []
        similarity: list[list[float]] = []
        negatives: list[Tensor] = []
        for pool in mining.pools:
            candidates = self._features(pool.candidates)
            percentiles = self._percentiles(candidates, ind)[pool.allowed]
            least = self._mined(percentiles, candidates[pool.allowed], ind, len(candidates))
            chosen.append([pool.allowed[index] for index in least.tolist()])
            similarity.append(percentiles[least].tolist())
            negatives.append(candidates[chosen[-1]])
        tensors = {"ind_features": ind.numpy(), "negative_features": torch.cat(negatives).numpy()}
        if not any(chosen):
            return Mined(chosen, similarity, tensors, 0.0)
        head = TorchHead(
            tensors,
            temperature=settings.temperature,
            groups=settings.groups,
            group_seed=self._seed,
            device=self._device,
        )
        return Mined(chosen, similarity, tensors, head.threshold(calibration.load(), settings.tpr))

    def explain(self, job: tuple[MiningJob, Sequence[WantedLabel]]) -> list[Explained]:
        """Where each wanted candidate stands in its pool."""
        mining, wanted = job
        ind = self._features(mining.ind)
        found: dict[WantedLabel, Explained] = {}
        for number, pool in enumerate(mining.pools):
            candidates = self._features(pool.candidates)
            percentiles = self._percentiles(candidates, ind)
            chosen = self._mined(percentiles[pool.allowed], candidates[pool.allowed], ind, len(candidates))
            kept = len(chosen)
            rest = self._order(percentiles[pool.allowed], candidates[pool.allowed], ind)
            order = rest.sort(stable=True).indices
            ranks = {pool.allowed[index]: rank for rank, index in enumerate(order.tolist(), start=1)}
            cut = float(percentiles[pool.allowed][order[kept - 1]]) if kept else None
            for label in wanted:
                if label.pool == number:
                    nearest = (ind @ candidates[label.place]).sort(descending=True, stable=True)
                    found[label] = Explained(
                        float(percentiles[label.place]),
                        ranks.get(label.place),
                        len(ranks),
                        kept,
                        cut,
                        list(zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)),
                    )
        return [found[label] for label in wanted]

    def _mined(self, percentiles: Tensor, candidates: Tensor, ind: Tensor, of: int) -> Tensor:
        """Positions of the share that is kept, least similar first: of all `of` candidates, as in the public code, but
        never one that names a class, or that CSP drops for its similarity to a single one."""
        order = self._order(percentiles, candidates, ind)
        least = mine(order, self._settings.share, of)
        return least[order[least].isfinite()]

    def _order(self, percentiles: Tensor, candidates: Tensor, ind: Tensor) -> Tensor:
        """What candidates are sorted by: the percentile; infinity where CSP drops them."""
        if self._settings.pool != "csp":
            return percentiles
        nearest = most_similar(candidates, ind.to(self._device), SIMILARITIES)
        return percentiles.masked_fill(nearest > self._settings.csp_similarity, torch.inf)

    def _percentiles(self, candidates: Tensor, ind: Tensor) -> Tensor:
        return label_similarity_percentile(candidates, ind.to(self._device), self._settings.percentile, SIMILARITIES)

    def _features(self, labels: EmbeddedLabels) -> Tensor:
        """(labels, D), unit length: the mean over the templates."""
        return ensemble((torch.from_numpy(block) for block in labels.blocks()), self._settings.average)
