import math

import pytest
import torch

from synood_cli.method.losses import LOSSES, GeneralisedEntropy, energy_score

LOGITS = torch.tensor([[0.0, math.log(3.0), 0.0, 0.0], [2.0, -1.0, 0.5, 4.0]])


def test_energy_by_hand():
    # the exponentials of the first row are 1, 3, 1 and 1
    assert energy_score(LOGITS, 1.0)[0].item() == pytest.approx(math.log(6.0))
    assert energy_score(torch.tensor([[2 * math.log(3.0), 0.0]]), 2.0).item() == pytest.approx(2 * math.log(4.0))
    assert LOSSES["energy"](2.0).score(LOGITS).tolist() == energy_score(LOGITS, 2.0).tolist()


@pytest.mark.parametrize("name", ["energy", "maxlogit", "gen"])
def test_a_hinge_stops_at_the_boundary(name):
    loss = LOSSES[name](1.0)
    logits = LOGITS.clone().requires_grad_()
    scores = loss.score(logits).tolist()
    boundary = sum(scores) / 2
    values = loss.loss(logits, boundary)
    assert values.tolist() == pytest.approx([max(0.0, boundary - s) for s in scores])
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    for row, score in enumerate(scores):
        assert (gradient[row].norm() > 1e-3) == (score < boundary)


@pytest.mark.parametrize("name", ["energy", "maxlogit", "gen", "centred-energy"])
def test_a_step_down_the_loss_raises_a_low_score_towards_the_boundary(name):
    loss = LOSSES[name](1.0)
    logits = LOGITS.clone().requires_grad_()
    before = loss.score(LOGITS)
    (gradient,) = torch.autograd.grad(loss.loss(logits, float(before.max()) + 0.1).sum(), logits)
    after = loss.score(LOGITS - 1e-3 * gradient)
    assert (after > before).all()


def test_centred_energy_by_hand():
    loss = LOSSES["centred-energy"](1.0)
    expected = math.log(6.0) - math.log(3.0) / 4
    assert loss.score(LOGITS)[0].item() == pytest.approx(expected)
    assert loss.loss(LOGITS, 5.0)[0].item() == pytest.approx((5.0 - expected) ** 2)
    assert loss.loss(LOGITS, 0.0)[0].item() == pytest.approx(expected**2)  # both sides pull
    torch.testing.assert_close(loss.score(LOGITS + 7), loss.score(LOGITS))


def test_maximum_softmax_by_hand():
    loss = LOSSES["msp"](1.0)
    p = [1 / 6, 3 / 6, 1 / 6, 1 / 6]
    assert loss.score(LOGITS)[0].item() == pytest.approx(0.5)
    assert loss.loss(LOGITS, 0.0)[0].item() == pytest.approx(sum(q * math.log(q / 0.25) for q in p))
    assert loss.loss(torch.zeros(1, 4), 0.0).item() == pytest.approx(0.0, abs=1e-6)
    assert loss.loss(torch.tensor([[1e4, 0.0, 0.0, 0.0]]), 0.0).item() == pytest.approx(math.log(4))


def test_generalised_entropy_by_hand():
    p = [3 / 6, 1 / 6, 1 / 6, 1 / 6]
    terms = [q**0.1 * (1 - q) ** 0.1 for q in p]
    assert LOSSES["gen"](1.0).score(LOGITS)[0].item() == pytest.approx(-sum(terms))
    assert GeneralisedEntropy(1.0, gamma=0.1, top_classes=2).score(LOGITS)[0].item() == pytest.approx(-sum(terms[:2]))
    quadratic = GeneralisedEntropy(1.0, gamma=1.0, top_classes=4).score(LOGITS)[0].item()
    assert quadratic == pytest.approx(-sum(q * (1 - q) for q in p))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_extreme_logits_keep_finite_values_and_gradients(name):
    loss = LOSSES[name](1.0)
    logits = torch.tensor([[300.0, -300.0, 0.0], [0.0, 0.0, 0.0], [50.0, 50.0, -50.0]], requires_grad=True)
    values = loss.loss(logits, 1000.0)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    assert torch.isfinite(values).all()
    assert torch.isfinite(gradient).all()
    assert torch.isfinite(loss.score(logits)).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_match_finite_differences_and_images_are_independent(name):
    loss = LOSSES[name](1.5)
    logits = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss.loss(x, 4.0), logits)
    alone = torch.cat([loss.loss(logits[i : i + 1], 4.0) for i in range(3)])
    torch.testing.assert_close(loss.loss(logits, 4.0), alone)
