"""What is said of an image depends neither on the others nor on how many there are: bit for bit, on every CPU. What is
said of a text moves by rounding only."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from synood_cli.config import bundled
from synood_cli.models.build import build_encoder
from synood_cli.models.equal_batches import CPU_IMAGES, filled, in_equal_batches, rows_at_once
from synood_cli.models.protocols import ImageTextEncoder
from synood_cli.records import ModelSpec

COUNT = 5


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def encoder(request: pytest.FixtureRequest) -> ImageTextEncoder:
    precision: Literal["fp32", "bf16"] = request.param
    return build_encoder(ModelSpec(adapter="open_clip", name=str(bundled("clip"))), "cpu", precision)


def test_every_pass_takes_the_same_number_of_rows() -> None:
    seen = []

    def doubled(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return 2 * rows

    inputs = torch.arange(14.0).reshape(7, 2)
    assert torch.equal(in_equal_batches(doubled, inputs, 3), 2 * inputs)
    assert torch.equal(in_equal_batches(doubled, inputs[:1], 3), 2 * inputs[:1])
    assert seen == [3, 3, 3, 3]
    assert filled(inputs, 7).data_ptr() != inputs.data_ptr()  # a copy: where a part lies in memory decides nothing
    assert torch.equal(filled(inputs[:1], 3), torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))


def test_on_the_cpu_the_batch_size_does_not_matter() -> None:
    assert rows_at_once("cpu", 1) == rows_at_once("cpu", 64) == CPU_IMAGES
    assert rows_at_once("cuda:1", 64) == 64


def test_images_alone_together_and_in_another_order(encoder: ImageTextEncoder) -> None:
    images = torch.rand(COUNT, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    together = in_equal_batches(encoder.encode_images, images, CPU_IMAGES)
    alone = torch.cat([in_equal_batches(encoder.encode_images, image[None], CPU_IMAGES) for image in images])
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    shuffled = in_equal_batches(encoder.encode_images, images[order], CPU_IMAGES)
    assert torch.equal(alone, together)
    assert torch.equal(shuffled, together[order])


def test_texts_alone_together_and_in_another_order(encoder: ImageTextEncoder, request: pytest.FixtureRequest) -> None:
    tolerance = {"rtol": 0, "atol": {"fp32": 1e-5, "bf16": 0.05}[request.node.callspec.params["encoder"]]}
    texts = [f"the nice {'very ' * (number % 9)}odd thing {number}" for number in range(40)]
    together = encoder.encode_texts(texts)
    alone = torch.cat([encoder.encode_texts([text]) for text in texts[::4]])
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    shuffled = encoder.encode_texts([texts[place] for place in order.tolist()])
    assert torch.equal(encoder.encode_texts(texts), together)
    torch.testing.assert_close(alone, together[::4], **tolerance)
    torch.testing.assert_close(shuffled, together[order], **tolerance)
