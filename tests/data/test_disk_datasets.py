from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import datasets
import pytest
from PIL import Image

from image_set_files import write_dataset
from pipeline import photograph
from synood_cli.data.disk_datasets import is_dataset, scan_dataset
from synood_cli.data.images import read_image
from synood_cli.errors import ItemError, UsageError

datasets.disable_progress_bars()


@pytest.fixture
def pictures(tmp_path: Path) -> list[tuple[Path, str]]:
    names = ("cat", "dog", "cat", "frog")
    return [(photograph(tmp_path / f"{number}.png", number), name) for number, name in enumerate(names)]


def test_rows_with_the_names_of_their_classes(tmp_path: Path, pictures: list[tuple[Path, str]]) -> None:
    folder = write_dataset(tmp_path / "set", pictures)
    assert is_dataset(folder)
    assert not is_dataset(tmp_path)
    found = scan_dataset(folder)
    assert [(image.name, image.class_name) for image in found.images] == [
        ("row 0", "cat"), ("row 1", "dog"), ("row 2", "cat"), ("row 3", "frog"),
    ]  # fmt: skip
    for image, (path, _) in zip(found.images, pictures, strict=True):
        assert read_image(image.place).tobytes() == Image.open(path).tobytes()


def test_numbers_as_labels_and_none_at_all(tmp_path: Path, pictures: list[tuple[Path, str]]) -> None:
    features = datasets.Features({"photo": datasets.Image(), "label": datasets.Value("int64")})
    photos = [{"bytes": path.read_bytes(), "path": None} for path, _ in pictures]
    columns = {"photo": photos, "label": [207, -1, 0, None]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "numbers"))
    assert [image.class_name for image in scan_dataset(tmp_path / "numbers").images] == ["207", "", "0", ""]
    write_dataset(tmp_path / "none", [(path, "") for path, _ in pictures])
    assert {image.class_name for image in scan_dataset(tmp_path / "none").images} == {""}


def test_a_row_without_a_picture(tmp_path: Path, pictures: list[tuple[Path, str]]) -> None:
    features = datasets.Features({"image": datasets.Image()})
    rows = [None, {"bytes": b"no picture", "path": None}]
    datasets.Dataset.from_dict({"image": rows}, features=features).save_to_disk(str(tmp_path / "set"))
    empty, broken = scan_dataset(tmp_path / "set").images
    with pytest.raises(ItemError, match="the dataset's row has no picture"):
        read_image(empty.place)
    with pytest.raises(ItemError, match="not a picture that can be read"):
        read_image(broken.place)


def test_datasets_that_hold_no_image_set(tmp_path: Path, pictures: list[tuple[Path, str]]) -> None:
    whole = datasets.load_from_disk(str(write_dataset(tmp_path / "set", pictures)))
    datasets.DatasetDict({"test": whole, "train": whole}).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(UsageError, match="has the splits test, train") as caught:
        scan_dataset(tmp_path / "splits")
    assert caught.value.hint == f"name one of them: {tmp_path / 'splits' / 'test'}"
    assert len(scan_dataset(tmp_path / "splits/test").images) == 4
    whole.select_columns(["id"]).save_to_disk(str(tmp_path / "words"))
    with pytest.raises(UsageError, match="has no column of images; its columns: id"):
        scan_dataset(tmp_path / "words")
    nothing = datasets.Dataset.from_dict({"image": []}, features=datasets.Features({"image": datasets.Image()}))
    nothing.save_to_disk(str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="cannot load the dataset"):  # the library saves it and cannot read it
        scan_dataset(tmp_path / "empty")
    for path in (tmp_path / "set").glob("*.arrow"):
        path.write_bytes(b"damaged")
    with pytest.raises(UsageError, match="cannot load the dataset"):
        scan_dataset(tmp_path / "set")


def test_without_the_library_the_command_that_installs_it_is_named(
    tmp_path: Path, pictures: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_dataset(tmp_path / "set", pictures)
    monkeypatch.setitem(sys.modules, "datasets", None)  # what Python does for a library that is not installed
    with pytest.raises(UsageError, match="needs the library `datasets`, which is not installed") as caught:
        scan_dataset(folder)
    assert caught.value.hint == "pip install 'synood[datasets]'"


def test_labels_that_are_none_are_problems_of_their_rows(tmp_path: Path, pictures: list[tuple[Path, str]]) -> None:
    photos = [{"bytes": path.read_bytes(), "path": None} for path, _ in pictures]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("float64")})
    columns = {"image": photos, "label": [3.0, 0.5, float("nan"), -1.0]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "set"))
    found = scan_dataset(tmp_path / "set")
    assert [image.class_name for image in found.images] == ["3", "", "", ""]
    assert [name for name, _ in found.problems] == ["row 1", "row 2"]


def test_a_dataset_with_odd_files_is_refused_before_it_is_opened(
    tmp_path: Path, pictures: list[tuple[Path, str]]
) -> None:
    folder = write_dataset(tmp_path / "set", pictures)
    [data] = folder.glob("*.arrow")
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"] = [{"filename": f"../set/{data.name}"}]
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(UsageError, match="is not in its folder"):
        scan_dataset(folder)
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(UsageError, match="is not a regular file"):
        scan_dataset(folder)
    (folder / "state.json").write_text("[" * 100_000)
    data.unlink()
    with pytest.raises(UsageError, match="cannot load the dataset"):
        scan_dataset(folder)
