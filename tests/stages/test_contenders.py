"""Scores on a head beside its own, and methods that adapt."""

from __future__ import annotations

import pytest
import torch
from safetensors.numpy import load_file
from torch.nn.functional import normalize

from pipeline import photograph
from synood_cli.config import EvalSettings, MineSettings, TrainProjectionSettings
from synood_cli.data.images import read_image
from synood_cli.evaluated_methods import AdaNegSettings
from synood_cli.method.adaneg import adaneg
from synood_cli.method.scores import grouping
from synood_cli.models.build import build_encoder
from synood_cli.stages.contenders import stream_order
from synood_cli.stages.evaluate import evaluate
from synood_cli.stages.mine_labels import mine_labels
from synood_cli.stages.tabulate import recompute
from synood_cli.stages.train_proj import train_projection
from synood_cli.store.heads import Head

ADANEG = AdaNegSettings(memory=2, gap=0.0, groups=3, batch=4)
SETTINGS = EvalSettings(method=("mcm", "head", "eq2", "adaneg"), bootstrap=5, adaneg=ADANEG)


@pytest.fixture
def ind(tmp_path):
    for number in range(9):
        photograph(tmp_path / "ind" / ("cat", "dog", "frog")[number % 3] / f"{number}.png", 300 + number, detail=3)
    return tmp_path / "ind"


@pytest.fixture
def ood(tmp_path):
    for number in range(5):
        photograph(tmp_path / "near" / f"{number}.png", 400 + number, detail=3 + number)
        photograph(tmp_path / "far" / f"{number}.png", 500 + number, detail=20)
    return {"near": tmp_path / "near", "far": tmp_path / "far"}


def scores(store, made, method, dataset, head="head@1"):
    rows = [row for row in store.rows(made, "scores") if (row["method"], row["dataset"]) == (method, dataset)]
    return {row["item"]: row["score"] for row in rows if row["head"] in ("", head)}


def classes(store, made, method, dataset):
    rows = [row for row in store.rows(made, "scores") if (row["method"], row["dataset"]) == (method, dataset)]
    return [row["predicted_class"] for row in rows]


@pytest.fixture
def features(models):
    """F(x) at unit length of the files `items` below a folder."""
    encoder = build_encoder(models.clip_spec(), "cpu", "fp32")

    def embed(folder, items):
        prepared = torch.stack([encoder.prepare(read_image(folder / item)) for item in items])
        return normalize(encoder.encode_images(prepared), dim=1)

    return embed


@pytest.fixture
def head(make_run, models, selection, candidates):
    """A head at a temperature where scores lie well between 0 and 1."""
    settings = MineSettings(share=0.5, groups=4, temperature=0.1)
    return mine_labels(make_run(), settings, models, selection, candidates)


def test_equation_2_without_groups(store, make_run, head, features, ind, ood):
    made = evaluate(make_run(), SETTINGS, [head], ind, ood)
    tensors = Head.read(head.folder).tensors
    labels, negatives = (torch.tensor(tensors[name]).double() for name in ("ind_features", "negative_features"))
    found = scores(store, made, "NegLabel (Eq. 2)", "ind")
    for image, score in zip(features(ind, found).double(), found.values(), strict=True):
        mass = (labels @ image / 0.1).exp().sum()
        assert score == pytest.approx(float(mass / (mass + (negatives @ image / 0.1).exp().sum())), rel=1e-4)
    assert found != scores(store, made, "NegLabel", "ind")
    rows = [row for row in store.rows(made, "scores") if row["method"] == "NegLabel (Eq. 2)"]
    assert {row["decision"] for row in rows} == {None}  # the head's threshold is not this score's


def test_an_adapting_method_is_marked_and_its_stream_is_kept(store, make_run, head, features, ind, ood):
    made = evaluate(make_run(seed=3), SETTINGS, [head], ind, ood)
    marks = {row["method"]: row["adapts"] for row in store.rows(made, "metrics")}
    assert marks == {"MCM": 0, "NegLabel": 0, "NegLabel (Eq. 2)": 0, "AdaNeg": 1}
    assert made.notes["streams"] == {f"head@1:{name}": {"ind": 9, "ood": 5, "batch": 4} for name in ood}
    orders = load_file(made.folder / "head-1-streams.safetensors")
    info, tensors = Head.read(head.folder).info, Head.read(head.folder).tensors
    for dataset, folder in ood.items():
        order = orders[f"head@1:{dataset}"]
        assert sorted(order.tolist()) == list(range(14))
        assert order.tolist() == stream_order(9, 5, 3, dataset).tolist()
        inside, outside = (scores(store, made, "AdaNeg", name) for name in (f"ind:{dataset}", dataset))
        images = torch.cat([features(ind, inside), features(folder, outside)])
        groups = grouping(len(info.negative_labels), 3, info.group_seed)
        streamed = adaneg(
            images[torch.tensor(order, dtype=torch.long)],
            torch.tensor(tensors["ind_features"]),
            torch.tensor(tensors["negative_features"]),
            temperature=0.1,
            groups=groups,
            **ADANEG.model_dump(exclude={"groups"}),
        )
        expected, predicted = torch.empty(14, dtype=torch.float64), torch.empty(14, dtype=torch.long)
        expected[torch.tensor(order, dtype=torch.long)] = streamed.scores
        predicted[torch.tensor(order, dtype=torch.long)] = streamed.predicted
        assert [*inside.values(), *outside.values()] == pytest.approx(expected.tolist(), rel=1e-4)
        named = [info.ind_labels[place].text for place in predicted.tolist()]
        assert named == classes(store, made, "AdaNeg", f"ind:{dataset}") + classes(store, made, "AdaNeg", dataset)
    assert scores(store, made, "AdaNeg", "ind:near") != scores(store, made, "AdaNeg", "ind:far")


def test_its_accuracy_is_that_beside_each_set(store, make_run, head, ind, ood):
    made = evaluate(make_run(), SETTINGS, [head], ind, ood)

    def accuracies(evaluation):
        rows = [row for row in store.rows(evaluation, "metrics") if row["method"] == "AdaNeg"]
        return {row["dataset"]: row["ind_accuracy"] for row in rows}

    found = accuracies(made)
    for dataset in ood:
        rows = [row for row in store.rows(made, "scores") if row["dataset"] == f"ind:{dataset}"]
        right = [row["item"].startswith(row["predicted_class"]) for row in rows]
        assert found[dataset] == pytest.approx(sum(right) / len(right))
    assert found["average"] == pytest.approx((found["near"] + found["far"]) / 2)
    again = recompute(make_run(), EvalSettings(bootstrap=0), made)
    assert accuracies(again) == found


def test_its_numbers_depend_on_the_seed_and_the_others_do_not(store, make_run, head, ind, ood):
    first, second = (evaluate(make_run(seed=seed), SETTINGS, [head], ind, ood) for seed in (1, 2))
    for method in ("MCM", "NegLabel", "NegLabel (Eq. 2)"):
        assert scores(store, first, method, "near") == scores(store, second, method, "near")
    assert scores(store, first, "AdaNeg", "near") != scores(store, second, "AdaNeg", "near")


def test_settings_of_methods_that_take_no_part_ask_no_other_question(make_run, head, ind, ood):
    made = evaluate(make_run(), EvalSettings(bootstrap=0), [head], ind, ood)
    same = evaluate(make_run(), EvalSettings(bootstrap=0, adaneg=ADANEG), [head], ind, ood)
    assert (same.name, same.reused) == (made.name, True)
    assert "adaneg" not in made.settings


def test_a_projection_is_part_of_what_adapts(store, make_run, head, synthetic, ind, ood):
    projected = train_projection(make_run(), TrainProjectionSettings(epochs=1), head, synthetic)
    made = evaluate(make_run(), SETTINGS, [head, projected], ind, ood)
    assert scores(store, made, "AdaNeg", "near", "head@2") != scores(store, made, "AdaNeg", "near", "head@1")
    assert {(row["method"], row["head"]) for row in store.rows(made, "metrics") if row["head"] == "head@2"} == {
        ("+ projection", "head@2"),
        ("+ projection (Eq. 2)", "head@2"),
        ("AdaNeg", "head@2"),
    }
    assert made.notes["resources"][1]["added_parameters"] == 32 * 32 + 3 * 32
    assert made.notes["resources"][0]["added_parameters"] == 0
    assert made.notes["resources"][0]["clip_parameters"] > 1_000_000
