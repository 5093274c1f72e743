"""Which logits belong to the class folders of a selection."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from checkpoints import tiny_classifier, write_classifier
from synood_cli.errors import ModelError
from synood_cli.models.build import build_classifier
from synood_cli.models.protocols import Classifier
from synood_cli.records import ModelSpec
from synood_cli.stages.workers.synthesize import class_columns


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A tiny classifier of ImageNet's classes, without label names, as the real ones are."""
    folder = tmp_path_factory.mktemp("imagenet")
    write_classifier(folder, "test_resnet", None, num_classes=1000)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["tag"] = "tv2_in1k"
    (folder / "config.json").write_text(json.dumps(config))
    return build_classifier(ModelSpec(adapter="timm", name=str(folder)), "cpu", "fp32")


def columns(classifier: Classifier, *folders: str) -> list[int] | None:
    return class_columns(classifier, folders)


def test_folders_of_imagenet_by_id_by_id_and_words_and_by_words(imagenet: Classifier) -> None:
    assert columns(imagenet, "n01443537", "n01440764") == [1, 0]
    assert columns(imagenet, "n01484850_great_white_shark", "n01440764_tench") == [2, 0]
    assert columns(imagenet, "toilet tissue", "Great_White_Shark", "tinca tinca") == [999, 2, 0]


def test_all_of_imagenet_by_id_is_every_logit_in_order(imagenet: Classifier) -> None:
    assert imagenet.class_names is not None
    assert columns(imagenet, *imagenet.class_names) == list(range(1000))


def test_a_word_for_two_classes_is_refused_and_their_ids_are_not(imagenet: Classifier) -> None:
    with pytest.raises(ModelError, match=r"'crane' may mean several classes .*: n02012849 and n03126707") as refused:
        columns(imagenet, "tench", "crane")
    assert refused.value.hint == "begin the name of its class folder with n02012849 or n03126707"
    assert columns(imagenet, "n03126707", "n02012849") == [517, 134]
    assert columns(imagenet, "n03126707_crane", "n02012849_crane") == [517, 134]


def test_two_names_of_one_class_are_refused(imagenet: Classifier) -> None:
    with pytest.raises(ModelError, match="'tench' and 'n01440764' are one class"):
        columns(imagenet, "tench", "n01440764")


def test_a_class_that_is_not_in_imagenet_is_named(imagenet: Classifier) -> None:
    with pytest.raises(ModelError, match="does not know 1 of 2 classes: unicorn"):
        columns(imagenet, "tench", "unicorn")


def test_label_names_that_are_alike_are_refused_where_they_matter(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "alike", ["cat", "tree_frog", "Tree frog"])
    classifier = build_classifier(ModelSpec(adapter="timm", name=str(folder)), "cpu", "fp32")
    assert columns(classifier, "cat") == [0]
    with pytest.raises(ModelError, match=r"'tree frog' may mean several classes .*: tree_frog and Tree frog"):
        columns(classifier, "tree_frog")


def test_names_are_compared_composed(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "chaton âgé")
    folder = tiny_classifier(tmp_path / "composed", [decomposed, "Chien", "x"])
    classifier = build_classifier(ModelSpec(adapter="timm", name=str(folder)), "cpu", "fp32")
    assert columns(classifier, "chaton_âgé", "chien") == [0, 1]
    assert columns(classifier, decomposed) == [0]
