"""NaN and infinity get no score from any probe: layer and sample are named."""

import keras
import numpy as np
import pytest

from keras_pe.arrays import NonFiniteError
from keras_pe.probing import (
    Attentive,
    Clip,
    Correspondence,
    Depth,
    DPTDepth,
    PointPairs,
    Segmentation,
    Tracking,
    sweep,
)
from keras_pe.probing.bootstrap import bootstrap_scores, interval
from keras_pe.probing.feature_store import FeatureStore
from keras_pe.probing.nearest_neighbours import unit
from keras_pe.probing.sweep import PROBES, find_probe
from keras_pe.probing.sweep_summary import LayerOutcome, best_place
from tests.probing.planted import SIDE, noise, planted_model
from tests.probing.stored import blobs, stored
from tests.small_models import perturb, vision_encoder

QUIET = {"progress": False, "batch_size": 4}
FEW = {"epochs": 1, "batch_size": 4}
TRAINED = [
    Attentive((1e-3,), **FEW),
    Segmentation((1e-3,), **FEW),
    Depth((1e-3,), **FEW),
    DPTDepth(channels=8, learning_rates=(1e-3,), **FEW),
]


def data_of(name, images):
    """Returns data of a probe that shows these images, in order."""
    count = len(images)
    rng = np.random.default_rng(0)
    if name == "correspondence":
        points = np.full((1, 2, 2), 3.0)
        pairs = images.reshape(-1, 2, *images.shape[1:])
        return [PointPairs(pair, points, f"pair {i}") for i, pair in enumerate(pairs)]
    if name == "tracking":
        masks = np.zeros((2, SIDE, SIDE), "uint8")
        masks[:, 4:9, 4:9] = 1
        frames = images.reshape(-1, 2, *images.shape[1:])
        return [Clip(pair, masks, f"clip {i}") for i, pair in enumerate(frames)]
    size = (count, SIDE, SIDE)
    targets = {
        "segmentation": lambda: rng.integers(0, 2, size).astype("uint8"),
        "depth": lambda: rng.uniform(1, 2, size).astype("float32"),
        "dpt_depth": lambda: rng.uniform(1, 2, size).astype("float32"),
        "ridge_regression": lambda: rng.normal(size=count),
    }
    return images, targets.get(name, lambda: np.arange(count) % 2)()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", sorted(PROBES))
def test_every_probe_names_the_layer_and_the_sample(name, value):
    images = noise(12)
    images[6, 3, 3, 1] = value  # green: layers 2 and 4 of `Planted` see it, not 1
    wanted = {
        "correspondence": "layer 2 of item 3 \\(pair 3\\): image 0 of 2",
        "tracking": "layer 2 of item 3 \\(clip 3\\): image 0 of 8",
    }.get(name, "layer 2: image 2 \\(sample 6\\) of 4")
    if name == "attentive":
        wanted = "layer 2"
    with pytest.raises(NonFiniteError, match=wanted):
        sweep(planted_model(1), data_of(name, images), probe=name, **QUIET)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_damaged_encoder(value):
    encoder = perturb(vision_encoder())
    variable = next(v for v in encoder.trainable_variables if "block_1" in v.path)
    spoilt = np.array(keras.ops.convert_to_numpy(variable))
    spoilt.flat[0] = value
    variable.assign(spoilt)
    images = np.random.default_rng(0).uniform(-1, 1, (12, 32, 32, 3))
    data = images.astype("float32"), np.arange(12) % 2
    with pytest.raises(NonFiniteError, match="layer 1: image 0 \\(sample 0\\)"):
        sweep(encoder, data, **QUIET)
    # What stands before the damage is sound.
    assert len(sweep(encoder, data, layers=[0], **QUIET).layers) == 1


@pytest.mark.quick
def test_maps_given_by_hand():
    images = noise(8)
    bad = np.ones((2, 4, 4, 3), "float32")
    bad[1, 2, 2] = np.nan
    for probe in (Tracking(frames_at_once=2), Correspondence()):
        (item, *_) = data_of(probe.name, images)
        with pytest.raises(NonFiniteError, match="features: row 10 of 16"):
            probe.measure(item, lambda _: [bad])
    with pytest.raises(NonFiniteError, match="row 1 of 2"):
        unit(np.array([[1.0, 0.0], [np.inf, 0.0]]))


@pytest.mark.quick
def test_a_store_names_column_and_sample():
    with FeatureStore() as store:
        store.append("layer_3", np.ones((5, 2), "float32"))
        rows = np.ones((4, 2), "float16")
        rows[2, 1] = np.nan
        with pytest.raises(NonFiniteError, match="'layer_3': row 2 \\(sample 7\\)"):
            store.append("layer_3", rows.astype("float32"))
        with pytest.raises(NonFiniteError, match="depth that is not known is 0"):
            store.append("targets", rows)
        assert store.count("layer_3") == 5


def test_features_beyond_half_precision():
    images = noise(12)
    images[9, ..., 0] = 1e6
    with pytest.raises(NonFiniteError, match=r"layer 1 in half precision.*beyond its"):
        sweep(planted_model(1), data_of("segmentation", images), probe="segmentation",
              **QUIET)  # fmt: skip


# === Heads ===
@pytest.mark.parametrize("probe", TRAINED, ids=lambda probe: probe.name)
def test_a_head_whose_training_ends_in_nan_is_no_head(probe):
    # Finite features whose squares are not: every epoch ends in NaN or infinity.
    _, targets = data_of(probe.name, noise(12))
    shape = (12, 4, 4, 3) if probe.name != "attentive" else (12, 5, 3)
    features = np.full(shape, 3e38, "float32")
    features[::2] *= -1
    with (
        stored(features, targets, 6, 6) as (train, validation),
        pytest.raises(NonFiniteError, match=r"learning rate 0\.001 ended in"),
    ):
        probe.fit(train, validation, 0)


def test_a_learning_rate_that_diverges_is_passed_over():
    _, masks = data_of("segmentation", noise(12))
    features = np.random.default_rng(0).normal(size=(12, 4, 4, 3)).astype("float32")
    probe = Segmentation((1e38, 1e-2), **FEW)
    with stored(features, masks, 6, 6) as (train, validation):
        fitted = probe.fit(train, validation, 0)
        assert fitted.setting["learning_rate"] == 1e-2
        with pytest.raises(NonFiniteError, match="Offer a smaller one"):
            Segmentation((1e38,), **FEW).fit(train, validation, 0)


# === Statistics ===
@pytest.mark.quick
def test_statistics_and_scores():
    statistics = np.ones((6, 1))
    statistics[4] = np.nan
    with pytest.raises(NonFiniteError, match="statistics: sample 4 of 6"):
        bootstrap_scores(statistics, lambda means: means[..., 0])
    with pytest.raises(NonFiniteError, match="resampled set 1"):
        interval(np.array([0.0, np.nan]))
    found = [LayerOutcome(np.ones((2, 1)), x, [{}], [x]) for x in (0.1, np.nan, 0.3)]
    with pytest.raises(NonFiniteError, match="layer 2"):
        best_place(find_probe("ridge"), (1, 2, 3), found)


@pytest.mark.quick
@pytest.mark.parametrize("name", ["knn", "ridge", "logistic"])
def test_features_asked_of_a_fitted_probe(name):
    features, labels = blobs()
    with stored(features, labels, 120, 60) as (train, validation):
        fitted = find_probe(name).fit(train, validation, 0)
        with pytest.raises(NonFiniteError, match="row 1 of 2"):
            fitted.predict(np.array([[1.0] * 7, [np.nan] * 7], "float32"))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("size", "dtype"), [(6e4, "float16"), (1e30, "float32"), (1e200, "float64")]
)
def test_large_features_keep_their_direction(size, dtype):
    rows = np.random.default_rng(0).uniform(-1, 1, (20, 64))
    large = (size * rows).astype(dtype)
    if dtype == "float64":
        with pytest.raises(NonFiniteError, match="features as float32: row 0 of 20"):
            unit(large)
        return
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert unit(large).dtype == "float32"
    np.testing.assert_allclose(unit(large), expected, atol=1e-3)


@pytest.mark.quick
@pytest.mark.parametrize("dtype", ["int8", "complex64", object])
def test_features_that_are_no_floats_are_refused(dtype):
    with pytest.raises(ValueError, match=r"features: got dtype .*, expected floating"):
        unit(np.ones((3, 4)).astype(dtype))
