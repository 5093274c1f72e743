"""TransformersCaptioner on a tiny LLaVA: batching, prompts, and what comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from checkpoints import ELEMENTS, Checkpoints, tiny_captioner
from synood_cli.errors import ItemError, ModelError
from synood_cli.models.transformers_captioner import TransformersCaptioner
from synood_cli.records import Description, ModelSpec

INSTRUCTION = "list what is in this image except the {class_name}"


def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    return [*(Image.fromarray(picture) for picture in noise), Image.new("RGB", (40, 40), "blue")]


def load(folder: Path, max_new_tokens: int = 6) -> TransformersCaptioner:
    spec = ModelSpec(adapter="transformers", name=str(folder))
    return TransformersCaptioner(spec, "cpu", "fp32", instruction=INSTRUCTION, max_new_tokens=max_new_tokens)


@pytest.fixture(scope="module")
def captioner(checkpoints: Checkpoints) -> TransformersCaptioner:
    return load(checkpoints.captioner)


def texts(answers: list[Description | Exception]) -> list[str]:
    return [answer.raw if isinstance(answer, Description) else repr(answer) for answer in answers]


def test_a_batch_answers_as_its_images_alone_do(captioner: TransformersCaptioner) -> None:
    """Class names of different lengths make prompts of different lengths: padding must not show."""
    images, names = pictures(), ["cat", "dog in this image", "frog"]
    together = texts(captioner.describe(images, names))
    alone = [texts(captioner.describe([image], [name]))[0] for image, name in zip(images, names, strict=True)]
    assert together == alone
    assert len(set(together)) == 3


def test_answers_hold_new_text_only(captioner: TransformersCaptioner) -> None:
    for answer in captioner.describe(pictures(), ["cat"] * 3):
        assert isinstance(answer, Description)
        assert {word.strip() for word in answer.raw.split(",") if word.strip()} <= set(ELEMENTS)
        assert answer.seconds > 0
        assert answer.elements is None


def test_greedy_answer_is_the_models_own(captioner: TransformersCaptioner, checkpoints: Checkpoints) -> None:
    """Against transformers used step by step: the prompt written out, then the argmax of each forward pass."""
    processor = AutoProcessor.from_pretrained(checkpoints.captioner)
    model = LlavaForConditionalGeneration.from_pretrained(checkpoints.captioner).eval()
    prompt = f"USER: <image> {INSTRUCTION.format(class_name='cat')} ASSISTANT:"
    image = pictures()[0]
    inputs = processor(images=image, text=prompt, return_tensors="pt")
    tokens = inputs["input_ids"]
    said: list[int] = []
    for _ in range(6):
        with torch.no_grad():
            scores = model(input_ids=tokens, pixel_values=inputs["pixel_values"]).logits[0, -1]
        scores[[*model.generation_config.suppress_tokens, *tokens[0].tolist()]] = -torch.inf
        said.append(int(scores.argmax()))
        if said[-1] == model.generation_config.eos_token_id:
            break
        tokens = torch.cat([tokens, torch.tensor([said[-1:]])], dim=1)
    expected = processor.decode(said, skip_special_tokens=True).strip()
    assert texts(captioner.describe([image], ["cat"])) == [expected]


def test_the_class_name_reaches_the_model(captioner: TransformersCaptioner) -> None:
    image = pictures()[0]
    inputs = captioner._inputs([image], [INSTRUCTION.format(class_name="frog")])
    decoded = captioner._processor.tokenizer.decode(inputs["input_ids"][0])
    assert "except the frog ASSISTANT:" in decoded
    assert decoded.count("<image>") == 16


def test_length_is_bounded(checkpoints: Checkpoints) -> None:
    short = texts(load(checkpoints.captioner, max_new_tokens=1).describe(pictures(), ["cat"] * 3))
    longer = texts(load(checkpoints.captioner, max_new_tokens=5).describe(pictures(), ["cat"] * 3))
    assert all(len(answer.split()) == 1 for answer in short)
    assert all(2 <= len(answer.split()) <= 5 for answer in longer[:2])


def test_without_a_chat_template_llava_1_5s_prompt_is_used(tmp_path: Path) -> None:
    captioner = load(tiny_captioner(tmp_path / "plain", chat_template=False))
    assert captioner._processor.chat_template is None
    inputs = captioner._inputs(pictures()[:1], [INSTRUCTION.format(class_name="cat")])
    decoded = captioner._processor.tokenizer.decode(inputs["input_ids"][0])
    assert decoded.startswith("USER: <image>")
    assert decoded.endswith("except the cat ASSISTANT:")
    answer = captioner.describe(pictures()[:1], ["cat"])[0]
    assert isinstance(answer, Description)
    assert answer.raw


def test_an_image_that_the_processor_refuses_does_not_lose_its_batch(captioner: TransformersCaptioner) -> None:
    """An image without area cannot be resized."""
    good, bad = pictures()[0], Image.new("RGB", (0, 4))
    answers = captioner.describe([good, bad, good], ["cat"] * 3)
    assert texts(answers)[0] == texts(answers)[2] == texts(captioner.describe([good], ["cat"]))[0]
    assert isinstance(answers[1], ItemError)
    assert "cannot read the image" in answers[1].message


def test_missing_weights_are_an_error_never_random_answers(tmp_path: Path) -> None:
    folder = tiny_captioner(tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "multi_modal_projector" not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 4 of the model's weights, first model\.multi_modal_projector"):
        load(folder)


def test_a_thin_image_is_known_to_grow_with_its_shortest_side(captioner: TransformersCaptioner) -> None:
    """The tiny captioner's input has 32 × 32 pixels, of which the shortest side of an image becomes 32."""
    assert captioner.prepared_bytes(640, 480) == 12 * 32 * 32 * 640 // 480
    assert captioner.prepared_bytes(1, 40_000_000) == 12 * 32 * 32 * 40_000_000
