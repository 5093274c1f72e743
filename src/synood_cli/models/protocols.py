"""What the stages ask of a model. One adapter file a library fulfils these; pixel ranges, normalisation and
dtype conversions stop there.

Shapes: B images, N texts, D CLIP width, C classes. Pixels are RGB in [0, 1], float32, (B, 3, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from PIL import Image
from torch import Tensor
from torch.nn import Module

from synood_cli.records import Description, ModelSpec


class ImageTower(Protocol):
    """Makes one feature vector of an image."""

    width: int
    """D, the length of the vector."""

    def prepare(self, image: Image.Image) -> Tensor:
        """One RGB image as the tower takes it: (3, h, w) float32 on the CPU. Thread-safe."""

    def prepared_bytes(self, width: int, height: int) -> int:
        """The memory that `prepare` takes for an image of so many pixels, beside the image itself, about."""

    def encode_images(self, prepared: Tensor) -> Tensor:
        """(B, 3, h, w) → (B, D), float32, on the tower's device. No gradient."""


class ImageTextEncoder(ImageTower, Protocol):
    """A CLIP: F (image tower) and H (text tower) of the paper."""

    spec: ModelSpec
    parameters: int
    """Numbers that both towers have learned."""
    logit_scale: float
    """exp of the learned temperature; 1/τ of training (100 for OpenAI's weights)."""
    quick_gelu: bool
    preprocessing: dict[str, object]
    """size, mean, std, interpolation and resize mode: what a head must record to be usable elsewhere."""

    transform: Callable[[Image.Image], Tensor]
    """`prepare` without the model: it can be sent to another process."""
    transform_bytes: Callable[[int, int], int]
    """`prepared_bytes` without the model."""
    image_tower: Module
    """F as a module: (B, 3, H, W) in the model's own type → (B, D) before normalisation. What is exported."""

    def prepare(self, image: Image.Image) -> Tensor:
        """The library's own preprocessing of one RGB image: (3, H, W) float32 on the CPU. Thread-safe."""

    def encode_images(self, prepared: Tensor) -> Tensor:
        """F(x) *before* normalisation, float32: (B, 3, H, W) → (B, D)."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """H(y) *before* normalisation, float32: N texts → (N, D)."""


class Captioner(Protocol):
    """φ of Eq. 3: names what surrounds the main object."""

    spec: ModelSpec

    def describe(self, images: Sequence[Image.Image], class_names: Sequence[str]) -> list[Description | Exception]:
        """One raw answer per image, in order. An image that cannot be described yields its exception instead of
        an answer, so that one bad image does not lose its batch. Raises ModelError when no image can succeed."""

    def prepared_bytes(self, width: int, height: int) -> int:
        """The memory that an image of so many pixels takes while the captioner scales it, beside the image itself,
        about."""


class LinearLayer(NamedTuple):
    """The last layer of a classifier, W f + b: (C, D) and (C,)."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """(B, D) → (B, C)."""
        return features @ self.weight.T + self.bias


class Classifier(ImageTower, Protocol):
    """g: a plain image classifier over the in-distribution classes. As an image tower it gives the features f that its
    last layer is given; `prepare` gives pixels in [0, 1] at the size of evaluation, which `logits` takes too."""

    spec: ModelSpec
    num_classes: int
    class_names: list[str] | None
    """Names in logit order when the checkpoint carries them or they are known otherwise, else None."""
    class_aliases: list[set[str]] | None
    """All that each class may be called, its name included, in logit order; None without names."""

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], any H and W → (B, C), float32. Differentiable: resizes with antialiasing, then
        normalises as the checkpoint says. Parameters are frozen."""

    def last_layer(self) -> LinearLayer:
        """What makes the logits of the features, float32. Raises ModelError where that is no linear layer."""


class Inpainter(Protocol):
    """A latent-diffusion inpainting pipeline (Eqs. 4-6), every parameter frozen. Latents are float32."""

    spec: ModelSpec
    resolution: int
    """Native side of the square images, in pixels."""
    max_tokens: int
    """What the text encoder can read, begin and end tokens included (77 for CLIP)."""

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, begin and end tokens included, untruncated."""

    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one latent."""

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(conditional, unconditional) text embeddings, each (B, tokens, width)."""

    def encode_images(self, pixels: Tensor) -> Tensor:
        """z_in: the mode of the VAE's posterior, times the scaling factor. (B, 3, H, W) → (B, c, h, w). No gradient."""

    def alpha_bar(self, steps: int, strength: float, scheduler: Literal["ddim", "pndm"]) -> Tensor:
        """ᾱ_T of Eq. 4 at the first timestep that is run; scalar float32 on the CPU."""

    def denoise(
        self,
        latents: Tensor,
        prompts: tuple[Tensor, Tensor],
        *,
        steps: int,
        strength: float,
        guidance_scale: float,
        scheduler: Literal["ddim", "pndm"],
    ) -> Tensor:
        """z_0 of Eq. 5: the reverse diffusion from z_T with the all-ones mask. No gradient. (B, c, h, w) → same. From
        pure noise over all steps (strength 1) it is text-to-image synthesis.

        `scheduler` "ddim" is built from the checkpoint's own scheduler settings; "pndm" likewise."""

    def decoder_input(self, latents: Tensor) -> Tensor:
        """z_0 / scaling factor: the tensor that the skip gradient is taken with respect to."""

    def decode(self, decoder_input: Tensor) -> Tensor:
        """x_syn of Eq. 6: (B, c, h, w) → pixels (B, 3, H, W) in [0, 1], clamped. Differentiable."""
