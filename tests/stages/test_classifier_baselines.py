"""The baselines against plain versions written from their papers, in double precision, and scikit-learn, at several
numbers of images, classes and features: higher is more in-distribution in all of them."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import spearmanr
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

from synood_cli.errors import ModelError
from synood_cli.evaluated_methods import FITTED, Baseline, BaselineSettings
from synood_cli.method.losses import LOSSES
from synood_cli.models.protocols import LinearLayer
from synood_cli.stages.workers.classifier_baselines import ClassifierBaselines

SIZES = [(80, 4, 10), (12, 3, 40), (6, 2, 5), (30, 25, 64), (300, 7, 3), (40, 12, 16)]
"""(N images to fit on, C classes, D features): more features than images among them, and hardly two images a class."""
FEATURE_BASELINES = [name for name in get_args(Baseline) if name != "ODIN"]


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Case:
    """A last layer, the features that are fitted on and those that are scored, as the classifier gives them (float32)
    and in double precision for the plain versions."""

    def __init__(self, count, classes, width, settings=None):
        self.count, self.classes, self.width = count, classes, width
        self.settings = settings or BaselineSettings(knn_k=min(7, count), vim_dimension=min(width, count) // 2)
        self.layer = LinearLayer(normal(classes, width, seed=0), normal(classes, seed=1))
        self.labels = torch.arange(count) % classes
        means = 2 * normal(classes, width, seed=5)
        self.fitted_on = torch.relu(normal(count, width, seed=2) + means[self.labels])
        self.tested = torch.relu(normal(60, width, seed=3) + means[torch.arange(60) % classes] * 0.5)
        self.W, self.B, self.train, self.x = (
            tensor.double().numpy() for tensor in (*self.layer, self.fitted_on, self.tested)
        )
        self.logits = self.x @ self.W.T + self.B

    def pixels_to_logits(self, pixels):
        return torch.tanh(pixels.flatten(1)) @ self.layer.weight.T + self.layer.bias

    def baselines(self, *names):
        made = ClassifierBaselines(names, self.layer, self.pixels_to_logits, self.settings)
        assert made.fit(self.fitted_on, self.labels) == {}
        return made

    def scores(self, name):
        return self.baselines(name).score(name, self.tested).numpy()

    def energy(self, features):
        return logsumexp(features @ self.W.T + self.B, axis=1)


@pytest.fixture(params=SIZES, ids=str)
def case(request):
    return Case(*request.param)


def test_scores_of_the_logits(case):
    np.testing.assert_allclose(case.scores("MSP"), softmax(case.logits, axis=1).max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(case.scores("MaxLogit"), case.logits.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(case.scores("Energy"), logsumexp(case.logits, axis=1), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "loss"), [("MSP", "msp"), ("MaxLogit", "maxlogit"), ("Energy", "energy"), ("GEN", "gen")]
)
def test_they_are_the_scores_that_synthesis_goes_by(case, name, loss):
    ours = LOSSES[loss](1.0).score(torch.tensor(case.logits)).numpy()
    np.testing.assert_allclose(case.scores(name), ours, rtol=1e-12)


def test_generalised_entropy_by_its_paper(case):
    p = softmax(case.logits, axis=1)
    np.testing.assert_allclose(case.scores("GEN"), -(p**0.1 * (1 - p) ** 0.1).sum(axis=1), rtol=1e-6)


def test_generalised_entropy_tells_confident_images_apart():
    """-Σ p^γ (1-p)^γ with p_2 = e^-gap: nothing is clamped, so 40 is more certain than 30."""
    case = Case(80, 4, 10)
    layer = LinearLayer(torch.eye(2), torch.zeros(2))
    made = ClassifierBaselines(["GEN"], layer, case.pixels_to_logits, case.settings)
    gaps = torch.tensor([10.0, 20.0, 30.0, 40.0, 100.0])
    found = made.score("GEN", torch.stack([gaps, torch.zeros(5)], dim=1)).numpy()
    np.testing.assert_allclose(found, -2 * np.exp(-0.1 * gaps.double().numpy()), rtol=1e-4)
    assert (np.diff(found) > 0).all()


def test_generalised_entropy_sums_over_the_hundred_most_probable_classes():
    case = Case(300, 150, 12)
    p = np.sort(softmax(case.logits, axis=1), axis=1)[:, -100:]
    np.testing.assert_allclose(case.scores("GEN"), -(p**0.1 * (1 - p) ** 0.1).sum(axis=1), rtol=1e-6)


def test_confident_images_are_told_apart_in_double_precision():
    case = Case(80, 4, 10)
    layer = LinearLayer(torch.eye(2), torch.zeros(2))
    made = ClassifierBaselines(["MSP"], layer, case.pixels_to_logits, case.settings)
    found = made.score("MSP", torch.tensor([[18.0, 0.0], [22.0, 0.0], [30.0, 0.0]]))
    assert found[0] < found[1] < found[2] < 1


def test_gradnorm_is_the_norm_of_the_last_layers_gradient(case):
    """∂KL(u ‖ softmax)/∂W has the L1 norm Σ_c |p_c - 1/C| · Σ_d |f_d|, in closed form."""
    p = softmax(case.logits, axis=1)
    expected = np.abs(p - 1 / case.classes).sum(axis=1) * np.abs(case.x).sum(axis=1)
    np.testing.assert_allclose(case.scores("GradNorm"), expected, rtol=1e-9, atol=1e-12)


def test_knn_is_scikit_learns(case):
    def unit(features):
        return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)

    neighbours = NearestNeighbors(n_neighbors=case.settings.knn_k).fit(unit(case.train))
    np.testing.assert_allclose(case.scores("KNN"), -neighbours.kneighbors(unit(case.x))[0][:, -1], rtol=1e-6, atol=1e-7)


def test_knn_takes_at_most_the_images_that_there_are():
    case, all_of_them = Case(80, 4, 10), Case(80, 4, 10, BaselineSettings(knn_k=80))
    case.settings = BaselineSettings(knn_k=1000)
    np.testing.assert_array_equal(case.scores("KNN"), all_of_them.scores("KNN"))


def rmds(case, tested):
    """RMDS as OpenOOD v1.5 computes it, in numpy and double precision, with every small eigenvalue taken for zero."""
    labels = case.labels.numpy()
    means = np.stack([case.train[labels == label].mean(axis=0) for label in range(case.classes)])

    def precision(centred):
        return np.linalg.pinv(centred.T @ centred / len(centred), rcond=1e-6, hermitian=True)

    within, whole = precision(case.train - means[labels]), precision(case.train - case.train.mean(axis=0))
    apart = tested - case.train.mean(axis=0)
    background = np.einsum("bd,de,be->b", apart, whole, apart)
    nearest = np.min([np.einsum("bd,de,be->b", tested - mean, within, tested - mean) for mean in means], axis=0)
    return background - nearest


def test_rmds_is_openoods(case):
    np.testing.assert_allclose(case.scores("RMDS"), rmds(case, case.x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_rmds_ranks_as_scikit_learns_covariances_do(size):
    case = Case(*size)
    labels = case.labels.numpy()
    means = np.stack([case.train[labels == label].mean(axis=0) for label in range(case.classes)])
    within = EmpiricalCovariance().fit(case.train - means[labels])
    background = EmpiricalCovariance().fit(case.train)
    nearest = np.min([within.mahalanobis(case.x - mean) for mean in means], axis=0)
    expected = background.mahalanobis(case.x) - nearest
    assert spearmanr(case.scores("RMDS"), expected).statistic == pytest.approx(1.0, abs=1e-4)


def test_the_order_of_the_fitted_images_does_not_matter(case):
    shuffled = Case(case.count, case.classes, case.width)
    order = torch.randperm(case.count, generator=torch.Generator().manual_seed(4))
    shuffled.fitted_on, shuffled.labels = case.fitted_on[order], case.labels[order]
    for name in FITTED:
        np.testing.assert_allclose(shuffled.scores(name), case.scores(name), rtol=1e-5, atol=1e-6, err_msg=name)


def test_vim_by_its_paper(case):
    dimension = case.settings.vim_dimension
    origin = -np.linalg.pinv(case.W) @ case.B
    _, vectors = np.linalg.eigh((case.train - origin).T @ (case.train - origin))
    residual = vectors[:, : case.width - dimension]
    largest = (case.train @ case.W.T + case.B).max(axis=1).mean()
    alpha = largest / np.linalg.norm((case.train - origin) @ residual, axis=1).mean()
    virtual = alpha * np.linalg.norm((case.x - origin) @ residual, axis=1)
    np.testing.assert_allclose(case.scores("ViM"), case.energy(case.x) - virtual, rtol=1e-6, atol=1e-6)


def test_dice_keeps_the_weights_that_contribute_most(case):
    contribution = case.train.mean(axis=0) * case.W
    kept = np.where(contribution > np.quantile(contribution, 0.7), case.W, 0)
    np.testing.assert_allclose(case.scores("DICE"), logsumexp(case.x @ kept.T + case.B, axis=1), rtol=1e-6)


def test_react_clips_at_the_percentile_of_all_activations(case):
    clipped = np.minimum(case.x, np.percentile(case.train, 90))
    np.testing.assert_allclose(case.scores("ReAct"), case.energy(clipped), rtol=1e-9)


@pytest.mark.parametrize(("width", "percentile", "kept"), [(10, 0.6, 4), (40, 0.9, 4), (64, 0.65, 22)])
def test_ash_prunes_and_sharpens_or_binarises(width, percentile, kept):
    case = Case(80, 4, width, BaselineSettings(ash_percentile=percentile))
    case.tested = case.tested + normal(60, width, seed=6).abs()  # no two features of an image are equal
    sharpened, binarised = [], []
    for feature in case.tested.double().numpy():
        mask = feature >= np.sort(feature)[-kept]
        sharpened.append(np.where(mask, feature, 0) * np.exp(feature.sum() / feature[mask].sum()))
        binarised.append(np.where(mask, feature.sum() / kept, 0))
    np.testing.assert_allclose(case.scores("ASH-S"), case.energy(np.array(sharpened)), rtol=1e-9)
    np.testing.assert_allclose(case.scores("ASH-B"), case.energy(np.array(binarised)), rtol=1e-9)


def test_odin_perturbs_pixels_towards_its_prediction():
    case = Case(80, 4, 10)
    pixels = torch.rand(5, 2, 1, 5, generator=torch.Generator().manual_seed(4))
    case.settings = BaselineSettings(odin_temperature=10, odin_step=0.01)
    found = case.baselines("ODIN").score_pixels(pixels).numpy()
    moved = pixels.double().requires_grad_()

    def logits(x):
        return torch.tanh(x.flatten(1)) @ case.layer.weight.double().T + case.layer.bias.double()

    (logits(moved) / 10).log_softmax(dim=1).amax(dim=1).sum().backward()
    perturbed = moved.detach() + 0.01 * moved.grad.sign()
    expected = (logits(perturbed) / 10).softmax(dim=1).amax(dim=1)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5)
    case.settings = case.settings.model_copy(update={"odin_step": 0.0})
    assert (found > case.baselines("ODIN").score_pixels(pixels).numpy()).all()


def test_chunks_do_not_matter():
    case = Case(80, 4, 10)
    many = torch.relu(normal(70, 10, seed=9))
    made = case.baselines(*FEATURE_BASELINES)
    for name in made.names:
        one_by_one = torch.cat([made.score(name, feature[None]) for feature in many])
        torch.testing.assert_close(made.score(name, many), one_by_one, rtol=1e-7, atol=1e-7)


def test_a_class_without_images_leaves_no_gap():
    case, some = Case(80, 4, 10), Case(80, 4, 10)
    kept = case.labels != 1
    some.fitted_on, some.labels = case.fitted_on[kept], case.labels[kept]
    assert np.isfinite(some.scores("RMDS")).all()


def problems(case, *names):
    made = ClassifierBaselines(names, case.layer, case.pixels_to_logits, case.settings)
    found = made.fit(case.fitted_on, case.labels)
    assert made.names == [name for name in names if name not in found]
    return found


@pytest.mark.parametrize(
    ("size", "dimension", "message"),
    [
        ((12, 3, 40), 12, "ViM's 12 principal dimensions need more images than that, not 12"),
        ((12, 3, 40), 20, "ViM's 20 principal dimensions need more images than that, not 12"),
        ((80, 4, 10), 10, "ViM's 10 principal dimensions leave nothing of 10 features"),
        ((80, 4, 10), 96, "ViM's 96 principal dimensions leave nothing of 10 features"),
    ],
)
def test_vim_without_a_residual_is_refused(size, dimension, message):
    case = Case(*size, BaselineSettings(vim_dimension=dimension))
    assert problems(case, "ViM", "MSP") == {"ViM": f"cannot be fitted on {size[0]} images: {message}"}


def test_vim_on_copies_of_a_few_images_is_refused():
    case = Case(80, 4, 20, BaselineSettings(vim_dimension=10))
    case.fitted_on = case.fitted_on[torch.arange(80) % 8]  # 8 different ones span no more than 8 dimensions
    assert "hold all that the features of these images span" in problems(case, "ViM")["ViM"]


def test_rmds_without_a_spread_within_classes_is_refused():
    single = Case(12, 12, 20)
    assert "needs classes with several different images" in problems(single, "RMDS")["RMDS"]
    copies = Case(36, 12, 20)
    copies.fitted_on = copies.fitted_on[torch.arange(36) % 12]
    assert "needs classes with several different images" in problems(copies, "RMDS")["RMDS"]
    assert "there is one class only" in problems(Case(20, 1, 5), "RMDS")["RMDS"]


def test_a_single_class_ties_what_is_made_of_probabilities():
    case = Case(20, 1, 15)
    assert set(case.scores("MSP")) == {1.0}
    assert set(case.scores("GEN")) == {0.0}
    assert not case.scores("GradNorm").any()
    np.testing.assert_allclose(case.scores("Energy"), case.logits[:, 0], rtol=1e-12)


def test_a_single_image_is_enough_for_what_needs_no_spread():
    case = Case(1, 1, 15, BaselineSettings(vim_dimension=1))
    assert set(problems(case, "KNN", "DICE", "ReAct", "ViM", "RMDS")) == {"ViM", "RMDS"}


def test_what_cannot_be_fitted_is_told_and_dropped():
    case = Case(80, 4, 10)
    case.fitted_on[0, 0] = torch.nan
    assert problems(case, "KNN", "MSP")["KNN"].startswith("cannot be fitted on 80 images: Input X contains NaN")


def test_scores_that_are_no_numbers_are_refused():
    case = Case(80, 4, 10)
    made = case.baselines("Energy", "MSP", "GEN", "RMDS", "ViM")
    for name in made.names:
        with pytest.raises(ModelError, match=f"{name} gives no finite score to 1 of 2 images"):
            made.score(name, torch.stack([case.tested[0], torch.full((10,), torch.inf)]))


def test_ash_of_features_that_it_would_all_prune_is_refused():
    case = Case(80, 4, 3)
    for name in ("ASH-S", "ASH-B"):
        with pytest.raises(ModelError, match=f"{name} prunes all of the classifier's 3 features"):
            case.scores(name)
