"""Closed-form and convex heads give what scikit-learn gives on the same features."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as TheirRidge
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_pe.probing import Logistic, NearestNeighbours, Ridge, RidgeRegression
from keras_pe.probing.nearest_neighbours import best_places
from tests.probing.stored import blobs, stored

pytestmark = [pytest.mark.quick, pytest.mark.once]
TRAIN, VALIDATION, TEST = 120, 60, 60


def accuracy(fitted, samples):
    return fitted.statistics(samples).mean()


@pytest.mark.parametrize("k", [1, 4, 25])
@pytest.mark.parametrize("temperature", [0.07, None])
def test_nearest_neighbours(k, temperature):
    features, labels = blobs()
    weights = "uniform"
    if temperature:
        weights = lambda distances: np.exp(-distances / temperature)  # noqa: E731
    theirs = KNeighborsClassifier(k, metric="cosine", weights=weights)
    theirs.fit(features[:TRAIN], labels[:TRAIN])
    for chunk_size in (50, 8192):
        probe = NearestNeighbours([k], temperature, chunk_size)
        with stored(features, labels, TRAIN, VALIDATION, TEST) as (train, val, test):
            fitted = probe.fit(train, val, 0)
            ours = fitted.predict(features[-TEST:])
            np.testing.assert_array_equal(ours, theirs.predict(features[-TEST:]))
            score = theirs.score(features[-TEST:], labels[-TEST:])
            assert accuracy(fitted, test) == score


def test_k_is_chosen_on_validation():
    features, labels = blobs()
    ks = [1, 3, 9, 27]
    scores = []
    for k in ks:
        theirs = KNeighborsClassifier(
            k, metric="cosine", weights=lambda d: np.exp(-d / 0.07)
        ).fit(features[:TRAIN], labels[:TRAIN])
        scores.append(theirs.score(features[TRAIN:-TEST], labels[TRAIN:-TEST]))
    with stored(features, labels, TRAIN, VALIDATION, TEST) as (train, val, _):
        fitted = NearestNeighbours(ks).fit(train, val, 0)
    assert fitted.setting == {"k": ks[int(np.argmax(scores))]}


def ridge_of_scikit_learn(features, targets, alpha):
    model = make_pipeline(StandardScaler(), TheirRidge(alpha * len(features)))
    return model.fit(features.astype("float64"), targets)


@pytest.mark.parametrize("alpha", [1e-4, 0.1, 10.0])
def test_ridge(alpha):
    features, labels = blobs()
    theirs = ridge_of_scikit_learn(features[:TRAIN], np.eye(4)[labels[:TRAIN]], alpha)
    with stored(features, labels, TRAIN, VALIDATION, TEST) as (train, val, test):
        fitted = Ridge([alpha]).fit(train, val, 0)
        score = accuracy(fitted, test)
    outputs = theirs.predict(features[-TEST:].astype("float64"))
    np.testing.assert_allclose(fitted.head(features[-TEST:]), outputs, atol=1e-9)
    assert score == (outputs.argmax(axis=1) == labels[-TEST:]).mean()


def test_alpha_is_chosen_on_validation():
    features, labels = blobs()
    alphas = [1e-6, 1e-2, 1.0, 100.0]
    scores = []
    for alpha in alphas:
        theirs = ridge_of_scikit_learn(
            features[:TRAIN], np.eye(4)[labels[:TRAIN]], alpha
        )
        named = theirs.predict(features[TRAIN:-TEST].astype("float64")).argmax(axis=1)
        scores.append((named == labels[TRAIN:-TEST]).mean())
    with stored(features, labels, TRAIN, VALIDATION, TEST) as (train, val, _):
        fitted = Ridge(alphas).fit(train, val, 0)
    best = np.flatnonzero(np.array(scores) == max(scores))[-1]
    assert fitted.setting == {"alpha": alphas[best]}


def test_ridge_regression():
    features, labels = blobs()
    rng = np.random.default_rng(1)
    targets = np.stack([features[:, 0], labels + rng.normal(size=len(labels))], 1)
    theirs = ridge_of_scikit_learn(features[:TRAIN], targets[:TRAIN], 0.01)
    with stored(features, targets, TRAIN, VALIDATION, TEST) as (train, val, test):
        probe = RidgeRegression([0.01])
        fitted = probe.fit(train, val, 0)
        answers = theirs.predict(features[-TEST:].astype("float64"))
        np.testing.assert_allclose(fitted.head(features[-TEST:]), answers, atol=1e-9)
        # R2 is about the training mean here, which no test target has touched.
        error = fitted.statistics(test).mean(axis=0)
    mean = targets[:TRAIN].mean(axis=0)
    wanted = np.square(answers - targets[-TEST:]).sum()
    around = np.square(targets[-TEST:] - mean).sum()
    assert probe.score(error) == pytest.approx(1 - wanted / around)
    plain = r2_score(targets[-TEST:], answers, multioutput="variance_weighted")
    assert probe.score(error) == pytest.approx(plain, abs=0.02)


@pytest.mark.parametrize("penalty", [1e-3, 0.1])
def test_logistic(penalty):
    features, labels = blobs()
    theirs = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=1 / (penalty * TRAIN), tol=1e-8, max_iter=5000),
    ).fit(features[:TRAIN].astype("float64"), labels[:TRAIN])
    probe = Logistic([penalty], max_iterations=2000, tolerance=1e-8, chunk_size=50)
    with stored(features, labels, TRAIN, VALIDATION, TEST) as (train, val, test):
        fitted = probe.fit(train, val, 0)
        score = accuracy(fitted, test)
    logits = fitted.head(features[-TEST:])
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(
        log_probabilities,
        theirs.predict_log_proba(features[-TEST:].astype("float64")),
        atol=1e-4,
    )
    assert score == theirs.score(features[-TEST:], labels[-TEST:])


def test_constant_channels_and_one_class():
    features, labels = blobs()
    features[:, 2] = 5.0
    with stored(features, np.zeros_like(labels), 120, 60, 60) as (train, val, test):
        for probe in (Ridge(), Logistic(), NearestNeighbours()):
            assert accuracy(probe.fit(train, val, 0), test) == 1.0


# === Edges of the neighbours ===
def test_of_equal_neighbours_the_earlier_ones_vote():
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(6, 8)).astype("float32")  # many images are equal
    features = kinds[rng.integers(0, 6, 400)]
    labels = rng.integers(0, 9, 400)
    for chunk_size in (1, 37, 8192):
        with stored(features, labels, 400) as (train,):
            probe = NearestNeighbours([5], chunk_size=chunk_size)
            fitted = probe.fit(train, train, 0)
            _, found = fitted.neighbours(kinds)
        for kind, voters in zip(kinds, found, strict=True):
            same = (features == kind).all(axis=1)
            np.testing.assert_array_equal(voters, labels[same][:5])


def test_places_of_the_largest_against_a_stable_sort():
    values = np.random.default_rng(0).integers(0, 4, (50, 17)).astype("float32")
    for count in (1, 5, 16):
        order = np.argsort(-values, axis=1, kind="stable")[:, :count]
        expected = np.sort(order, axis=1)
        np.testing.assert_array_equal(best_places(values, count), expected)


def test_a_low_temperature_leaves_the_nearest_its_vote():
    features, labels = blobs()
    labels = labels + 1  # no vote at all would answer class 0
    with stored(features, labels, TRAIN, VALIDATION, TEST) as (train, val, test):
        nearest = NearestNeighbours([1]).fit(train, val, 0)
        low = NearestNeighbours([5], temperature=1e-5).fit(train, val, 0)
        assert accuracy(low, test) == accuracy(nearest, test) > 0.4


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_temperatures_that_make_no_sense(temperature):
    with pytest.raises(ValueError, match="temperature"):
        NearestNeighbours(temperature=temperature)


# === Labels and settings as users have them ===
@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64", "int32"])
def test_labels_of_any_whole_dtype(dtype):
    features, labels = blobs()
    for probe in (Ridge(), Logistic(), NearestNeighbours()):
        scores = []
        for kind in ("int64", dtype):
            typed = labels.astype(kind)
            with stored(features, typed, TRAIN, VALIDATION, TEST) as (train, val, test):
                scores.append(accuracy(probe.fit(train, val, 0), test))
        assert scores[0] == scores[1] > 0.4


def test_labels_that_are_identities_are_refused():
    features, labels = blobs(40)
    with stored(features, labels + 10**12, 40) as (samples,):
        for probe in (Ridge(), Logistic(), NearestNeighbours()):
            with pytest.raises(ValueError, match="Number the classes from 0"):
                probe.fit(samples, samples, 0)


def test_settings_may_be_arrays():
    powers = np.logspace(-3, 1, 5)
    assert Ridge(powers).alphas == tuple(powers.tolist())
    assert RidgeRegression(powers).alphas == Logistic(powers).penalties
    assert NearestNeighbours(np.array([5, 1])).ks == (1, 5)
    for alphas in ([float("nan"), 1.0], [1.0, float("inf")], [0.0], []):
        with pytest.raises(ValueError, match="alphas"):
            Ridge(alphas)
