import json
import unicodedata

import numpy as np
import pytest
from safetensors.numpy import save

from synood_cli.errors import StoreError
from synood_cli.records import ModelSpec
from synood_cli.store.draft import Draft
from synood_cli.store.heads import Calibration, Clip, Head, HeadInfo, IndLabel, NegativeLabel, label_rows
from synood_cli.store.store import Store
from synood_cli.store.workspace import Workspace

WIDTH = 5


def head_info(**changed):
    clip = Clip(
        model=ModelSpec(adapter="open_clip", name="ViT-B-16", pretrained="openai", revision="openai"),
        quick_gelu=True,
        preprocessing={"size": [224, 224], "mean": [0.48145466, 0.4578275, 0.40821073], "interpolation": "bicubic"},
        width=WIDTH,
        logit_scale=99.99999237060547,
    )
    values = {
        "clip": clip,
        "ind_labels": (IndLabel(text="great white shark", class_name="n01484850_great_white_shark"),) * 2,
        "ind_template": "the nice {}",
        "negative_labels": tuple(NegativeLabel(text=f"λ {n}", part_of_speech="noun", similarity=0.1) for n in range(3)),
        "templates": {"noun": "the nice {}", "adj": "This is a {} photo"},
        "temperature": 0.01,
        "groups": 100,
        "group_seed": 7,
        "threshold": 0.9730721116065979,
        "calibration": Calibration(images=12, source="selection@1", tpr=0.95, trained_on=False),
        "versions": {"synood": "0"},
    }
    return HeadInfo(**{**values, **changed})


def head_tensors():
    random = np.random.default_rng(0)
    negatives = random.standard_normal((3, WIDTH)).astype(np.float32)
    negatives[0] = [-0.0, 1e-42, np.finfo(np.float32).max, np.nextafter(np.float32(1), np.float32(2)), 1 / 3]
    return {
        "ind_features": random.standard_normal((2, WIDTH)).astype(np.float32),
        "negative_features": negatives,
        "projection.linear.weight": random.standard_normal((WIDTH, WIDTH)).astype(np.float32),
        "projection.linear.bias": random.standard_normal(WIDTH).astype(np.float32),
        "projection.norm.weight": random.standard_normal(WIDTH).astype(np.float32),
        "projection.norm.bias": random.standard_normal(WIDTH).astype(np.float32),
    }


def untrained():
    return {name: tensor for name, tensor in head_tensors().items() if not name.startswith("projection")}


@pytest.fixture
def draft(tmp_path):
    with Store.open(Workspace.create(tmp_path), write=True) as store:
        yield Draft.begin(store, "head", "mine-labels", settings={}, inputs={}, models={}, seed=0)


def test_a_head_comes_back_bit_for_bit(draft):
    written = Head(head_info(projection=True), head_tensors())
    draft.commit({}, written.write(draft))
    read = Head.read(draft.folder)
    assert read.info == written.info
    assert read.tensors.keys() == written.tensors.keys()
    for name, tensor in written.tensors.items():
        assert read.tensors[name].tobytes() == tensor.tobytes()
    assert set(read.projection) == {"linear.weight", "linear.bias", "norm.weight", "norm.bias"}


def test_equal_heads_give_equal_bytes(draft):
    def content(tensors):
        Head(head_info(projection=True), tensors).write(draft)
        return [(draft.folder / name).read_bytes() for name in ("head.json", "head.safetensors")]

    tensors = head_tensors()
    # A transposed array has the same values in another order in memory.
    weight = tensors["projection.linear.weight"]
    turned = {**tensors, "projection.linear.weight": np.asfortranarray(weight)}
    assert content(tensors) == content(dict(reversed(list(tensors.items())))) == content(turned)


@pytest.mark.parametrize(
    ("projection", "tuned", "method"),
    [
        (False, False, "NegLabel"),
        (True, False, "+ projection"),
        (False, True, "+ labels"),
        (True, True, "SynOOD"),
    ],
)
def test_method_is_the_row_of_the_ablation(projection, tuned, method):
    labels = (*head_info().negative_labels[:2], NegativeLabel(text="x", part_of_speech="adj", tuned=tuned))
    assert head_info(projection=projection, negative_labels=labels).method == method


def test_label_rows_put_ind_labels_first():
    rows = label_rows(head_info())
    assert [(row["position"], row["role"], row["text"]) for row in rows] == [
        (0, "ind", "great white shark"),
        (1, "ind", "great white shark"),
        (2, "negative", "λ 0"),
        (3, "negative", "λ 1"),
        (4, "negative", "λ 2"),
    ]
    assert [row["similarity"] for row in rows] == [None, None, 0.1, 0.1, 0.1]


def test_labels_are_found_by_class_folder_whatever_its_bytes():
    info = head_info(ind_labels=(IndLabel(text="a", class_name="a"), IndLabel(text="b", class_name="\\xff b")))
    assert info.labelled(["c", "\udcff b", "a"]) == {"\udcff b": 1, "a": 0}


@pytest.mark.parametrize(
    ("changed", "message", "hint"),
    [
        ({"format": "synood-head/2"}, "'synood-head/2'; this version reads 'synood-head/1'", "pip install --upgrade"),
        ({"format": "other"}, "'other'", "no head of synood"),
        ({"temperature": "warm"}, "temperature: Input should be a valid number", "damaged"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted", "damaged"),
        ({"projection": True}, "says that the head has a projection", "different heads"),
        (
            {"ind_labels": [{"text": "a", "class_name": "a"}]},
            r"shape \(2, 5\), head.json says \(1, 5\)",
            "different heads",
        ),
        ({"ind_labels": []}, "ind_labels: Tuple should have at least 1 item", "damaged"),
        ({"format": "synood-head/0"}, "'synood-head/0'", "no head of synood"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(draft, changed, message, hint):
    Head(head_info(), untrained()).write(draft)
    path = draft.folder / "head.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(StoreError, match=message) as caught:
        Head.read(draft.folder)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"ind_features": np.zeros((2, WIDTH), np.float32)}, "lacks the tensor negative_features"),
        (untrained() | {"negative_features": np.zeros((3, 4), np.float32)}, r"shape \(3, 4\)"),
        (untrained() | {"negative_features": np.zeros((3, WIDTH), np.float64)}, r"is (float64|F64), not F32"),
        (untrained() | {"extra": np.zeros(WIDTH, np.float32)}, "holds extra, ind_features, negative_features"),
        (head_tensors(), "says that the head has no projection"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(draft, tensors, message):
    with pytest.raises(StoreError, match=message):
        Head(head_info(), tensors).write(draft)
    Head(head_info(), untrained()).write(draft)
    (draft.folder / "head.safetensors").write_bytes(save(tensors))
    with pytest.raises(StoreError, match=message):
        Head.read(draft.folder)


def test_missing_and_damaged_files_are_named(draft):
    with pytest.raises(StoreError, match=r"no head in .* \(no head.json\)"):
        Head.read(draft.folder)
    Head(head_info(), untrained()).write(draft)
    path = draft.folder / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"head\.safetensors is damaged"):
        Head.read(draft.folder)
    path.unlink()
    with pytest.raises(StoreError, match=r"has no head\.safetensors"):
        Head.read(draft.folder)
    (draft.folder / "head.json").write_text("{")
    with pytest.raises(StoreError, match=r"head\.json is not JSON"):
        Head.read(draft.folder)


@pytest.mark.parametrize(
    ("pool", "projection", "tuned", "method"),
    [
        ("NegLabel", False, False, "NegLabel"),
        ("NegLabel", True, False, "+ projection"),
        ("NegLabel", False, True, "+ labels"),
        ("NegLabel", True, True, "SynOOD"),
        ("CSP", False, False, "CSP"),
        ("CSP", True, False, "CSP + projection"),
        ("CSP", False, True, "CSP + labels"),
        ("CSP", True, True, "SynOOD on CSP"),
    ],
)
def test_a_head_is_called_by_its_training_and_its_pool(pool, projection, tuned, method):
    labels = (NegativeLabel(text="a", part_of_speech="noun", tuned=tuned),)
    assert head_info(pool=pool, projection=projection, negative_labels=labels).method == method


def test_a_head_without_a_pool_is_neglabels():
    values = head_info().model_dump(mode="json")
    del values["pool"]
    assert HeadInfo.model_validate(values).pool == "NegLabel"


def test_labels_are_found_by_class_folder_however_its_name_is_composed():
    composed, decomposed = "chaton âgé", unicodedata.normalize("NFD", "chaton âgé")
    for own in (composed, decomposed):
        info = head_info(ind_labels=(IndLabel(text="chien", class_name="chien"), IndLabel(text="x", class_name=own)))
        assert info.labelled([composed, decomposed, "chat"]) == {composed: 1, decomposed: 1}
