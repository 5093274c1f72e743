import math

import pytest
import torch
from torch.nn import functional

from synood_cli.method.label_tuning import LABEL_LOSSES, image_to_text_loss, text_to_image_loss, tune_labels


def unit(rows, width, seed):
    return functional.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


IMAGES = unit(6, 5, 0)
LABELS = 3 * unit(4, 5, 1)
TARGET = torch.tensor([2, 0, 3, 3, 1, 0])


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def test_equation_14_runs_over_images():
    expected = 0.0
    for i, label in enumerate(TARGET.tolist()):
        exponentials = [math.exp(7 * cosine(image, LABELS[label])) for image in IMAGES]
        expected -= math.log(exponentials[i] / sum(exponentials)) / 6
    assert text_to_image_loss(IMAGES, LABELS, TARGET, 7.0).item() == pytest.approx(expected, rel=1e-5)


def test_the_releases_loss_runs_over_labels():
    expected = 0.0
    for image, label in zip(IMAGES, TARGET.tolist(), strict=True):
        exponentials = [math.exp(7 * cosine(image, text)) for text in LABELS]
        expected -= math.log(exponentials[label] / sum(exponentials)) / 6
    assert image_to_text_loss(IMAGES, LABELS, TARGET, 7.0).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(LABEL_LOSSES))
def test_gradients_match_finite_differences(name):
    labels = LABELS.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LABEL_LOSSES[name](IMAGES.double(), x, TARGET, 7.0), labels)


def tune(images, labels, targets, loss, seed=0, **changes):
    settings = {
        "logit_scale": 20.0,
        "epochs": 20,
        "batch_size": 16,
        "learning_rate": 0.05,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "cosine": False,
    }
    return tune_labels(
        images, labels, targets, loss=loss, generator=torch.Generator().manual_seed(seed), **{**settings, **changes}
    )


def toy():
    """60 images around 3 directions, 4 labels elsewhere, of which the last is never a target."""
    targets = torch.arange(60) % 3
    noise = torch.randn(60, 12, generator=torch.Generator().manual_seed(5))
    images = functional.normalize(unit(3, 12, 4)[targets] + 0.1 * noise, dim=1)
    return images, unit(4, 12, 6), targets


@pytest.mark.parametrize("name", sorted(LABEL_LOSSES))
def test_tuning_moves_labels_to_their_images(name):
    images, labels, targets = toy()
    tuned, losses = tune(images, labels, targets, name)
    assert len(losses) == 20 * 4
    assert sum(losses[-4:]) < sum(losses[:4])
    before, after = (functional.cosine_similarity(images, text[targets]) for text in (labels, tuned))
    assert after.mean() > before.mean() + 0.2
    torch.testing.assert_close(tuned.norm(dim=1), torch.ones(4))
    assert all(torch.equal(a, b) for a, b in zip((images, labels, targets), toy(), strict=True))


def test_under_equation_14_a_label_without_images_stays_where_it_is():
    images, labels, targets = toy()
    tuned, _ = tune(images, labels, targets, "text-to-image", momentum=0.9, weight_decay=1e-5)
    torch.testing.assert_close(tuned[3], labels[3])
    assert (tuned[:3] - labels[:3]).norm(dim=1).min() > 0.1


@pytest.mark.parametrize("name", sorted(LABEL_LOSSES))
def test_tuning_is_reproduced_by_its_generator_whatever_the_global_seed(name):
    torch.manual_seed(1)
    one, losses = tune(*toy(), name)
    torch.manual_seed(2)
    again, same = tune(*toy(), name)
    assert losses == same
    assert torch.equal(one, again)
    assert tune(*toy(), name, seed=1)[1] != losses


def test_momentum_weight_decay_and_cosine_change_the_course():
    plain = tune(*toy(), "image-to-text")[1]
    for change in ({"momentum": 0.9}, {"weight_decay": 0.5}, {"cosine": True}):
        changed = tune(*toy(), "image-to-text", **change)[1]
        assert changed[0] == plain[0]
        assert changed[-1] != plain[-1]
