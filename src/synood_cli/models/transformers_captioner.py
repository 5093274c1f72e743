"""Image-text-to-text models (LLaVA and the like) through transformers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from synood_cli.errors import ItemError, ModelError
from synood_cli.hub_client.wanted import reason_of
from synood_cli.models.chat_template import chosen_template, prepared, rendered_prompt
from synood_cli.models.generation_settings import plain_generation
from synood_cli.models.loading import DTYPES, check_complete, loading
from synood_cli.models.model_files import (
    MAX_SETTINGS_BYTES,
    TRANSFORMERS_FILES,
    TRANSFORMERS_WEIGHTS,
    existing,
    fetched,
    inside,
    no_weights,
    settings,
    shown,
)
from synood_cli.models.parameter_bound import bounded_by
from synood_cli.models.protocols import Captioner
from synood_cli.records import Description, ModelSpec, Precision, printable

TEMPLATE = "chat_template.jinja"

BYTES_PER_PIXEL = 12
"""Three colours as float32."""

log = logging.getLogger(__name__)


class TransformersCaptioner(Captioner):
    """φ of Eq. 3: a model that `AutoModelForImageTextToText` loads (hub id or folder), decoding greedily.

    `instruction` is p_in, with `{class_name}` where the main object's name goes. It is put through the processor's chat
    template, rendered once; a processor without one gets LLaVA-1.5's `USER: <image>… ASSISTANT:`. Raises ModelError
    when the checkpoint lacks weights that the model needs.
    """

    def __init__(
        self, spec: ModelSpec, device: str, precision: Precision, *, instruction: str, max_new_tokens: int
    ) -> None:
        self.spec = spec
        self.device = device
        self.dtype = DTYPES[precision]
        self.instruction = instruction
        self.max_new_tokens = max_new_tokens
        with loading(spec, "captioner", "transformers"):
            folder = fetched(spec, TRANSFORMERS_FILES)
            with shown(folder, TRANSFORMERS_FILES) as view:
                if not existing(view, TRANSFORMERS_WEIGHTS):
                    raise no_weights(folder)
                (view / TEMPLATE).unlink(missing_ok=True)  # rendered by `rendered_prompt` alone
                template = _template(folder)
                self._processor = AutoProcessor.from_pretrained(view, trust_remote_code=False, local_files_only=True)
                if getattr(self._processor, "tokenizer", None) is None:
                    raise ModelError(
                        f"the processor of {spec.name!r:.200} is not one of images and texts",
                        hint="a captioner is a model that transformers loads as image-text-to-text",
                    )
                with bounded_by(view.glob("*.safetensors")):
                    model, report = AutoModelForImageTextToText.from_pretrained(
                        view,
                        dtype=self.dtype,
                        output_loading_info=True,
                        ignore_mismatched_sizes=True,
                        use_safetensors=True,
                        trust_remote_code=False,
                        local_files_only=True,
                    )
                check_complete(spec.name, report)
                model.generation_config = plain_generation(model.generation_config)
                tokenizer = self._processor.tokenizer
                self._prompt = rendered_prompt(template, tokenizer.special_tokens_map, folder=view)
        self._model = model.eval().requires_grad_(False).to(device)
        # Generation goes on at the right end, so prompts of a batch must end together.
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    def prepared_bytes(self, width: int, height: int) -> int:
        """The memory of the scaled image as floats. Where the shortest side becomes the input's, a thin image grows
        along with it."""
        size: Any = getattr(getattr(self._processor, "image_processor", None), "size", None)
        shortest, longest = (size.get("shortest_edge"), size.get("longest_edge")) if hasattr(size, "get") else (0, 0)
        scale = shortest / min(width, height) if shortest and not longest else 1.0
        return int(BYTES_PER_PIXEL * width * height * scale**2)

    def describe(self, images: Sequence[Image.Image], class_names: Sequence[str]) -> list[Description | Exception]:
        """One answer per image, in order: the new text only, without prompt and special tokens.

        An image that the processor or the model fails at, or that is answered with nothing, yields an ItemError
        instead.
        """
        started = time.perf_counter()
        instructions = [self.instruction.replace("{class_name}", name) for name in class_names]
        try:
            answers = self._answers(self._inputs(images, instructions))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # processors and models raise nearly anything at sizes that they cannot handle
            if len(images) > 1:  # find the one that is to blame
                pairs = zip(images, class_names, strict=True)
                return [answer for image, name in pairs for answer in self.describe([image], [name])]
            log.debug("%s: an image cannot be described", self.spec.name, exc_info=True)
            return [ItemError(f"{self.spec.name} cannot read the image: {reason_of(error):.300}")]
        seconds = (time.perf_counter() - started) / len(images)
        nothing = ItemError(f"{self.spec.name} answered nothing")
        return [Description(text, seconds=seconds, cut=cut) if text else nothing for text, cut in answers]

    def _inputs(self, images: Sequence[Image.Image], instructions: Sequence[str]) -> Any:
        return prepared(self._processor, self._prompt, images, instructions).to(self.device, self.dtype)

    @torch.no_grad()
    def _answers(self, inputs: Any) -> list[tuple[str, bool]]:
        """(text, whether it was cut off: it has all the tokens that it may have, and no end) of each prompt. The text
        keeps the special tokens that set reasoning apart."""
        tokens = self._model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        tokenizer = self._processor.tokenizer
        end = self._model.generation_config.eos_token_id or tokenizer.eos_token_id or []
        ends = torch.tensor(end, device=new.device).reshape(-1)
        outside = {*ends.tolist(), tokenizer.pad_token_id, tokenizer.bos_token_id}
        said = [[token for token in row if token not in outside] for row in new.tolist()]
        whole = torch.isin(new, ends).any(dim=1).tolist()
        texts = self._processor.batch_decode(said, skip_special_tokens=False)
        return [
            (text.strip(), not ended and new.shape[1] >= self.max_new_tokens)
            for text, ended in zip(texts, whole, strict=True)
        ]


def _template(folder: Path) -> str | None:
    """The chat template of a model's folder, from the file that transformers would take it from; None without one."""
    if existing(folder, [TEMPLATE]):
        path = inside(folder, TEMPLATE)
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            raise ModelError(f"{printable(str(folder / TEMPLATE))} is larger than any template")
        return path.read_text(encoding="utf-8", errors="replace")
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        if existing(folder, [name]) and (found := chosen_template(settings(folder, name))):
            return found
    return None
