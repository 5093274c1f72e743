"""Latent-diffusion inpainting through diffusers: the repainting half of synthesis (Eqs. 4-6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import CLIPTextModel

from synood_cli.errors import ModelError, UsageError
from synood_cli.models.loading import DTYPES, GRADIENT_DTYPES, check_complete, computes, loading
from synood_cli.models.model_files import DIFFUSERS_FILES, cleaned, fetched, shown
from synood_cli.models.noise_schedule import checked_schedule, too_many_steps
from synood_cli.models.parameter_bound import bounded_by
from synood_cli.models.protocols import Inpainter
from synood_cli.records import ModelSpec, Precision, printable

SchedulerName = Literal["ddim", "pndm"]

LARGEST_LATENT = 512
"""Side of a latent (of an image of 4,096 pixels), at most; Stable Diffusion 2 has 64."""


class DiffusersInpainter(Inpainter):
    """A `StableDiffusionInpaintPipeline` (hub id or folder), every parameter frozen, run by a hand-written loop that
    gives the pipeline's own latents without encoding prompts and masked image anew at each call.

    The mask is all ones: the whole image is repainted, so mask and masked image are the same for every image.
    `precision` is the UNet's, the text encoder's and the VAE's, but for fp16, where the VAE, which is differentiated,
    stays in fp32. Latents and scheduler arithmetic are always float32. `resolution` (pixels, a multiple
    of the VAE's factor) replaces the native side. `text_to_image` allows a plain `StableDiffusionPipeline` too, whose
    UNet sees the latent alone; else ModelError is raised for a UNet without the 9 channels of inpainting.
    """

    def __init__(
        self,
        spec: ModelSpec,
        device: str,
        precision: Precision,
        *,
        resolution: int | None = None,
        text_to_image: bool = False,
    ) -> None:
        self.spec = spec
        self.device = device
        with loading(spec, "inpainting pipeline", "diffusers"):
            folder = fetched(spec, DIFFUSERS_FILES)
            with shown(folder, DIFFUSERS_FILES, _checked) as view, bounded_by(view.rglob("*.safetensors")):
                pipe = StableDiffusionInpaintPipeline.from_pretrained(
                    view,
                    unet=_part(spec, view / "unet", UNet2DConditionModel, DTYPES[precision]),
                    vae=_part(spec, view / "vae", AutoencoderKL, GRADIENT_DTYPES[precision]),
                    text_encoder=_part(spec, view / "text_encoder", CLIPTextModel, DTYPES[precision]),
                    trust_remote_code=False,
                    local_files_only=True,
                    safety_checker=None,
                    feature_extractor=None,
                    image_encoder=None,
                    requires_safety_checker=False,
                ).to(device)
        latent_channels: int = pipe.vae.config.latent_channels
        found, wanted = pipe.unet.config.in_channels, 2 * latent_channels + 1
        self._inpaints: bool = found == wanted
        if not self._inpaints and not (text_to_image and found == latent_channels):
            raise ModelError(
                f"{spec.name!r} is no inpainting model: its UNet has {found} input channels, "
                f"inpainting has {wanted} (latent, mask, masked image)",
                hint="use an inpainting checkpoint, such as sd2-community/stable-diffusion-2-inpainting; "
                "a text-to-image one serves `--source text2img` only",
            )
        for module in (pipe.unet, pipe.vae, pipe.text_encoder):
            module.eval().requires_grad_(False)
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe
        self._factor: int = pipe.vae_scale_factor
        _check_numbers(spec, pipe)
        self._scaling: float = pipe.vae.config.scaling_factor
        self._latent_channels = latent_channels
        self.resolution: int = resolution or pipe.unet.config.sample_size * self._factor
        if self.resolution % self._factor:
            raise UsageError(f"a resolution of {self.resolution} pixels is no multiple of {self._factor}")
        self.max_tokens: int = pipe.tokenizer.model_max_length
        self._masked_images: dict[tuple[int, int], Tensor] = {}

    @computes("inpainting pipeline")
    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, begin and end tokens included, untruncated."""
        return len(self.pipe.tokenizer(text, verbose=False).input_ids)

    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one latent."""
        side = self.resolution // self._factor
        return self._latent_channels, side, side

    @computes("inpainting pipeline")
    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(conditional, unconditional) text embeddings, each (B, tokens, width)."""
        conditional, unconditional = self.pipe.encode_prompt(list(prompts), self.device, 1, True)
        return conditional, unconditional

    @computes("inpainting pipeline")
    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """z_in: the mode of the VAE's posterior, times the scaling factor. (B, 3, H, W) in [0, 1] → (B, c, h, w)."""
        vae = self.pipe.vae
        posterior = vae.encode((2 * pixels - 1).to(self.device, vae.dtype)).latent_dist
        latents: Tensor = posterior.mode().float() * self._scaling
        return latents

    def alpha_bar(self, steps: int, strength: float, scheduler: SchedulerName) -> Tensor:
        """ᾱ_T of Eq. 4 at the first timestep that is run; scalar float32 on the CPU."""
        sampler, timesteps = self._schedule(steps, strength, scheduler)
        alpha: Tensor = sampler.alphas_cumprod[timesteps[0]]
        return alpha

    @computes("inpainting pipeline")
    @torch.no_grad()
    def denoise(
        self,
        latents: Tensor,
        prompts: tuple[Tensor, Tensor],
        *,
        steps: int,
        strength: float,
        guidance_scale: float,
        scheduler: SchedulerName,
    ) -> Tensor:
        """z_0 of Eq. 5: the reverse diffusion from z_T with the all-ones mask, or without mask and masked image where
        the UNet takes none. (B, c, h, w) → same, float32.

        `steps` and `strength` mean what they mean to the stock pipeline: the last ⌊steps·strength⌋ steps are run
        (0.6 of 20: DDIM makes 12 UNet calls, PNDM 13). Classifier-free guidance, at `guidance_scale` > 1 only,
        doubles the batch. Raises UsageError when no step is left to run.
        """
        unet = self.pipe.unet
        conditional, unconditional = prompts
        guided = guidance_scale > 1
        embeddings = (torch.cat([unconditional, conditional]) if guided else conditional).to(unet.dtype)
        context = self._context(latents.shape[-2:]).expand(len(embeddings), -1, -1, -1)
        sampler, timesteps = self._schedule(steps, strength, scheduler)
        latents = latents.to(self.device, torch.float32)
        # The scheduler indexes its tables, which are on the CPU, with numbers; the UNet gets tensors on its device.
        for timestep, on_device in zip(timesteps.tolist(), timesteps.to(self.device), strict=True):
            batch = torch.cat([latents, latents]) if guided else latents
            noise = unet(
                torch.cat([batch.to(unet.dtype), context], dim=1),
                on_device,
                encoder_hidden_states=embeddings,
                return_dict=False,
            )[0].float()
            if guided:
                without, with_prompt = noise.chunk(2)
                noise = without + guidance_scale * (with_prompt - without)
            latents = sampler.step(noise, timestep, latents, return_dict=False)[0]
        return latents

    def decoder_input(self, latents: Tensor) -> Tensor:
        """z_0 / scaling factor: the tensor that the skip gradient is taken with respect to."""
        return latents / self._scaling

    @computes("inpainting pipeline")
    def decode(self, decoder_input: Tensor) -> Tensor:
        """x_syn of Eq. 6: (B, c, h, w) → pixels (B, 3, H, W) in [0, 1], clamped, float32. Differentiable."""
        vae = self.pipe.vae
        pixels: Tensor = vae.decode(decoder_input.to(self.device, vae.dtype), return_dict=False)[0]
        return (pixels.float() / 2 + 0.5).clamp(0, 1)

    def _context(self, latent_size: Sequence[int]) -> Tensor:
        """Mask (all ones) and masked image (all grey, encoded) as the UNet's last 1 + c channels, for one image; of a
        text-to-image UNet, no channels."""
        height, width = latent_size
        if not self._inpaints:
            return torch.empty((1, 0, height, width), device=self.device, dtype=self.pipe.unet.dtype)
        if (height, width) not in self._masked_images:
            grey = torch.full((1, 3, height * self._factor, width * self._factor), 0.5)
            latent = self.encode_images(grey)
            mask = torch.ones_like(latent[:, :1])
            self._masked_images[height, width] = torch.cat([mask, latent], dim=1).to(self.pipe.unet.dtype)
        return self._masked_images[height, width]

    def _schedule(self, steps: int, strength: float, scheduler: SchedulerName) -> tuple[Any, Tensor]:
        """A fresh scheduler, made from the checkpoint's settings, and the timesteps that it is to run."""
        config = self.pipe.scheduler.config
        if scheduler == "ddim":
            # Where the checkpoint says nothing, DDIM would clip the predicted sample: right for pixels, not latents.
            sampler = DDIMScheduler.from_config(config, clip_sample=config.get("clip_sample", False))
        else:
            # Latent diffusion runs PNDM without its Runge-Kutta steps; the stock pipeline insists on it too.
            sampler = PNDMScheduler.from_config(config, skip_prk_steps=True)
        known = sampler.config.num_train_timesteps
        if steps > known:
            raise too_many_steps(steps, known)
        sampler.set_timesteps(steps)
        run = min(int(steps * strength), steps)
        if run < 1:
            raise UsageError(f"{strength:g} of {steps} steps leaves none to run", hint="raise --steps or --strength")
        return sampler, sampler.timesteps[(steps - run) * sampler.order :]


def _part(spec: ModelSpec, folder: Path, kind: Any, dtype: torch.dtype) -> Any:
    """The part of the pipeline in `folder`, with all of its weights. (Where the pipeline loads a text encoder, it says
    nothing of weights that are made up.)"""
    only_text = {"ignore_mismatched_sizes": True} if kind is CLIPTextModel else {}  # diffusers names them by itself
    model, report = kind.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True, **only_text
    )
    check_complete(f"{spec.name}/{folder.name}", report)
    return model


def _check_numbers(spec: ModelSpec, pipe: Any) -> None:
    """Raise ModelError unless the settings that are calculated with are numbers that a pipeline could have."""
    scaling, side = pipe.vae.config.scaling_factor, pipe.unet.config.sample_size
    context = pipe.tokenizer.model_max_length
    fits = {
        "scaling_factor of the VAE": isinstance(scaling, float | int) and 0 < scaling < math.inf,
        "sample_size of the UNet": type(side) is int and 1 <= side <= LARGEST_LATENT,
        "model_max_length of the tokenizer": 3 <= context <= pipe.text_encoder.config.max_position_embeddings,
    }
    for name, is_one in fits.items():
        if not is_one:
            raise ModelError(
                f"{spec.name!r:.200}: the {name} is none that Stable Diffusion could have",
                hint="an inpainting pipeline of Stable Diffusion 1 or 2 is wanted",
            )


def _checked(name: str, document: dict[str, Any]) -> Any:
    """Settings of a pipeline's folder; of `model_index.json` the classes alone.

    Raises ModelError where it names another class, or another library, than Stable Diffusion has for a part.
    """
    if name == "scheduler/scheduler_config.json":
        return checked_schedule(name, document)
    if name != "model_index.json":
        return cleaned(name, document)
    version = document.get("_diffusers_version")
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionInpaintPipeline",
        "_diffusers_version": version if isinstance(version, str) else diffusers.__version__,
        "requires_safety_checker": False,
    }
    for part, allowed in _CLASSES.items():
        found = document.get(part)
        library, kind = found if isinstance(found, list) and len(found) == 2 else (None, None)
        if library != allowed[0] or kind not in allowed[1]:
            raise ModelError(
                f"model_index.json names {printable(str(found)[:100])} as {part}, which Stable Diffusion has not",
                hint="an inpainting pipeline of Stable Diffusion 1 or 2 is wanted, without code of its own",
            )
        index[part] = [library, kind]
    unused = ("safety_checker", "feature_extractor", "image_encoder")
    return index | {part: [None, None] for part in unused}


_SCHEDULERS = [name for name in dir(diffusers) if name.endswith("Scheduler")]
_CLASSES = {
    "vae": ("diffusers", ["AutoencoderKL"]),
    "text_encoder": ("transformers", ["CLIPTextModel"]),
    "tokenizer": ("transformers", ["CLIPTokenizer", "CLIPTokenizerFast"]),
    "unet": ("diffusers", ["UNet2DConditionModel"]),
    "scheduler": ("diffusers", _SCHEDULERS),
}
"""The parts of the pipeline: their library, and the classes that each may have."""
