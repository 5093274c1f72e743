"""A captioner without a language model: the words of a vocabulary that CLIP finds in an image."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from synood_cli.errors import ItemError, UsageError
from synood_cli.models.equal_batches import in_equal_batches, rows_at_once
from synood_cli.models.protocols import Captioner, ImageTextEncoder
from synood_cli.records import Description, ModelSpec

IMAGES = 16
"""Images that meet the vocabulary at once, always; on a GPU also those of a forward pass."""

ROUNDING = 1e-6
"""What cosines in float32 may differ by without meaning anything."""


class ClipTags(Captioner):
    """Stands in for φ of Eq. 3 by zero-shot tagging.

    With s_v = cos(F(x), H(template(v))) for the words v of the vocabulary, a word is present when it stands out,
    z_v = (s_v - mean(s)) / std(s) > `z_score`: CLIP's similarities to one image differ by little and their level
    differs from image to image, so only their order and spread within the image mean anything. Words that mean the
    main object (cos(H(template(v)), H(template(class))) ≥ `class_similarity`) are dropped; of the rest the `top`
    highest are the elements, best first.

    *Deviation:* the paper asks a multimodal language model; this needs no more than the CLIP at hand.
    """

    def __init__(
        self,
        spec: ModelSpec,
        encoder: ImageTextEncoder,
        vocabulary: Sequence[str],
        *,
        template: str,
        top: int,
        z_score: float,
        class_similarity: float,
    ) -> None:
        if len(vocabulary) < 2:
            raise UsageError("a vocabulary needs at least two words, or none can stand out")
        self.spec = spec
        self.encoder = encoder
        self.vocabulary = list(vocabulary)
        self.template = template
        self.top = top
        self.z_score = z_score
        self.class_similarity = class_similarity
        self._words = self._encode(self.vocabulary)

    def prepared_bytes(self, width: int, height: int) -> int:
        """As the CLIP says."""
        return self.encoder.prepared_bytes(width, height)

    def describe(self, images: Sequence[Image.Image], class_names: Sequence[str]) -> list[Description | Exception]:
        """One answer per image, in order, its elements best first; `raw` joins them with commas.

        An image in which no word stands out yields an ItemError instead.
        """
        started = time.perf_counter()
        prepared = torch.stack([self.encoder.prepare(image) for image in images])
        rows = rows_at_once(self._words.device.type, IMAGES)
        features = in_equal_batches(self.encoder.encode_images, prepared, rows)
        similarity = in_equal_batches(lambda images: normalize(images, dim=-1) @ self._words.T, features, rows)
        # Below ROUNDING all words are equally similar, and none stands out.
        spread = similarity.std(dim=1, keepdim=True, correction=0).clamp_min(ROUNDING)
        z_scores = (similarity - similarity.mean(dim=1, keepdim=True)) / spread
        present = z_scores > self.z_score
        about_the_class = self._encode(class_names) @ self._words.T >= self.class_similarity
        candidates = z_scores.masked_fill(~present | about_the_class, -torch.inf)
        found = [self._best(row) for row in candidates.cpu()]
        seconds = (time.perf_counter() - started) / len(images)
        nothing = ItemError("no word of the vocabulary stands out from the others")
        return [Description(", ".join(words), words, seconds) if words else nothing for words in found]

    def _encode(self, words: Sequence[str]) -> Tensor:
        """Unit length."""
        return normalize(self.encoder.encode_texts([self.template.replace("{}", word) for word in words]), dim=-1)

    def _best(self, z_scores: Tensor) -> list[str]:
        order = z_scores.argsort(descending=True, stable=True)[: self.top].tolist()
        return [self.vocabulary[i] for i in order if z_scores[i] > -torch.inf]
