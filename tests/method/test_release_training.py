"""The two trainings against a plain reading of how the authors' release trains: its parameter, optimiser, schedule."""

import pytest
import torch
from torch.nn import functional

from synood_cli.config import TrainLabelsSettings, TrainProjectionSettings
from synood_cli.method.label_tuning import tune_labels
from synood_cli.method.projection import Projection, train_projection
from synood_cli.settings_file import Config

WIDTH, BATCH, EPOCHS = 48, 16, 4
SCALE = 100.0


def generator(seed):
    return torch.Generator().manual_seed(seed)


def release(stage):
    """The release's settings of a stage, on smaller batches."""
    return Config({}, "synood.toml").settings(stage, "release", {"batch_size": BATCH, "epochs": EPOCHS})


def epochs_of(count, order):
    """The batches of each epoch, a fresh permutation each."""
    for _ in range(EPOCHS):
        yield torch.split(torch.randperm(count, generator=order), BATCH)


def images_and_labels():
    """100 images (not of unit length), a little like one each of 20 text features of length 8 to 12."""
    text = functional.normalize(torch.randn(20, WIDTH, generator=generator(0)), dim=1)
    text = text * (8 + 4 * torch.rand(20, 1, generator=generator(1)))
    targets = torch.arange(100) % 20
    images = 0.2 * text[targets] + torch.randn(100, WIDTH, generator=generator(2))
    return images, text, targets


def tuned_like_the_release(images, raw, targets, order):
    """SGD 2e-2 with momentum on the features as the text tower gives them, normalised on the way to the loss, and a
    cosine schedule that steps once an epoch."""
    parameter = torch.nn.Parameter(raw.clone())
    optimizer = torch.optim.SGD([parameter], lr=2e-2, momentum=0.9, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for batches in epochs_of(len(images), order):
        for rows in batches:
            text = parameter / parameter.norm(dim=-1, keepdim=True)
            optimizer.zero_grad()
            functional.cross_entropy(SCALE * images[rows] @ text.T, targets[rows]).backward()
            optimizer.step()
        schedule.step()
    return functional.normalize(parameter.detach(), dim=-1)


def tuned(raw, settings):
    images, _, targets = images_and_labels()
    made, _ = tune_labels(
        functional.normalize(images, dim=1),
        raw,
        targets,
        loss=settings.loss,
        logit_scale=SCALE,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        cosine=settings.cosine,
        cosine_per=settings.cosine_per,
        generator=generator(3),
    )
    return made


def degrees(features, others):
    """The mean angle between rows."""
    return float(torch.rad2deg(torch.arccos(functional.cosine_similarity(features, others).clamp(-1, 1))).mean())


def test_labels_are_tuned_as_in_the_release():
    images, raw, targets = images_and_labels()
    settings = release("train-labels")
    assert isinstance(settings, TrainLabelsSettings)
    expected = tuned_like_the_release(functional.normalize(images, dim=1), raw, targets, generator(3))
    torch.testing.assert_close(tuned(raw, settings), expected, rtol=0, atol=1e-6)
    assert degrees(expected, raw) > 0.05  # it does train
    # A schedule per step, and features of unit length, give other labels; the latter move far more.
    per_step = tuned(raw, settings.model_copy(update={"cosine_per": "step"}))
    assert (per_step - expected).abs().max() > 1e-5
    unit = tuned(functional.normalize(raw, dim=1), settings)
    assert degrees(unit, raw) > 5 * degrees(expected, raw)


def test_a_feature_of_length_l_is_trained_at_a_rate_that_is_l_squared_times_smaller():
    """Without weight decay, exactly: one step of SGD turns it as a unit feature at rate / l²."""
    images, _, targets = images_and_labels()
    unit = functional.normalize(torch.randn(20, WIDTH, generator=generator(5)), dim=1)
    rows = {
        length: tune_labels(
            functional.normalize(images, dim=1),
            length * unit,
            targets,
            loss="image-to-text",
            logit_scale=SCALE,
            epochs=2,
            batch_size=BATCH,
            learning_rate=rate,
            momentum=0.9,
            weight_decay=0.0,
            cosine=True,
            generator=generator(6),
        )[0]
        for length, rate in ((10.0, 0.1), (1.0, 0.001))
    }
    torch.testing.assert_close(rows[10.0], rows[1.0], rtol=0, atol=1e-5)


def projected_like_the_release(features, targets, text, seed):
    """Adam 1e-3 with weight decay 1e-5, and a cosine schedule down to 1e-5 that steps once an epoch."""
    order = generator(seed)
    module = Projection(WIDTH, order)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS, eta_min=1e-5)
    rates = []
    for batches in epochs_of(len(features), order):
        for rows in batches:
            rates.append(schedule.get_last_lr()[0])
            delta = functional.relu(module.norm(module.linear(features[rows])))
            image = features[rows] + delta
            image = image / image.norm(dim=-1, keepdim=True)
            optimizer.zero_grad()
            functional.cross_entropy(SCALE * image @ text.T, targets[rows]).backward()
            optimizer.step()
        schedule.step()
    return module, rates


def test_the_projection_is_trained_as_in_the_release():
    images, raw, targets = images_and_labels()
    text = functional.normalize(raw, dim=1)
    settings = release("train-proj")
    assert isinstance(settings, TrainProjectionSettings)
    expected, rates = projected_like_the_release(images, targets, text, 7)
    assert rates[:7] == pytest.approx([1e-3] * 7)  # ⌈100 / 16⌉ steps at the first epoch's rate
    assert rates[-1] == pytest.approx(1e-5 + (1e-3 - 1e-5) * 0.146447, rel=1e-4)  # (1 + cos(3π / 4)) / 2

    def trained(**changes):
        module, _ = train_projection(
            images,
            targets,
            text,
            logit_scale=SCALE,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            cosine_to=settings.final_learning_rate,
            generator=generator(7),
            **{"cosine_per": settings.cosine_per, **changes},
        )
        return module.state_dict()

    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(trained()[name], weight, rtol=0, atol=1e-5)
    other = trained(cosine_per="step")
    assert max((other[name] - weight).abs().max() for name, weight in expected.state_dict().items()) > 1e-3
