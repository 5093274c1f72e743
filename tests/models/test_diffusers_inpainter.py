"""The hand-written loop against the stock pipeline, the schedule's numbers, and the decoder's gradient."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline, StableDiffusionPipeline

from checkpoints import SCHEDULER, Checkpoints, tiny_inpainter
from synood_cli.errors import ModelError, UsageError
from synood_cli.models.build import build_inpainter
from synood_cli.models.diffusers_inpainter import DiffusersInpainter
from synood_cli.models.loading import DTYPES
from synood_cli.records import ModelSpec

PROMPTS = ["A photo only remain grass, sky.", "A photo only remain a wall.", "A photo only remain water, sand."]
SETTINGS = {"steps": 20, "strength": 0.6}


@pytest.fixture(scope="module")
def inpainter(checkpoints: Checkpoints) -> DiffusersInpainter:
    built = build_inpainter(ModelSpec(adapter="diffusers", name=str(checkpoints.inpainter)), "cpu", "fp32")
    assert isinstance(built, DiffusersInpainter)
    return built


def noise(count: int) -> torch.Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(count))


def stock_latents(
    folder: Path, scheduler: str, latents: torch.Tensor, guidance_scale: float, strength: float = 0.6
) -> torch.Tensor:
    """What `StableDiffusionInpaintPipeline.__call__` makes of the same latents, prompts and an all-ones mask."""
    pipe = StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None)
    if scheduler == "ddim":
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    grey = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        masked = pipe.vae.encode(grey).latent_dist.mode() * pipe.vae.config.scaling_factor
    return pipe(
        PROMPTS[: len(latents)],
        image=grey.expand(len(latents), -1, -1, -1) + 0.5,
        mask_image=torch.ones(1, 1, 64, 64),
        masked_image_latents=masked,
        strength=strength,
        num_inference_steps=SETTINGS["steps"],
        guidance_scale=guidance_scale,
        latents=latents,
        output_type="latent",
    ).images


@pytest.mark.parametrize("guidance_scale", [8.0, 1.0])
@pytest.mark.parametrize("scheduler", ["ddim", "pndm"])
def test_denoise_gives_the_stock_pipelines_latents(
    inpainter: DiffusersInpainter, checkpoints: Checkpoints, scheduler: str, guidance_scale: float
) -> None:
    latents = noise(2)
    ours = inpainter.denoise(
        latents,
        inpainter.encode_prompts(PROMPTS[:2]),
        **SETTINGS,
        guidance_scale=guidance_scale,
        scheduler=scheduler,
    )
    theirs = stock_latents(checkpoints.inpainter, scheduler, latents, guidance_scale)
    assert (ours - theirs).abs().max() < 1e-6
    assert (ours - latents).abs().max() > 0.5


@pytest.mark.parametrize("scheduler", ["ddim", "pndm"])
def test_all_steps_from_pure_noise_are_the_stock_pipelines_text_to_image(
    inpainter: DiffusersInpainter, checkpoints: Checkpoints, scheduler: str
) -> None:
    """Strength 1: an inpainting model that sees nothing of an image."""
    latents = noise(2)
    prompts = inpainter.encode_prompts(PROMPTS[:2])
    ours = inpainter.denoise(latents, prompts, steps=20, strength=1.0, guidance_scale=8.0, scheduler=scheduler)
    theirs = stock_latents(checkpoints.inpainter, scheduler, latents, 8.0, strength=1.0)
    assert (ours - theirs).abs().max() < 1e-6
    part = inpainter.denoise(latents, prompts, **SETTINGS, guidance_scale=8.0, scheduler=scheduler)
    assert (ours - part).abs().max() > 0.1


@pytest.fixture(scope="module")
def text_to_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_inpainter(tmp_path_factory.mktemp("text to image"), unet_channels=4)


@pytest.mark.parametrize("guidance_scale", [8.0, 1.0])
@pytest.mark.parametrize("scheduler", ["ddim", "pndm"])
def test_a_text_to_image_pipeline_gives_its_own_latents(
    text_to_image: Path, scheduler: str, guidance_scale: float
) -> None:
    spec = ModelSpec(adapter="diffusers", name=str(text_to_image))
    model = DiffusersInpainter(spec, "cpu", "fp32", text_to_image=True)
    pipe = StableDiffusionPipeline.from_pretrained(text_to_image, safety_checker=None)
    if scheduler == "ddim":
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    latents = noise(2)
    settings = {"num_inference_steps": 20, "guidance_scale": guidance_scale, "output_type": "latent"}
    theirs = pipe(PROMPTS[:2], latents=latents, **settings).images
    ours = model.denoise(
        latents,
        model.encode_prompts(PROMPTS[:2]),
        steps=20,
        strength=1.0,
        guidance_scale=guidance_scale,
        scheduler=scheduler,
    )
    assert (ours - theirs).abs().max() < 1e-6


@pytest.mark.parametrize("scheduler", ["ddim", "pndm"])
def test_batch_composition_moves_latents_by_rounding_only(inpainter: DiffusersInpainter, scheduler: str) -> None:
    latents = noise(3)
    settings = {**SETTINGS, "guidance_scale": 8.0, "scheduler": scheduler}
    together = inpainter.denoise(latents, inpainter.encode_prompts(PROMPTS), **settings)
    alone = [
        inpainter.denoise(latents[i : i + 1], inpainter.encode_prompts([prompt]), **settings)
        for i, prompt in enumerate(PROMPTS)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


def timesteps_run(inpainter: DiffusersInpainter, scheduler: str) -> list[int]:
    """The timesteps that the UNet is called with."""
    seen: list[int] = []
    hook = inpainter.pipe.unet.register_forward_pre_hook(lambda _, args: seen.append(int(args[1])))
    prompts = inpainter.encode_prompts(PROMPTS[:1])
    inpainter.denoise(noise(1), prompts, **SETTINGS, guidance_scale=1.0, scheduler=scheduler)
    hook.remove()
    return seen


def test_strength_0_6_of_20_steps_is_12_ddim_steps_from_551(inpainter: DiffusersInpainter) -> None:
    assert timesteps_run(inpainter, "ddim") == list(range(551, 0, -50))
    assert len(timesteps_run(inpainter, "ddim")) == 12


def test_pndm_makes_13_calls_from_601(inpainter: DiffusersInpainter) -> None:
    assert timesteps_run(inpainter, "pndm") == [601, *range(551, 0, -50)]


def test_alpha_bar_is_the_noise_schedules_value_at_the_first_timestep(inpainter: DiffusersInpainter) -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha_bar = torch.cumprod(1 - betas, dim=0)
    for scheduler, timestep in (("ddim", 551), ("pndm", 601)):
        found = inpainter.alpha_bar(20, 0.6, scheduler)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(alpha_bar[timestep].item(), rel=1e-5)


def test_no_step_to_run_is_a_usage_error(inpainter: DiffusersInpainter) -> None:
    with pytest.raises(UsageError, match=r"0\.04 of 20 steps leaves none"):
        inpainter.alpha_bar(20, 0.04, "ddim")


def test_ddim_keeps_the_checkpoints_schedule(inpainter: DiffusersInpainter) -> None:
    sampler, _ = inpainter._schedule(20, 0.6, "ddim")
    config = sampler.config
    kept = (config.beta_start, config.beta_end, config.beta_schedule, config.steps_offset, config.prediction_type)
    assert kept == (0.00085, 0.012, "scaled_linear", 1, "epsilon")
    assert config.clip_sample is False
    assert config.set_alpha_to_one is False


def test_other_schedulers_serve_as_a_source_of_settings(tmp_path: Path) -> None:
    """UniPC's settings say nothing of clip_sample and skip_prk_steps: neither library default may creep in."""
    folder = tiny_inpainter(tmp_path / "unipc", scheduler="UniPCMultistepScheduler")
    unsaid = ("clip_sample", "skip_prk_steps", "set_alpha_to_one")
    settings = {key: value for key, value in SCHEDULER.items() if key not in unsaid}
    written = json.dumps({"_class_name": "UniPCMultistepScheduler", "timestep_spacing": "leading", **settings})
    (folder / "scheduler" / "scheduler_config.json").write_text(written)
    inpainter = DiffusersInpainter(ModelSpec(adapter="diffusers", name=str(folder)), "cpu", "fp32")
    assert type(inpainter.pipe.scheduler).__name__ == "UniPCMultistepScheduler"
    assert inpainter._schedule(20, 0.6, "ddim")[0].config.clip_sample is False
    assert timesteps_run(inpainter, "ddim") == list(range(551, 0, -50))
    assert timesteps_run(inpainter, "pndm") == [601, *range(551, 0, -50)]


def test_each_call_starts_afresh(inpainter: DiffusersInpainter) -> None:
    prompts = inpainter.encode_prompts(PROMPTS[:1])
    first, second = (
        inpainter.denoise(noise(1), prompts, **SETTINGS, guidance_scale=8.0, scheduler="pndm") for _ in range(2)
    )
    assert torch.equal(first, second)


def test_guidance_interpolates_between_prompt_and_none(inpainter: DiffusersInpainter) -> None:
    """One DDIM step is linear in the predicted noise, hence in the guidance scale."""
    prompts = inpainter.encode_prompts(PROMPTS[:1])
    unconditional = (prompts[1], prompts[1])

    def step(embeddings: tuple[torch.Tensor, torch.Tensor], scale: float) -> torch.Tensor:
        return inpainter.denoise(noise(1), embeddings, steps=20, strength=0.05, guidance_scale=scale, scheduler="ddim")

    with_prompt, without = step(prompts, 1.0), step(unconditional, 1.0)
    assert not torch.equal(with_prompt, without)
    torch.testing.assert_close(step(prompts, 8.0), without + 8 * (with_prompt - without), rtol=0, atol=1e-5)


def test_encode_images_is_the_scaled_mode_and_decode_its_way_back(inpainter: DiffusersInpainter) -> None:
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = inpainter.encode_images(pixels)
    assert latents.shape == (2, *inpainter.latent_shape()) == (2, 4, 8, 8)
    with torch.no_grad():
        mode = inpainter.pipe.vae.encode(pixels * 2 - 1).latent_dist.mean
        painted = inpainter.pipe.vae.decode(mode).sample
    torch.testing.assert_close(latents, mode * 0.18215)
    torch.testing.assert_close(inpainter.decoder_input(latents), mode)
    decoded = inpainter.decode(inpainter.decoder_input(latents))
    torch.testing.assert_close(decoded, (painted / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)
    assert decoded.dtype == torch.float32


def test_gradient_of_decode_matches_finite_differences(inpainter: DiffusersInpainter) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, 4, 8, 8, generator=generator).requires_grad_()
    weights = torch.randn(1, 3, 64, 64, generator=generator) / 64
    direction = torch.randn(1, 4, 8, 8, generator=generator)

    # Differences in float64, of a copy of the decoder: in float32 rounding is as large as a step that is small enough.
    decoder = copy.deepcopy(inpainter.pipe.vae).double()

    def exact(latents: torch.Tensor) -> torch.Tensor:
        painted = decoder.decode(latents).sample
        return ((painted / 2 + 0.5).clamp(0, 1) * weights).sum()

    value = (inpainter.decode(start) * weights).sum()
    value.backward()
    assert start.grad is not None
    step = 1e-6
    with torch.no_grad():
        middle, moved = start.double(), step * direction.double()
        assert value.item() == pytest.approx(exact(middle).item(), rel=1e-4)
        difference = (exact(middle + moved) - exact(middle - moved)) / (2 * step)
    assert (start.grad * direction).sum().item() == pytest.approx(difference.item(), rel=1e-3)


def test_no_parameter_takes_a_gradient(inpainter: DiffusersInpainter) -> None:
    modules = (inpainter.pipe.unet, inpainter.pipe.vae, inpainter.pipe.text_encoder)
    assert not any(parameter.requires_grad for module in modules for parameter in module.parameters())
    assert not any(module.training for module in modules)


def test_count_tokens_includes_begin_and_end_and_is_not_truncated(inpainter: DiffusersInpainter) -> None:
    assert inpainter.max_tokens == 77
    assert inpainter.count_tokens("") == 2
    assert inpainter.count_tokens("sky") == 3
    assert inpainter.count_tokens("sky " * 100) == 102


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_keeps_float32_latents_and_nearby_results(
    inpainter: DiffusersInpainter, checkpoints: Checkpoints, precision: str
) -> None:
    spec = ModelSpec(adapter="diffusers", name=str(checkpoints.inpainter))
    low = build_inpainter(spec, "cpu", precision)
    settings = {**SETTINGS, "guidance_scale": 2.0, "scheduler": "ddim"}
    latents = low.denoise(noise(1), low.encode_prompts(PROMPTS[:1]), **settings)
    reference = inpainter.denoise(noise(1), inpainter.encode_prompts(PROMPTS[:1]), **settings)
    assert latents.dtype == torch.float32
    assert 0 < (latents - reference).square().mean().sqrt() < 0.1 * reference.std()
    assert isinstance(low, DiffusersInpainter)
    assert low.pipe.unet.dtype == DTYPES[precision]
    assert low.pipe.vae.dtype == (torch.float32 if precision == "fp16" else torch.bfloat16)
    assert low.decode(low.decoder_input(latents)).dtype == torch.float32


def test_resolution_can_be_chosen(checkpoints: Checkpoints) -> None:
    spec = ModelSpec(adapter="diffusers", name=str(checkpoints.inpainter))
    larger = DiffusersInpainter(spec, "cpu", "fp32", resolution=96)
    assert larger.latent_shape() == (4, 12, 12)
    latents = larger.encode_images(torch.rand(1, 3, 96, 96))
    prompts = larger.encode_prompts(PROMPTS[:1])
    z_0 = larger.denoise(latents, prompts, **SETTINGS, guidance_scale=1.0, scheduler="ddim")
    assert larger.decode(larger.decoder_input(z_0)).shape == (1, 3, 96, 96)
    with pytest.raises(UsageError, match="100 pixels is no multiple of 8"):
        DiffusersInpainter(spec, "cpu", "fp32", resolution=100)


def test_a_text_to_image_checkpoint_is_refused_where_images_are_repainted(text_to_image: Path) -> None:
    with pytest.raises(ModelError, match="UNet has 4 input channels, inpainting has 9") as refused:
        build_inpainter(ModelSpec(adapter="diffusers", name=str(text_to_image)), "cpu", "fp32")
    assert "sd2-community/stable-diffusion-2-inpainting" in str(refused.value.hint)
    assert "--source text2img" in str(refused.value.hint)


def test_a_unet_of_any_other_width_is_refused_for_every_source(tmp_path: Path) -> None:
    spec = ModelSpec(adapter="diffusers", name=str(tiny_inpainter(tmp_path, unet_channels=8)))
    with pytest.raises(ModelError, match="UNet has 8 input channels"):
        build_inpainter(spec, "cpu", "fp32", text_to_image=True)
