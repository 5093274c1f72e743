"""ClipTags against its formula written out, and on a CLIP whose text tower it can trust."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from PIL import Image
from torch.nn import functional

from checkpoints import ELEMENTS, Checkpoints
from synood_cli.errors import ItemError, UsageError
from synood_cli.models.build import build_encoder
from synood_cli.models.clip_tags import ClipTags
from synood_cli.models.protocols import ImageTextEncoder
from synood_cli.records import Description, ModelSpec

SPEC = ModelSpec(adapter="clip-tags", name="elements")
TEMPLATE = "a photo of {}"


@pytest.fixture(scope="module")
def encoder(checkpoints: Checkpoints) -> ImageTextEncoder:
    return build_encoder(ModelSpec(adapter="open_clip", name=str(checkpoints.clip)), "cpu", "fp32")


def tags(encoder: ImageTextEncoder, **settings: float) -> ClipTags:
    chosen = {"top": 5, "z_score": 1.0, "class_similarity": 1.1, **settings}
    return ClipTags(SPEC, encoder, ELEMENTS, template=TEMPLATE, **chosen)


def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(1).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    return [*(Image.fromarray(picture) for picture in noise), Image.new("RGB", (30, 30), "green")]


def elements(answer: Description | Exception) -> list[str]:
    assert isinstance(answer, Description)
    assert answer.elements is not None
    assert answer.raw == ", ".join(answer.elements)
    return answer.elements


def z_scores(encoder: ImageTextEncoder, image: Image.Image) -> dict[str, float]:
    """The formula, one word at a time."""
    feature = encoder.encode_images(encoder.prepare(image)[None])[0].double().numpy()
    words = (
        functional.normalize(encoder.encode_texts([TEMPLATE.format(word) for word in ELEMENTS]), dim=1).double().numpy()
    )
    cosines = [float(feature @ word) / float(np.sqrt(feature @ feature)) for word in words]
    mean, deviation = statistics.fmean(cosines), statistics.pstdev(cosines)
    return {word: (cosine - mean) / deviation for word, cosine in zip(ELEMENTS, cosines, strict=True)}


def test_words_that_stand_out_come_best_first(encoder: ImageTextEncoder) -> None:
    answers = tags(encoder).describe(pictures(), ["cat"] * 3)
    for image, answer in zip(pictures(), answers, strict=True):
        scores = z_scores(encoder, image)
        expected = sorted((word for word in ELEMENTS if scores[word] > 1.0), key=scores.__getitem__, reverse=True)[:5]
        assert elements(answer) == expected
        assert 1 <= len(expected) <= 5


def test_top_and_threshold_bound_the_answer(encoder: ImageTextEncoder) -> None:
    (image, *_) = pictures()
    scores = z_scores(encoder, image)
    above = sum(score > 0 for score in scores.values())
    assert len(elements(tags(encoder, top=100, z_score=0.0).describe([image], ["cat"])[0])) == above
    assert elements(tags(encoder, top=1).describe([image], ["cat"])[0]) == [max(scores, key=scores.__getitem__)]


def test_words_that_mean_the_main_object_are_dropped(encoder: ImageTextEncoder) -> None:
    (image, *_) = pictures()
    best, second = elements(tags(encoder).describe([image], ["cat"])[0])[:2]
    without = elements(tags(encoder, class_similarity=0.9999).describe([image], [best])[0])
    assert best not in without
    assert without[0] == second
    answer = tags(encoder, class_similarity=-1.0).describe([image], ["cat"])[0]
    assert isinstance(answer, ItemError)


def test_each_image_has_its_own_class(encoder: ImageTextEncoder) -> None:
    (image, *_) = pictures()
    best = elements(tags(encoder).describe([image], ["cat"])[0])[0]
    ours = tags(encoder, class_similarity=0.9999)
    kept, dropped = ours.describe([image, image], ["cat", best])
    assert elements(kept)[0] == best
    assert best not in elements(dropped)


def test_an_image_in_which_nothing_stands_out_is_an_item_error(encoder: ImageTextEncoder) -> None:
    (answer,) = tags(encoder, z_score=100.0).describe(pictures()[:1], ["cat"])
    assert isinstance(answer, ItemError)
    assert "stands out" in answer.message
    words = ClipTags(SPEC, encoder, ["sky", "sky"], template=TEMPLATE, top=1, z_score=0.5, class_similarity=1.1)
    assert isinstance(words.describe(pictures()[:1], ["cat"])[0], ItemError)


def test_a_vocabulary_of_one_is_refused(encoder: ImageTextEncoder) -> None:
    with pytest.raises(UsageError, match="at least two words"):
        ClipTags(SPEC, encoder, ["sky"], template=TEMPLATE, top=1, z_score=1, class_similarity=1)
