from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn.functional import normalize

from pipeline import Silent, photograph
from synood_cli.cli.eval_tables import read_result
from synood_cli.config import EvalSettings, MineSettings, TrainProjectionSettings
from synood_cli.data.images import read_image
from synood_cli.errors import UsageError
from synood_cli.models.build import build_encoder
from synood_cli.stages.evaluate import evaluate
from synood_cli.stages.mine_labels import mine_labels
from synood_cli.stages.train_proj import train_projection
from synood_cli.store.heads import Head

SETTINGS = EvalSettings(tpr=0.75, bootstrap=20)


@pytest.fixture
def ind(tmp_path):
    root = tmp_path / "ind"
    for number in range(12):
        photograph(root / ("cat", "dog", "frog")[number % 3] / f"{number}.png", 300 + number, detail=3)
    return root


@pytest.fixture
def ood(tmp_path):
    for number in range(7):
        photograph(tmp_path / "near" / f"{number}.png", 400 + number, detail=3 + number)
        photograph(tmp_path / "far" / "deep" / f"{number}.png", 500 + number, detail=20)
    photograph(tmp_path / "far" / "8.png", 600)
    return {"near": tmp_path / "near", "far": tmp_path / "far"}


def stored(store, made):
    """Scores by (method, dataset), each a list of (item, score)."""
    found: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for row in store.rows(made, "scores"):
        found.setdefault((row["method"], row["dataset"]), []).append((row["item"], row["score"]))
    return found


def metrics(store, made):
    return {(row["method"], row["head"], row["dataset"]): row for row in store.rows(made, "metrics")}


def test_scores_of_every_image_are_kept(store, make_run, models, head, ind, ood):
    made = evaluate(make_run(), SETTINGS, [head], ind, ood)
    scores = stored(store, made)
    assert set(scores) == {(method, data) for method in ("MCM", "NegLabel") for data in ("ind", "near", "far")}
    assert {key: len(rows) for key, rows in scores.items() if key[0] == "MCM"} == {
        ("MCM", "ind"): 12,
        ("MCM", "near"): 7,
        ("MCM", "far"): 8,
    }
    encoder = build_encoder(models.clip_spec(), "cpu", "fp32")
    tensors = Head.read(head.folder).tensors
    labels, negatives = (torch.tensor(tensors[name]).double() for name in ("ind_features", "negative_features"))
    order = torch.randperm(28, generator=torch.Generator().manual_seed(0)).reshape(4, 7)
    for (item, mcm), (same, neglabel) in zip(scores["MCM", "far"], scores["NegLabel", "far"], strict=True):
        assert item == same
        prepared = encoder.prepare(read_image(ood["far"] / item))
        image = normalize(encoder.encode_images(prepared[None]).double(), dim=1)[0]
        assert mcm == pytest.approx(float((labels @ image).softmax(0).max()), abs=1e-6)
        mass = (labels @ image / 0.01).exp().sum()
        shares = [mass / (mass + (negatives[group] @ image / 0.01).exp().sum()) for group in order]
        assert neglabel == pytest.approx(float(sum(shares) / 4), abs=1e-4)


def test_metrics_are_those_of_the_stored_scores(store, make_run, head, ind, ood):
    made = evaluate(make_run(), SETTINGS, [head], ind, ood)
    rows, scores = metrics(store, made), stored(store, made)
    assert len(rows) == 2 * 3
    for method, name in (("MCM", ""), ("NegLabel", "head@1")):
        inside = np.array([score for _, score in scores[method, "ind"]])
        for dataset in ("near", "far"):
            outside = np.array([score for _, score in scores[method, dataset]])
            row = rows[method, name, dataset]
            both, truth = np.concatenate([inside, outside]), [1] * 12 + [0] * len(outside)
            assert row["auroc"] == pytest.approx(roc_auc_score(truth, both))
            assert row["aupr_in"] == pytest.approx(average_precision_score(truth, both))
            assert row["aupr_out"] == pytest.approx(average_precision_score(1 - np.array(truth), -both))
            threshold = np.sort(inside)[12 - 9]  # 75% of twelve
            assert row["fpr95"] == pytest.approx((outside >= threshold).mean())
            caught = np.sort(outside)[int(np.ceil(0.75 * len(outside))) - 1]
            assert row["fpr95_other"] == pytest.approx((inside <= caught).mean())
            assert (row["fpr95_positive"], row["ind_images"], row["ood_images"]) == ("ind", 12, len(outside))
            assert row["auroc_low"] <= row["auroc"] <= row["auroc_high"]
        average = rows[method, name, "average"]
        for column in ("auroc", "fpr95", "fpr95_other", "aupr_in", "aupr_out"):
            mean = (rows[method, name, "near"][column] + rows[method, name, "far"][column]) / 2
            assert average[column] == pytest.approx(mean)
        assert average["auroc_low"] < average["auroc"] < average["auroc_high"]
        assert average["ood_images"] == 15


def test_the_other_convention_and_no_intervals(store, make_run, head, ind, ood):
    as_ind = metrics(store, evaluate(make_run(), SETTINGS, [head], ind, ood))
    settings = EvalSettings(tpr=0.75, positive="ood", bootstrap=0)
    as_ood = metrics(store, evaluate(make_run(), settings, [head], ind, ood))
    for key, row in as_ood.items():
        assert (row["fpr95"], row["fpr95_other"]) == (as_ind[key]["fpr95_other"], as_ind[key]["fpr95"])
        assert row["fpr95_positive"] == "ood"
        assert row["auroc"] == as_ind[key]["auroc"]
        assert [row[f"{name}_{end}"] for name in ("auroc", "fpr95") for end in ("low", "high")] == [None] * 4


def test_accuracy_and_decisions_come_from_the_class_folders(store, make_run, head, ind, ood):
    made = evaluate(make_run(), SETTINGS, [head], ind, ood)
    info = Head.read(head.folder).info
    for method in ("MCM", "NegLabel"):
        rows = [row for row in store.rows(made, "scores") if (row["method"], row["dataset"]) == (method, "ind")]
        right = np.mean([row["item"].startswith(row["predicted_class"]) for row in rows])
        accuracies = {row["ind_accuracy"] for key, row in metrics(store, made).items() if key[0] == method}
        assert accuracies == {right}
        decisions = ["ind" if row["score"] >= info.threshold else "ood" for row in rows]
        assert [row["decision"] for row in rows] == ([None] * 12 if method == "MCM" else decisions)


def test_an_ind_folder_without_classes_has_no_accuracy(store, make_run, head, ind, ood, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in ind.glob("*/*.png"):
        path.rename(flat / path.name)
    rows = metrics(store, evaluate(make_run(), SETTINGS, [head], flat, ood))
    assert {row["ind_accuracy"] for row in rows.values()} == {None}
    assert {row["ind_images"] for row in rows.values()} == {12}


def test_heads_are_compared_on_one_embedding(store, make_run, head, synthetic, ind, ood):
    projected = train_projection(make_run(), TrainProjectionSettings(epochs=1), head, synthetic)
    progress = Silent()
    made = evaluate(make_run(progress=progress), SETTINGS, [projected, head, head], ind, ood)
    assert {key[:2] for key in metrics(store, made)} == {
        ("MCM", ""),
        ("NegLabel", "head@1"),
        ("+ projection", "head@2"),
    }
    assert [what for what, _, _ in progress.started] == ["embed ind", "embed near", "embed far", "evaluate"]
    # MCM takes CLIP and the labels, and nothing else of a head.
    alone = evaluate(make_run(), SETTINGS, [head], ind, ood)
    for key, rows in stored(store, alone).items():
        assert stored(store, made)[key] == rows
    assert stored(store, made)["+ projection", "ind"] != stored(store, made)["NegLabel", "ind"]
    assert made.items_done == 27


@pytest.fixture
def others(models, tmp_path):
    """The models, but for another CLIP."""
    from checkpoints import CLIP_MODEL, write_clip

    torch.manual_seed(9)
    write_clip(tmp_path / "other", CLIP_MODEL)
    return models.model_copy(update={"clip": str(tmp_path / "other")})


def test_heads_of_different_clips_are_each_given_their_own(
    store, make_run, head, others, selection, candidates, ind, ood
):
    other = mine_labels(make_run(), MineSettings(share=0.25, groups=4), others, selection, candidates)
    both = metrics(store, made := evaluate(make_run(), SETTINGS, [head, other], ind, ood))
    assert {key[:2] for key in both} == {
        ("MCM", "head@1"), ("MCM", "head@2"), ("NegLabel", "head@1"), ("NegLabel", "head@2"),
    }  # fmt: skip
    for one in (head, other):
        alone = metrics(store, evaluate(make_run(), SETTINGS, [one], ind, ood))
        for dataset in ("near", "far", "average"):
            assert both["NegLabel", one.name, dataset]["auroc"] == alone["NegLabel", one.name, dataset]["auroc"]
            assert both["MCM", one.name, dataset]["auroc"] == alone["MCM", "", dataset]["auroc"]
    assert both["MCM", "head@1", "near"]["auroc"] != both["MCM", "head@2", "near"]["auroc"]
    assert set(store.models(made)) == {"clip-1", "clip-2"}
    assert made.notes["mcm"] == {"head@1": "head@1", "head@2": "head@2"}
    assert len(set(made.notes["clips"].values())) == 2
    turned = metrics(store, evaluate(make_run(), SETTINGS, [other, head], ind, ood))
    assert {key: row["auroc"] for key, row in turned.items()} == {key: row["auroc"] for key, row in both.items()}


def test_a_head_and_mcm_are_compared_on_the_heads_own_clip(
    store, make_run, head, others, selection, candidates, synthetic, ind, ood
):
    other = mine_labels(make_run(), MineSettings(share=0.25, groups=4), others, selection, candidates)
    projected = train_projection(make_run(), TrainProjectionSettings(epochs=1), head, synthetic)
    heads = [projected, other, head]

    def compared(against):
        made = evaluate(make_run(), SETTINGS.model_copy(update={"against": against}), heads, ind, ood)
        found = metrics(store, made)
        rows = {(row["method"], row["head"]): row for row in store.rows(made, "differences") if row["dataset"] == "far"}
        for key, row in rows.items():
            apart = found[*key, "far"]["auroc"] - found[row["against_method"], row["against_head"], "far"]["auroc"]
            assert row["auroc"] == pytest.approx(apart)
        return {key: (row["against_method"], row["against_head"]) for key, row in rows.items()}

    assert compared("MCM") == {
        ("NegLabel", "head@1"): ("MCM", "head@1"),
        ("NegLabel", "head@2"): ("MCM", "head@2"),
        ("+ projection", "head@3"): ("MCM", "head@1"),
    }
    first = ("+ projection", "head@3")
    assert compared(None) == {
        ("NegLabel", "head@1"): first,
        ("NegLabel", "head@2"): first,
        ("MCM", "head@1"): first,
        ("MCM", "head@2"): ("NegLabel", "head@2"),
    }
    assert compared("head@2") == compared("NegLabel head@2")
    assert compared("head@2")["MCM", "head@1"] == ("NegLabel", "head@1")
    assert compared("head@2")["MCM", "head@2"] == ("NegLabel", "head@2")


def test_mcm_depends_on_the_label_texts_too(store, make_run, models, head, selection, candidates, ind, ood):
    settings = MineSettings(share=0.25, groups=4, ind_template="no {} at all")
    other = mine_labels(make_run(), settings, models, selection, candidates)
    rows = metrics(store, evaluate(make_run(), SETTINGS, [head, other], ind, ood))
    assert rows["MCM", "head@1", "far"]["auroc"] != rows["MCM", "head@2", "far"]["auroc"]


def test_what_cannot_be_read_is_a_failure_of_the_evaluation(store, make_run, head, ind, ood):
    (ind / "dog" / "4.png").write_bytes(b"no picture")
    (ood["near"] / "0.png").write_bytes(b"")
    (ood["near"] / "lost.png").symlink_to("nowhere")
    made = evaluate(make_run(), SETTINGS, [head], ind, ood)
    assert sorted(item for item, _ in store.failures(made)) == ["ind/dog/4.png", "near/0.png", "near/lost.png"]
    assert (made.items_done, made.items_failed) == (25, 3)
    row = metrics(store, made)["MCM", "", "near"]
    assert (row["ind_images"], row["ood_images"]) == (11, 6)


def test_limit_takes_images_of_every_class(store, make_run, head, ind, ood):
    made = evaluate(make_run(limit=3), SETTINGS, [head], ind, ood)
    items = [item for item, _ in stored(store, made)["MCM", "ind"]]
    assert sorted(item.split("/")[0] for item in items) == ["cat", "dog", "frog"]
    assert metrics(store, made)["MCM", "", "average"]["ood_images"] == 6


def test_classes_that_do_not_match_are_named(store, make_run, head, ind, ood):
    (ind / "frog").rename(ind / "newt")
    with pytest.raises(UsageError, match=r"^head@1 has no label for 1 of 3 classes: newt$") as caught:
        evaluate(make_run(), SETTINGS, [head], ind, ood)
    assert caught.value.hint == "its classes are cat, dog, frog: name the class folders alike"
    assert store.artifacts("eval") == []


def test_a_class_without_images_is_a_warning(make_run, head, ind, ood):
    for path in (ind / "frog").iterdir():
        path.unlink()
    (ind / "frog").rmdir()
    made = evaluate(make_run(), SETTINGS, [head], ind, ood)
    assert made.notes["warnings"] == ["1 of the 3 classes of head@1 have no in-distribution images"]


def test_sets_of_a_single_image_have_values_and_no_intervals(store, make_run, head, ind, ood, tmp_path):
    (tmp_path / "one").mkdir()
    (ood["near"] / "0.png").rename(tmp_path / "one" / "0.png")
    made = evaluate(make_run(), SETTINGS, [head], ind, {"one": tmp_path / "one", "far": ood["far"]})
    for table in ("metrics", "differences"):
        for row in store.rows(made, table):
            known = row["dataset"] == "far"
            assert [row[f"{name}_low"] is not None for name in ("auroc", "fpr95")] == [known, known]
    assert {row["ood_images"] for key, row in metrics(store, made).items() if key[2] == "one"} == {1}
    verdicts = {row["dataset"]: row["auroc_excludes_zero"] for row in read_result(store, made, []).differences}
    assert verdicts["one"] is verdicts["average"] is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "there is no OOD set"),
        (["average"], "cannot be called 'average'"),
        (["ind"], "cannot be called 'ind'"),
        ([" "], "cannot be called ' '"),
        (["a\nb", "a\\nb"], "have names that look alike"),
        (["caf\u00e9", "cafe\u0301"], "have names that look alike"),
    ],
)
def test_data_sets_need_usable_names(make_run, head, ind, ood, names, message):
    with pytest.raises(UsageError, match=message):
        evaluate(make_run(), SETTINGS, [head], ind, dict.fromkeys(names, ood["near"]))


def test_an_interrupted_evaluation_gives_the_same_in_the_end(store, make_run, head, ind, ood):
    with pytest.raises(KeyboardInterrupt):
        evaluate(make_run(progress=Silent(stop_after=27 + 4)), SETTINGS, [head], ind, ood)
    assert [(a.name, a.status) for a in store.artifacts("eval")] == [("eval@1", "unfinished")]
    made = evaluate(make_run(), SETTINGS, [head], ind, ood)
    again = evaluate(make_run(force=True), SETTINGS, [head], ind, ood)
    assert (made.name, again.name) == ("eval@1", "eval@2")
    assert made.digest == again.digest
    assert made.items_done == again.items_done == 27
