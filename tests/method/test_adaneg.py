from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from synood_cli.errors import SynoodError
from synood_cli.method.adaneg import ProxyMemory, adaneg
from synood_cli.method.scores import grouping, neglabel_score

SETTINGS = {"temperature": 0.1, "groups": None, "memory": 3, "threshold": 0.5, "gap": 0.5, "weight": 0.1, "beta": 5.0}


def unit(rows, width, seed):
    return functional.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def plain(stream, ind, negatives, settings, batch):
    """AdaNeg as its paper tells it: lists and loops, in double precision."""
    labels = [*ind.double(), *negatives.double()]
    memory = [[(0.0, label)] for label in labels]
    scores, predicted = [], []

    def share(cosines):
        groups = settings["groups"]
        groups = [range(len(negatives))] if groups is None else groups.tolist()
        mass = [math.exp(float(c) / settings["temperature"]) for c in cosines]
        inside, outside = sum(mass[: len(ind)]), mass[len(ind) :]
        return sum(inside / (inside + sum(outside[n] for n in group)) for group in groups) / len(groups)

    def softmax(cosines):
        mass = [math.exp(float(c) / settings["temperature"]) for c in cosines]
        return [m / sum(mass) for m in mass]

    for start in range(0, len(stream), batch):
        images = stream[start : start + batch].double()
        static = [share([image @ label for label in labels]) for image in images]
        low, high = settings["threshold"] * (1 - settings["gap"]), settings["threshold"]
        high += settings["gap"] * (1 - settings["threshold"])
        for wanted in ("ind", "negative"):
            for image, score in zip(images, static, strict=True):
                if not (score > high if wanted == "ind" else score < low):
                    continue
                places = range(len(ind)) if wanted == "ind" else range(len(ind), len(labels))
                cosines = [float(image @ labels[place]) for place in places]
                mass = [math.exp(cosine / settings["temperature"]) for cosine in cosines]
                entropy = -sum(m / sum(mass) * math.log(m / sum(mass)) for m in mass)
                kept = memory[places[cosines.index(max(cosines))]]
                if len(kept) - 1 < settings["memory"]:
                    kept.append((entropy, image))
                else:
                    worst = max(range(1, len(kept)), key=lambda k: kept[k][0])
                    if entropy < kept[worst][0]:
                        kept[worst] = (entropy, image)
        for image, score in zip(images, static, strict=True):
            cosines = []
            for kept in memory:
                weights = [math.exp(-settings["beta"] * (1 - float(image @ feature))) for _, feature in kept]
                proxy = sum(weight * feature for weight, (_, feature) in zip(weights, kept, strict=True))
                cosines.append(float(image @ proxy / proxy.norm()))
            scores.append(share(cosines) + settings["weight"] * score)
            p, p_ada = softmax([image @ label for label in labels]), softmax(cosines)
            both = [p[c] + settings["weight"] * p_ada[c] for c in range(len(ind))]
            predicted.append(both.index(max(both)))
    return scores, predicted


@pytest.mark.parametrize("beta", [0.0, 5.0])
@pytest.mark.parametrize("groups", [None, 2])
@pytest.mark.parametrize("batch", [1, 7, 100])
def test_it_matches_a_plain_version(beta, groups, batch):
    stream, ind, negatives = unit(60, 6, 0), unit(3, 6, 1), unit(7, 6, 2)
    settings = SETTINGS | {"beta": beta, "groups": None if groups is None else grouping(7, groups, seed=4)}
    found = adaneg(stream, ind, negatives, batch=batch, **settings)
    scores, predicted = plain(stream, ind, negatives, settings, batch)
    assert found.scores.tolist() == pytest.approx(scores, abs=2e-5)
    assert found.predicted.tolist() == predicted


def test_the_class_is_that_of_both_probabilities_together():
    """Labels e1 and e2 of two classes, a negative e3. The second image is nearest to e1 by the texts, and near e3, so
    not remembered; the first has moved the proxy of e2 towards it, which counts with enough weight λ."""
    ind, negatives = torch.eye(3)[:2], torch.eye(3)[2:]
    stream = functional.normalize(torch.tensor([[0.5, 1.0, 0.0], [1.0, 0.95, 1.0]]), dim=1)
    for weight, wanted in ((0.0, 0), (5.0, 1)):
        settings = SETTINGS | {"beta": 0.0, "weight": weight}
        assert adaneg(stream, ind, negatives, batch=1, **settings).predicted.tolist() == [1, wanted]
        assert plain(stream, ind, negatives, settings, 1)[1] == [1, wanted]


def test_a_stream_without_confident_images_is_neglabel():
    stream, ind, negatives = unit(20, 6, 0), unit(3, 6, 1), unit(7, 6, 2)
    found = adaneg(stream, ind, negatives, batch=5, **(SETTINGS | {"gap": 1.0})).scores
    static = neglabel_score(stream, ind, negatives, 0.1, None)
    torch.testing.assert_close(found, 1.1 * static.double(), rtol=1e-5, atol=1e-6)


def test_order_and_mixture_matter():
    stream, ind, negatives = unit(60, 6, 0), unit(3, 6, 1), unit(7, 6, 2)
    forward = adaneg(stream, ind, negatives, batch=1, **SETTINGS).scores
    backward = adaneg(stream.flip(0), ind, negatives, batch=1, **SETTINGS).scores.flip(0)
    first_half = adaneg(stream[:30], ind, negatives, batch=1, **SETTINGS).scores
    assert (forward - backward).abs().max() > 0.01
    torch.testing.assert_close(forward[:30], first_half)  # what comes later does not matter
    late = adaneg(stream[30:], ind, negatives, batch=1, **SETTINGS).scores
    assert (forward[30:] - late).abs().max() > 0.01


def test_a_proxy_by_hand():
    """Text (1, 0) and image (0, 1): at β = 0 the proxy is (1, 1)/√2; at β = 2 an image on the text's axis weighs the
    text 1 and the other e⁻²."""
    memory = ProxyMemory(torch.eye(2), slots=2)
    memory.remember(0, torch.tensor([0.0, 1.0]), 0.3)
    image = torch.tensor([[1.0, 0.0]])
    assert memory.cosines(image, 0.0)[0].tolist() == pytest.approx([1 / math.sqrt(2), 0.0])
    assert float(memory.cosines(image, 2.0)[0, 0]) == pytest.approx(1 / math.sqrt(1 + math.exp(-4)))


def test_a_full_memory_gives_up_its_most_uncertain_image():
    memory = ProxyMemory(torch.eye(2), slots=2)
    for value, entropy in ((1.0, 0.5), (2.0, 0.9), (3.0, 0.7), (4.0, 0.95)):
        memory.remember(1, torch.tensor([value, 0.0]), entropy)
    assert memory.features[1, 1:, 0].tolist() == [1.0, 3.0]
    assert memory.entropies == [[], [0.5, 0.7]]


def test_labels_of_both_kinds_are_needed():
    with pytest.raises(SynoodError, match="0 negative"):
        adaneg(unit(2, 4, 0), unit(2, 4, 1), unit(0, 4, 2), batch=1, **SETTINGS)
