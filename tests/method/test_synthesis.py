import pytest
import torch
from torch import nn

from synood_cli.method.losses import LOSSES
from synood_cli.method.seeds import image_noise
from synood_cli.method.synthesis import noised, skip_gradient, synthesize

SCALING = 0.18215
ALPHA_BAR = torch.tensor(0.3)
BOUNDARY = 3.0


class Models(nn.Module):
    """A decoder, a classifier and a denoiser, small but real: convolutions, non-linearities, float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.decoder = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(8, 3, 3, padding=1)
        )
        self.classifier = nn.Sequential(nn.Conv2d(3, 6, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(24, 5)
        self.denoiser = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Tanh())
        self.double()
        with torch.no_grad():
            for layer in (self.decoder[0], self.decoder[3], self.classifier[0], self.head):
                layer.weight.mul_(3)  # so that a step shows
        self.decoded_with_gradient: list[bool] = []
        self.denoised_with_gradient: list[bool] = []
        self.decoded: list[int] = []

    def decode(self, z_0):
        self.decoded_with_gradient.append(torch.is_grad_enabled())
        self.decoded.append(len(z_0))
        return self.decoder(z_0).sigmoid()

    def logits(self, pixels):
        return self.head(self.classifier(pixels))

    def denoise(self, z_t):
        self.denoised_with_gradient.append(torch.is_grad_enabled())
        return self.denoiser(z_t)

    def decoder_input(self, z_0):
        return z_0 / SCALING


@pytest.fixture
def models():
    return Models()


def latents(batch):
    z_in = torch.stack([image_noise(100 + i, (2, 4, 4)) for i in range(batch)]).double()
    noise = torch.stack([image_noise(200 + i, (2, 4, 4)) for i in range(batch)]).double()
    return z_in, noise


def run(models, z_in, noise, **changes):
    settings = {
        "loss": LOSSES["energy"](1.0),
        "boundary": BOUNDARY,
        "alpha_bar": ALPHA_BAR,
        "iterations": 3,
        "step_size": 0.5,
        "chunk_size": 2,
        "keep": "last",
    }
    return synthesize(
        z_in,
        noise,
        denoise=models.denoise,
        decoder_input=models.decoder_input,
        decode=models.decode,
        logits=models.logits,
        **{**settings, **changes},
    )


def test_noised_by_hand():
    z_t = noised(torch.tensor([[[[2.0]]]]), torch.tensor([[[[-1.0]]]]), torch.tensor(0.64))
    assert z_t.item() == pytest.approx(0.8 * 2 - 0.6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_skip_gradient_is_autograd_through_decoder_and_classifier(models, name):
    z_0, _ = latents(5)
    loss = LOSSES[name](1.0)
    result = skip_gradient(
        z_0,
        decode=models.decode,
        logits=models.logits,
        loss=loss,
        boundary=BOUNDARY,
        chunk_size=2,
        need_gradient=True,
    )
    leaf = z_0.clone().requires_grad_()
    pixels = models.decoder(leaf).sigmoid()
    losses = loss.loss(models.logits(pixels), BOUNDARY)
    losses.sum().backward()
    torch.testing.assert_close(result.gradient, leaf.grad)
    torch.testing.assert_close(result.losses, losses.detach())
    torch.testing.assert_close(result.scores, loss.score(models.logits(pixels)).detach())
    torch.testing.assert_close(result.pixels, pixels.detach())
    torch.testing.assert_close(result.logits, models.logits(pixels).detach())
    assert leaf.grad.abs().max() > 1e-4
    assert models.decoded == [2, 2, 1]


def test_the_skip_gradient_matches_finite_differences(models):
    z_0, _ = latents(1)
    step = torch.zeros_like(z_0)
    step[0, 1, 2, 3] = 1e-5

    def at(z):
        return skip_gradient(
            z,
            decode=models.decode,
            logits=models.logits,
            loss=LOSSES["centred-energy"](1.0),
            boundary=BOUNDARY,
            chunk_size=1,
            need_gradient=True,
        )

    slope = (at(z_0 + step).losses - at(z_0 - step).losses).item() / 2e-5
    assert at(z_0).gradient[0, 1, 2, 3].item() == pytest.approx(slope, rel=1e-6)


def test_models_collect_no_gradient_and_none_is_taken_unless_asked(models):
    z_0, _ = latents(3)
    arguments = {
        "decode": models.decode,
        "logits": models.logits,
        "loss": LOSSES["energy"](1.0),
        "boundary": BOUNDARY,
        "chunk_size": 2,
    }
    assert skip_gradient(z_0, need_gradient=True, **arguments).gradient is not None
    assert all(parameter.grad is None for parameter in models.parameters())
    models.decoded_with_gradient.clear()
    assert skip_gradient(z_0, need_gradient=False, **arguments).gradient is None
    assert models.decoded_with_gradient == [False, False]


def test_latents_made_in_inference_mode_can_be_differentiated(models):
    with torch.inference_mode():
        z_0 = latents(1)[0] + 0
    result = skip_gradient(
        z_0,
        decode=models.decode,
        logits=models.logits,
        loss=LOSSES["energy"](1.0),
        boundary=100.0,
        chunk_size=1,
        need_gradient=True,
    )
    assert result.gradient.norm() > 0


def test_three_passes_are_equations_4_to_10_written_out(models):
    z_in, noise = latents(2)
    result = run(models, z_in, noise)
    epsilon = noise.clone()
    for iteration in range(3):
        z_t = 0.3**0.5 * z_in + 0.7**0.5 * epsilon
        z_0 = (models.denoiser(z_t) / SCALING).detach().requires_grad_()
        x_syn = models.decoder(z_0).sigmoid()
        g = models.logits(x_syn)
        energy = torch.logsumexp(g, dim=1)
        loss = (BOUNDARY - energy).clamp(min=0)
        gradient = torch.autograd.grad(loss.sum(), z_0)[0]
        epsilon = epsilon - 0.5 * gradient
        iterate = result.trajectory[iteration]
        tolerance = {"rtol": 1e-6, "atol": 1e-7}  # ᾱ is float32
        torch.testing.assert_close(iterate.score, energy.detach(), **tolerance)
        torch.testing.assert_close(iterate.loss, loss.detach(), **tolerance)
        assert iterate.top1.tolist() == g.argmax(dim=1).tolist()
        torch.testing.assert_close(iterate.top1_probability, g.softmax(dim=1).amax(dim=1).detach(), **tolerance)
        assert iterate.kept.tolist() == [iteration == 2] * 2
        if iteration < 2:
            torch.testing.assert_close(iterate.gradient_norm, gradient.square().sum((1, 2, 3)).sqrt(), **tolerance)
    assert result.trajectory[2].gradient_norm is None
    torch.testing.assert_close(result.pixels, x_syn.detach(), **tolerance)


def test_the_steps_bring_low_scores_up_to_the_boundary_and_no_further(models):
    z_in, noise = latents(4)
    models.denoise = lambda z_t: z_t  # so that the skipped part of the chain is a positive number
    models.decoder_input = lambda z_0: z_0
    first = run(models, z_in, noise, iterations=1).trajectory[0].score
    boundary = first.max().item() + 0.02
    steps = run(models, z_in, noise, boundary=boundary, iterations=20, step_size=2.0).trajectory
    scores = torch.stack([step.score for step in steps])
    assert (scores[0] < boundary).all()
    assert (scores[1] > scores[0]).all()
    assert (scores[-1] >= boundary).all()
    assert (scores[-1] < boundary + 0.05).all()
    torch.testing.assert_close(scores[-1], scores[-2])


def test_only_decoder_and_classifier_see_gradients_and_not_in_the_last_pass(models):
    run(models, *latents(3))
    assert models.denoised_with_gradient == [False] * 3
    assert models.decoded_with_gradient == [True, True] * 2 + [False, False]
    assert all(parameter.grad is None for parameter in models.parameters())


def test_plain_images_are_those_of_the_first_pass_without_a_gradient(models):
    z_in, noise = latents(2)
    plain = run(models, z_in, noise, step_size=0.0)
    assert models.decoded_with_gradient == [False]
    assert len(plain.trajectory) == 1
    assert plain.trajectory[0].kept.all()
    torch.testing.assert_close(plain.trajectory[0].score, run(models, z_in, noise).trajectory[0].score)
    torch.testing.assert_close(plain.pixels, run(models, z_in, noise, iterations=1).pixels)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_neither_chunks_nor_batches_change_an_image(models, keep):
    z_in, noise = latents(5)
    whole = run(models, z_in, noise, keep=keep, chunk_size=5)
    for chunk_size in (1, 2, 4):
        torch.testing.assert_close(run(models, z_in, noise, keep=keep, chunk_size=chunk_size).pixels, whole.pixels)
    for row in range(5):
        alone = run(models, z_in[row : row + 1], noise[row : row + 1], keep=keep)
        torch.testing.assert_close(alone.pixels[0], whole.pixels[row], rtol=0, atol=1e-6)
        for mine, all_rows in zip(alone.trajectory, whole.trajectory, strict=True):
            assert mine.score[0].item() == pytest.approx(all_rows.score[row].item(), abs=1e-6)


def test_best_keeps_each_images_iterate_nearest_the_boundary_on_the_ood_side(models):
    z_in, noise = latents(6)
    models.denoise = lambda z_t: z_t
    models.decoder_input = lambda z_0: z_0
    # The centred energy overshoots with this step, so that the best iterate differs between images.
    changes = {"loss": LOSSES["centred-energy"](1.0), "step_size": 100.0, "iterations": 6}
    scores = torch.stack([it.score for it in run(models, z_in, noise, boundary=1.8, **changes).trajectory])
    best = run(models, z_in, noise, boundary=1.8, keep="best", **changes)
    kept = torch.stack([iterate.kept for iterate in best.trajectory])
    assert kept.sum(dim=0).tolist() == [1] * 6
    for image in range(6):
        column = scores[:, image].tolist()
        outside = [score for score in column if score <= 1.8] or column
        wanted = column.index(min(outside, key=lambda score: abs(score - 1.8)))
        assert kept[:, image].int().argmax() == wanted
        prefix = run(models, z_in, noise, boundary=1.8, **{**changes, "iterations": wanted + 1})
        torch.testing.assert_close(best.pixels[image], prefix.pixels[image])
    assert len(set(kept.int().argmax(dim=0).tolist())) > 1


def test_the_noise_that_was_given_is_left_as_it_was(models):
    z_in, noise = latents(2)
    before = noise.clone()
    run(models, z_in, noise)
    assert torch.equal(noise, before)
