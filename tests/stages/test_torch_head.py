"""A head's arithmetic says the same of an image, bit for bit, whatever the others are."""

from __future__ import annotations

import numpy as np
import pytest

from synood_cli.stages.workers.torch_head import DETECTED, TorchHead


def unit(generator: np.random.Generator, count: int, width: int) -> np.ndarray:
    rows = generator.standard_normal((count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("classes", "negatives", "groups"), [(10, 1203, 0), (3, 97, 4), (1000, 2001, 100)])
@pytest.mark.parametrize("projected", [False, True])
def test_detections_alone_together_and_in_another_order(classes, negatives, groups, projected):
    generator = np.random.default_rng(0)
    tensors = {"ind_features": unit(generator, classes, 64), "negative_features": unit(generator, negatives, 64)}
    if projected:
        weights = {"linear.weight": (64, 64), "linear.bias": 64, "norm.weight": 64, "norm.bias": 64}
        tensors |= {
            f"projection.{name}": generator.standard_normal(shape).astype(np.float32) for name, shape in weights.items()
        }
    head = TorchHead(tensors, temperature=0.01, groups=groups, group_seed=0, device="cpu")
    features = generator.standard_normal((DETECTED + 77, 64)).astype(np.float32)
    together = head.detect(features)
    order = generator.permutation(len(features))
    shuffled = head.detect(features[order])
    some = [0, 5, DETECTED - 1, DETECTED, len(features) - 1]
    alone = [head.detect(features[[place]]) for place in some]
    assert len(set(together.scores.tolist())) > 100
    for field, values in enumerate(together):
        assert (shuffled[field] == values[order]).all()
        assert [found[field][0] for found in alone] == values[some].tolist()
    assert head.detect(features[:0]).scores.shape == (0,)
