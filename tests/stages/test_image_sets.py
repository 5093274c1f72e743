"""Evaluations and scores of every kind of image set, and of suites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from image_set_files import write_dataset, write_list, write_shards
from pipeline import Silent, photograph
from synood_cli.config import EvalSettings, ScoreSettings
from synood_cli.data.image_sets import ImageSet, Kind
from synood_cli.data.sources import find_images
from synood_cli.errors import UsageError
from synood_cli.records import ImageFile
from synood_cli.stages.evaluate import evaluate
from synood_cli.stages.image_sets import average_name, find_benchmark, number_names
from synood_cli.stages.run import Run
from synood_cli.stages.score import score
from synood_cli.store.heads import HeadInfo, IndLabel
from synood_cli.store.store import Artifact, Store

SETTINGS = EvalSettings(bootstrap=0)
CLASSES = ["cat", "dog", "frog"]


@pytest.fixture
def ind(tmp_path: Path) -> Path:
    for number in range(9):
        photograph(tmp_path / "ind" / CLASSES[number % 3] / f"{number}.png", 300 + number, detail=3)
    return tmp_path / "ind"


@pytest.fixture
def ood(tmp_path: Path) -> Path:
    for number in range(5):
        photograph(tmp_path / "ood" / f"{number}.png", 400 + number, detail=3 + number)
    return tmp_path / "ood"


def pictures(folder: Path) -> list[tuple[Path, str]]:
    found = sorted(folder.rglob("*.png"))
    return [(path, path.parent.name if path.parent != folder else "") for path in found]


def values(store: Store, made: Artifact, dataset: str, method: str = "NegLabel") -> list[float]:
    rows = store.rows(made, "scores")
    return [row["score"] for row in rows if (row["dataset"], row["method"]) == (dataset, method)]


def metrics(store: Store, made: Artifact) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["method"], row["dataset"]): row for row in store.rows(made, "metrics")}


def test_every_source_gives_the_same_numbers(
    store: Store, make_run: Callable[..., Run], head: Artifact, ind: Path, ood: Path, tmp_path: Path
) -> None:
    folders = evaluate(make_run(), SETTINGS, [head], ind, {"new": ood})
    in_order = pictures(ind)
    rows = [(str(path.relative_to(tmp_path)), CLASSES.index(label)) for path, label in in_order]
    out = [(str(path.relative_to(tmp_path)), -1) for path, _ in pictures(ood)]
    lists = write_list(tmp_path / "in.txt", rows), write_list(tmp_path / "out.txt", out)
    numbered = [(path, str(CLASSES.index(label))) for path, label in in_order]
    tars = write_shards(tmp_path / "in-tar", numbered, 4), write_shards(tmp_path / "out-tar", pictures(ood), 4)
    datasets = write_dataset(tmp_path / "in-set", in_order), write_dataset(tmp_path / "out-set", pictures(ood))
    for inside, outside in (lists, tars, datasets):
        made = evaluate(make_run(), SETTINGS, [head], inside, {"new": outside})
        assert made.items_failed == 0
        for dataset in ("ind", "new"):
            np.testing.assert_allclose(values(store, made, dataset), values(store, folders, dataset), atol=1e-5)
        for key, row in metrics(store, folders).items():
            same = metrics(store, made)[key]
            assert same["ind_accuracy"] == row["ind_accuracy"] is not None
            assert same["auroc"] == pytest.approx(row["auroc"])


def test_a_set_is_embedded_once_for_eval_and_score(
    store: Store, make_run: Callable[..., Run], head: Artifact, ind: Path, ood: Path, tmp_path: Path
) -> None:
    place = write_shards(tmp_path / "tar", pictures(ood), 2)
    evaluate(make_run(), SETTINGS, [head], ind, {"new": place})
    progress = Silent()
    evaluate(make_run(progress=progress), EvalSettings(bootstrap=0, tpr=0.5), [head], ind, {"again": place})
    assert [what for what, _, _ in progress.started] == ["evaluate"]


def test_labels_are_part_of_the_question_and_not_of_the_features(
    store: Store, make_run: Callable[..., Run], head: Artifact, ind: Path, ood: Path, tmp_path: Path
) -> None:
    names = [str(path.relative_to(tmp_path)) for path, _ in pictures(ind)]
    path = write_list(tmp_path / "in.txt", [(name, 0) for name in names])
    all_cats = evaluate(make_run(), SETTINGS, [head], path, {"new": ood})
    write_list(path, [(name, CLASSES.index(name.split("/")[1])) for name in names])
    progress = Silent()
    right = evaluate(make_run(progress=progress), SETTINGS, [head], path, {"new": ood})
    assert not right.reused
    assert [what for what, _, _ in progress.started] == ["evaluate"]
    accuracy = [metrics(store, made)["MCM", "new"]["ind_accuracy"] for made in (all_cats, right)]
    predicted = [row["predicted_class"] for row in store.rows(right, "scores") if row["dataset"] == "ind"][:9]
    assert accuracy[0] == pytest.approx(predicted.count("cat") / 9)


def test_bad_members_are_failures_and_the_rest_is_scored(
    store: Store, make_run: Callable[..., Run], head: Artifact, ood: Path, tmp_path: Path
) -> None:
    (ood / "2.png").write_bytes(b"no picture")
    (ood / "5.png").write_bytes(b"")
    made = score(make_run(), ScoreSettings(), head, write_shards(tmp_path / "tar", pictures(ood), 10))
    assert [item for item, _ in store.failures(made)] == ["shard-00000.tar/00002.png", "shard-00000.tar/00005.png"]
    assert [row["item"] for row in store.rows(made, "scores")] == [
        f"shard-00000.tar/0000{number}.png" for number in (0, 1, 3, 4)
    ]
    listed = write_list(tmp_path / "set.txt", [("ood/0.png", -1), ("ood/9.png", -1), ("ood/2.png", -1)])
    made = score(make_run(), ScoreSettings(), head, listed)
    assert [item for item, _ in store.failures(made)] == ["ood/9.png", "ood/2.png"]
    assert made.items_done == 1


def test_groups_are_averaged_apart(
    store: Store, make_run: Callable[..., Run], head: Artifact, ind: Path, ood: Path, tmp_path: Path
) -> None:
    for name in ("b", "c"):
        for number in range(4):
            photograph(tmp_path / name / f"{number}.png", 7 * number + ord(name), detail=10)
    (tmp_path / "mine.toml").write_text(
        """
        [ind]
        place = "ind"
        images = 9
        [ood.a]
        place = "ood"
        group = "near"
        [ood.b]
        place = "b"
        group = "far"
        [ood.c]
        place = "c"
        group = "far"
        """
    )
    sets = find_benchmark(None, {}, suite=str(tmp_path / "mine.toml"))
    assert sets.suite is not None
    assert sets.suite.differences == []
    made = evaluate(make_run(), EvalSettings(bootstrap=30), [head], *sets)
    rows = metrics(store, made)
    for method in ("MCM", "NegLabel"):
        a, b, c = (rows[method, name]["auroc"] for name in "abc")
        assert rows[method, "average near"]["auroc"] == pytest.approx(a)
        assert rows[method, "average far"]["auroc"] == pytest.approx((b + c) / 2)
        assert rows[method, "average"]["auroc"] == pytest.approx((a + b + c) / 3)
        far = rows[method, "average far"]
        assert far["auroc_low"] <= far["auroc"] <= far["auroc_high"]
        assert [rows[method, average_name(group)]["ood_images"] for group in ("near", "far", "")] == [5, 8, 13]
    assert made.notes["suite"]["groups"] == {"near": ["a"], "far": ["b", "c"]}
    alone = evaluate(make_run(), EvalSettings(bootstrap=30), [head], sets.ind, sets.ood)
    assert {key: row["auroc_low"] for key, row in metrics(store, alone).items()} == {
        key: row["auroc_low"] for key, row in rows.items() if key[1] not in ("average near", "average far")
    }


def test_a_suite_that_differs_is_refused_unless_allowed(
    store: Store, make_run: Callable[..., Run], head: Artifact, ind: Path, ood: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[ind]\nplace = "ind"\nimages = 10\n[ood.a]\nplace = "ood"\ngroup = "g"\n[ood.b]\nplace = "b"\ngroup = "h"\n'
    )
    with pytest.raises(UsageError) as caught:
        find_benchmark(None, {}, suite=str(path))
    differences = [
        f"ind has 9 images that can be used, not 10 ({ind})",
        "b is missing: there is no b",
    ]
    assert caught.value.message.endswith(f"is not as it must be: {'; '.join(differences)}")
    assert "--allow-mismatch" in (caught.value.hint or "")
    sets = find_benchmark(None, {"more": ood}, suite=str(path), allow_mismatch=True)
    made = evaluate(make_run(), SETTINGS, [head], *sets)
    assert made.notes["warnings"] == differences
    assert {dataset for _, dataset in metrics(store, made)} == {"a", "more", "average", "average g"}
    (tmp_path / "ind").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError) as caught:
        find_benchmark(None, {}, suite=str(path), allow_mismatch=True)
    assert caught.value.hint == (
        "put that right; or --allow-mismatch, which goes on with what is there "
        "(the in-distribution images it needs: --ind IMAGES)"
    )
    other = find_benchmark(tmp_path / "elsewhere", {}, suite=str(path), allow_mismatch=True)
    assert other.ind.place == tmp_path / "elsewhere"
    assert other.suite is not None
    assert other.suite.differences == ["b is missing: there is no b"]  # of other InD images it expects no number


def test_what_a_benchmark_lacks_is_said(ood: Path) -> None:
    with pytest.raises(UsageError, match="there are no in-distribution images"):
        find_benchmark(None, {"a": ood})
    with pytest.raises(UsageError, match="where are the images of the suite imagenet-ood") as caught:
        find_benchmark(None, {}, suite="imagenet-ood")
    assert caught.value.hint == "--data-root DIR"


def numbered(images: ImageSet, *classes: str) -> list[str]:
    info = HeadInfo.model_construct(ind_labels=tuple(IndLabel(text=name, class_name=name) for name in classes))
    return images.renamed(number_names(images, "head@1", info)).classes


def labelled(*labels: str, kind: Kind = "list") -> ImageSet:
    images = [ImageFile(Path("/data"), f"{place}.png", label) for place, label in enumerate(labels)]
    return ImageSet(Path("/data/set.txt"), kind, images)


def test_numbers_of_classes(ind: Path, tmp_path: Path) -> None:
    names = [str(path.relative_to(ind)) for path, _ in pictures(ind)]
    images = find_images(write_list(tmp_path / "a.txt", [(names[0], 0), (names[1], 2), (names[2], -1)]), data_root=ind)
    assert numbered(images, "frog", "cat", "dog") == ["cat", "frog"]  # places in the head's classes, sorted
    assert numbered(images, "0", "1", "2") == ["0", "2"]
    assert numbered(images, "n02099601", "n01440764") == ["n01440764", "n01484850"]  # places in ImageNet-1k
    assert numbered(find_images(ind, labelled=True), "x") == CLASSES
    with pytest.raises(UsageError, match="the label 2 is none of 2 classes, which count from 0"):
        numbered(images, "cat", "dog")


@pytest.mark.parametrize(
    ("labels", "classes", "means"),
    [
        (("0", "1", "2"), ("1", "cat", "dog"), ["1", "cat", "dog"]),  # 0 is no name: all are places
        (("2020", "3000"), ("2020", "3000", "cat"), ["2020", "3000"]),  # 2020 is no place: all are names
        (("cat", "1"), ("1", "cat", "dog"), ["1", "cat"]),  # a word is among them: all are names
        (("7", "10"), ("7", "8", "9", "10"), ["10", "7"]),  # classes that are called by numbers
        (("", "cat"), ("cat", "dog"), ["cat"]),
        ((), ("cat", "dog"), []),
    ],
)
def test_the_numbers_of_a_set_are_all_names_or_all_places(
    labels: tuple[str, ...], classes: tuple[str, ...], means: list[str]
) -> None:
    assert numbered(labelled(*labels), *classes) == means


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (
            ("1", "2"),
            ("1", "2", "cat"),
            "the numbers 1, 2 are class names of head@1, and places in its classes",
        ),
        (("0", "2020"), ("2020", "cat"), "the label 2020 is none of 2 classes, which count from 0, and 0 is no class"),
        (("0", "1", "2"), ("0", "2", "3"), "the label 1 is no class of head@1"),  # a class that the head lacks
        (("cat", "1"), ("cat", "dog"), "the label 1 beside the words cat is no class of head@1"),
        (("9" * 5000,), ("cat", "dog"), "the label 999999999… is none of 2 classes"),
        (("9" * 5000,), ("n01440764",), "the label 999999999… is none of 1000 classes"),
    ],
)
def test_numbers_that_are_neither_or_both_are_refused(
    labels: tuple[str, ...], classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        numbered(labelled(*labels), *classes)


def test_folders_are_called_by_names() -> None:
    assert numbered(labelled("1", "2", kind="folder"), "1", "2", "cat") == ["1", "2"]
