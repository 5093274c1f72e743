"""Numbers that overflow: the image is named, and the others of its batch come out as if it were not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from synood_cli.config import CaptionSettings, MineSettings, Models, SynthesizeSettings
from synood_cli.errors import ModelError, SynoodError
from synood_cli.method.losses import MaxLogit
from synood_cli.method.synthesis import synthesize as redraw_batch
from synood_cli.stages.caption import caption
from synood_cli.stages.embed import NOT_FINITE, embed_images, selected_items
from synood_cli.stages.mine_labels import mine_labels
from synood_cli.stages.selected import selected_images
from synood_cli.stages.synthesize import synthesize
from synood_cli.stages.workers.embed import finite_rows
from synood_cli.store.store import Artifact

LARGEST = float(torch.finfo(torch.float32).max)
SETTINGS = SynthesizeSettings(iterations=1, steps=1, strength=1.0, loss="centred-energy", boundary=5.0)


@pytest.fixture
def captions(make_run, selection, store, tmp_path):
    names = [store.image(row["image_id"])["name"] for row in store.rows(selection, "selected_images")]
    file = tmp_path / "captions.jsonl"
    file.write_text("".join(json.dumps({"image": name, "elements": ["grass"]}) + "\n" for name in names))
    return caption(make_run(), CaptionSettings(), Models(), selection, file)


def scaled(folder: Path, to: Path, tensors: tuple[str, ...], factor: float) -> Path:
    """A copy of a checkpoint in which some tensors are multiplied."""
    shutil.copytree(folder, to)
    [file] = to.glob("*.safetensors")
    weights = load_file(file)
    save_file({name: weight * factor if name in tensors else weight for name, weight in weights.items()}, file)
    return to


def split(values: list[float], limit: float) -> tuple[float, set[int]]:
    """A factor at which some of these values, in absolute terms, exceed `limit` and some do not, those on either side
    of the widest gap between them; and the positions of those that do."""
    sizes = np.abs(values)
    order = np.argsort(-sizes)
    gaps = sizes[order[:-1]] / sizes[order[1:]]
    above = int(gaps.argmax()) + 1
    return limit / float(np.sqrt(sizes[order[above - 1]] * sizes[order[above]])), set(order[:above].tolist())


def test_a_loss_that_overflows_is_a_failure_of_its_image(store, make_run, captions, models, tmp_path) -> None:
    def made_with(factor: float) -> Artifact:
        folder = scaled(Path(models.classifier), tmp_path / f"{factor:g}", ("fc.weight", "fc.bias"), factor)
        return synthesize(make_run(), SETTINGS, models.model_copy(update={"classifier": str(folder)}), captions)

    rows = list(store.rows(made_with(1e10), "synthetic_images"))
    larger, places = split([row["score"] for row in rows], LARGEST**0.5)  # the loss is the square of the score
    broken = made_with(1e10 * larger)
    assert (broken.items_done, broken.items_failed) == (len(rows) - len(places), len(places))
    assert {item for item, _ in store.failures(broken)} == {store.image(rows[n]["image_id"])["name"] for n in places}
    for _, reason in store.failures(broken):
        assert reason.startswith("the loss of iteration 1 is not a finite number; try --precision fp32")
    kept = [row["score"] for row in store.rows(broken, "synthetic_images")]
    assert kept == pytest.approx([row["score"] * larger for n, row in enumerate(rows) if n not in places], rel=1e-4)


def test_when_no_photograph_has_a_score_the_message_says_what_to_try(make_run, captions, models, tmp_path) -> None:
    classifier = scaled(Path(models.classifier), tmp_path / "nan", ("fc.weight",), float("nan"))
    settings = SETTINGS.model_copy(update={"boundary": "auto"})
    with pytest.raises(SynoodError, match="none of the 9 selected images can be read and scored") as caught:
        synthesize(make_run(), settings, models.model_copy(update={"classifier": str(classifier)}), captions)
    assert "--precision fp32" in (caught.value.hint or "")


def test_the_noise_of_the_others_is_not_touched() -> None:
    generator = torch.Generator().manual_seed(0)
    z_in, noise = torch.randn(2, 3, 1, 4, 4, generator=generator)

    def redraw(rows: list[int], poison: int | None) -> torch.Tensor:
        def logits(pixels: torch.Tensor) -> torch.Tensor:
            g = pixels.flatten(1)[:, :3] * 3
            return g if poison is None else g * torch.where(torch.arange(len(g)) == poison, torch.nan, 1.0)[:, None]

        return redraw_batch(
            z_in[rows],
            noise[rows],
            denoise=lambda z: z / 2,
            decoder_input=lambda z: z,
            decode=lambda z: z.sigmoid(),
            logits=logits,
            loss=MaxLogit(1.0),
            boundary=9.0,
            alpha_bar=torch.tensor(0.5),
            iterations=3,
            step_size=1.0,
            chunk_size=3,
            keep="last",
        ).pixels

    poisoned = redraw([0, 1, 2], poison=1)
    assert not poisoned[1].isfinite().all()
    torch.testing.assert_close(poisoned[[0, 2]], redraw([0, 2], poison=None))


def test_features_that_are_no_numbers_are_a_problem_of_their_image() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, torch.nan], [5.0, 6.0], [-torch.inf, 8.0]])
    kept, problems = finite_rows(features, [None, "unreadable", None, None, None])
    assert kept.tolist() == [[1.0, 2.0], [5.0, 6.0]]
    assert problems == [None, "unreadable", NOT_FINITE, None, NOT_FINITE]


def test_images_without_features_are_failures_that_stay(store, make_run, selection, models, tmp_path) -> None:
    clip = scaled(Path(models.clip), tmp_path / "nan", ("visual.proj",), float("nan"))
    spec = models.model_copy(update={"clip": str(clip)}).clip_spec()
    items = selected_items(selected_images(store, selection))
    for _ in range(2):
        with pytest.raises(SynoodError, match=f"none of the 9 images .*; {items[0].name}: {NOT_FINITE}"):
            embed_images(make_run(), spec, items, digest="d", precision="fp32", what="photographs")
        assert [made.items_failed for made in store.artifacts("features")] == [9]


def test_label_features_that_are_no_numbers_name_the_model(make_run, selection, models, candidates, tmp_path) -> None:
    clip = scaled(Path(models.clip), tmp_path / "nan", ("text_projection",), float("nan"))
    with pytest.raises(ModelError, match="gives to 'the nice cat' are not finite numbers"):
        mine_labels(make_run(), MineSettings(), models.model_copy(update={"clip": str(clip)}), selection, candidates)
