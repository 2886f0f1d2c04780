"""The head that an encoder's training begins with, on features as encoders give them.

They share a large constant part, and channels are all but equal: what tells classes
apart may lie in small differences of them.
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.finetuning.classifier_model import ClassificationHead
from keras_pe.finetuning.feature_pass import FeaturePass
from keras_pe.finetuning.linear_head import fit_head, mild_head, sharpness
from keras_pe.probing.feature_store import TARGETS, FeatureStore
from keras_pe.probing.ridge import ALPHAS
from keras_pe.probing.sweep_layers import column

pytestmark = pytest.mark.quick
CHANNELS, CLASSES, TRAIN, HELD = 48, 4, 96, 64


def features(noise=0.03, seed=0):
    """Returns features of 160 images, float32, and their classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(TRAIN + HELD) % CLASSES
    loud = rng.normal(size=(len(labels), 4)) @ rng.normal(size=(4, CHANNELS))
    told = rng.normal(size=(CLASSES, CHANNELS))[labels] * 0.02
    quiet = told + noise * rng.normal(size=(len(labels), CHANNELS))
    return (50 + loud + quiet).astype("float32"), labels


@pytest.fixture
def passed(tmp_path):
    x, labels = features()
    with FeatureStore(tmp_path) as store:
        store.append(column(1), x)
        store.append(TARGETS, labels)
        rows = np.arange(len(labels))
        yield FeaturePass(store, (1,), rows[:TRAIN], rows[TRAIN:], labels, len(rows))


def head_of(arrays):
    head = ClassificationHead(CLASSES)
    head.build((None, CHANNELS))
    head.assign(arrays)
    return head


def losses(logits, labels):
    found = keras.losses.sparse_categorical_crossentropy(
        labels, ops.convert_to_tensor(logits), from_logits=True
    )
    return ops.convert_to_numpy(found)


def test_the_mildest_of_those_that_are_as_good_by_one_standard_error(passed):
    x, labels = (rows.astype("float64") for rows in features())
    mean, deviation = x[:TRAIN].mean(axis=0), x[:TRAIN].std(axis=0)
    z, labels = (x - mean) / deviation, labels.astype(int)
    wanted = np.eye(CLASSES)[labels[:TRAIN]]
    found = []
    for alpha in ALPHAS:
        gram = z[:TRAIN].T @ z[:TRAIN] + alpha * TRAIN * np.eye(CHANNELS)
        kernel = np.linalg.solve(gram, z[:TRAIN].T @ (wanted - wanted.mean(axis=0)))
        factor = sharpness(z[TRAIN:] @ kernel + wanted.mean(axis=0), labels[TRAIN:])
        logits = factor * (z[TRAIN:] @ kernel + wanted.mean(axis=0))
        of_each = np.log(np.exp(logits).sum(axis=1))
        of_each -= logits[np.arange(HELD), labels[TRAIN:]]
        found.append((of_each.mean(), of_each.std() / HELD**0.5, factor * kernel))
    least, error, kernel = min(found, key=lambda one: one[0])
    good = [kernel for loss, _, kernel in found if loss <= least + error]
    assert good[-1] is not kernel  # else the rule would change nothing here
    mild = mild_head(passed, 1, CLASSES, 0)
    np.testing.assert_allclose(mild["kernel"], good[-1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(mild["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(mild["deviation"], deviation, rtol=1e-3)


def test_nothing_is_validated(passed):
    rows = np.arange(len(passed.labels))
    whole = FeaturePass(passed.store, (1,), rows, rows[:0], passed.labels, len(rows))
    found = mild_head(whole, 1, CLASSES, 0)
    x, labels = features()
    right = ops.convert_to_numpy(head_of(found)(x)).argmax(axis=1) == labels
    assert right.mean() > 0.5


def test_a_training_step_sees_what_the_head_has_learned(passed):
    """Deviations of a batch made noise of the probe: a loss of 10 instead of 0.1."""
    x, labels = features()
    arrays = fit_head(passed, 1, CLASSES, "ridge", 0).arrays
    found = []
    for rows in np.random.default_rng(0).permutation(TRAIN).reshape(-1, 32):
        head = head_of(arrays)
        at_rest = losses(head(x[rows]), labels[rows]).mean()
        found.append((at_rest, losses(head(x[rows], training=True), labels[rows])))
    at_rest = np.mean([one for one, _ in found])
    trained = np.mean([batch.mean() for _, batch in found])
    assert at_rest < 0.5 * np.log(CLASSES)
    assert trained < at_rest + 0.3


def test_what_all_features_share_may_change(passed):
    """In training the mean is the batch's; the head's own follows, deviations stay."""
    x, _ = features()
    arrays = mild_head(passed, 1, CLASSES, 0)
    head, moved = head_of(arrays), head_of(arrays)
    shift = np.linspace(-5, 5, CHANNELS, dtype="float32")
    before = ops.convert_to_numpy(head(x[:32], training=True))
    after = ops.convert_to_numpy(moved(x[:32] + shift, training=True))
    np.testing.assert_allclose(before, after, atol=0.05)
    found = moved.arrays()
    step = 0.1 * (x[:32].mean(axis=0) + shift - arrays["mean"])
    np.testing.assert_allclose(found["mean"], arrays["mean"] + step, atol=1e-3)
    np.testing.assert_array_equal(found["deviation"], arrays["deviation"])
