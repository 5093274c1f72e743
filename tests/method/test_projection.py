import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from synood_cli.method.projection import Projection, projection_loss, train_projection


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def toy():
    """80 features of 4 classes whose directions are not those of the texts."""
    text = functional.normalize(torch.randn(4, 16, generator=generator(1)), dim=1)
    centres = torch.randn(4, 16, generator=generator(2))
    targets = torch.arange(80) % 4
    return centres[targets] + 0.3 * torch.randn(80, 16, generator=generator(3)), targets, text


def train(seed=0, **changes):
    features, targets, text = toy()
    settings = {
        "logit_scale": 20.0,
        "epochs": 10,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "weight_decay": 1e-5,
        "cosine_to": None,
    }
    return train_projection(features, targets, text, generator=generator(seed), **{**settings, **changes})


def test_equation_12_by_hand():
    projection = Projection(2, generator())
    with torch.no_grad():
        projection.linear.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        projection.linear.bias.copy_(torch.tensor([0.5, 0.0]))
    # Linear: (3.5, 8); LayerNorm of two numbers: (-1, 1); ReLU: (0, 1); f + delta = (3, 5)
    image = projection(torch.tensor([[3.0, 4.0]]))[0]
    assert image.tolist() == pytest.approx([3 / math.sqrt(34), 5 / math.sqrt(34)], abs=1e-5)


def test_the_length_of_the_feature_matters():
    projection = Projection(8, generator())
    feature = torch.randn(1, 8, generator=generator(1))
    assert not torch.allclose(projection(feature), projection(10 * feature), atol=1e-3)


def test_initialisation_belongs_to_the_generator_alone():
    state = torch.get_rng_state()
    one, same, other = Projection(32, generator(0)), Projection(32, generator(0)), Projection(32, generator(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.linear.weight, same.linear.weight)
    assert torch.equal(one.linear.bias, same.linear.bias)
    assert not torch.equal(one.linear.weight, other.linear.weight)
    plain = nn.Linear(32, 32)
    for mine, theirs in ((one.linear.weight, plain.weight), (one.linear.bias, plain.bias)):
        assert mine.abs().max() <= 32**-0.5
        assert mine.std().item() == pytest.approx(theirs.std().item(), rel=0.5)
    assert one.linear.weight.std().item() == pytest.approx((32 * 3) ** -0.5, rel=0.05)


def test_loss_matches_a_plain_loop():
    projected = functional.normalize(torch.randn(5, 6, generator=generator(4)), dim=1)
    text = functional.normalize(torch.randn(7, 6, generator=generator(5)), dim=1)
    target = [0, 6, 3, 3, 1]
    expected = 0.0
    for image, label in zip(projected, target, strict=True):
        exponentials = [math.exp(10 * float(image @ t)) for t in text]
        expected -= math.log(exponentials[label] / sum(exponentials)) / 5
    assert projection_loss(projected, text, torch.tensor(target), 10.0).item() == pytest.approx(expected, rel=1e-5)


def test_training_separates_the_toy_and_leaves_its_inputs_alone():
    features, targets, text = toy()
    plain = functional.normalize(features, dim=1) @ text.T
    projection, losses = train()
    assert len(losses) == 10 * 5
    assert losses[-1] < 0.2 * losses[0]
    predicted = (projection(features) @ text.T).argmax(dim=1)
    assert (predicted == targets).float().mean() > 0.95 > (plain.argmax(dim=1) == targets).float().mean()
    assert not any(parameter.requires_grad for parameter in projection.parameters())
    assert all(torch.equal(a, b) for a, b in zip((features, targets, text), toy(), strict=True))


def test_training_is_reproduced_by_its_generator_whatever_the_global_seed():
    torch.manual_seed(1)
    one, losses = train(0)
    torch.manual_seed(2)
    again, same = train(0)
    assert losses == same
    assert torch.equal(one.linear.weight, again.linear.weight)
    assert train(1)[1] != losses


def test_the_cosine_ends_where_it_is_told_and_is_told_of():
    told = []
    constant = train()[1]
    decayed = train(cosine_to=1e-5, on_step=lambda done, total, loss: told.append((done, total)))[1]
    assert decayed[0] == constant[0]
    assert decayed[5] != constant[5]
    assert told[-1] == (50, 50)
