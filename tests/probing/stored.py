"""Samples in a store, from arrays."""

import contextlib
import itertools

import numpy as np

from keras_pe.probing.feature_store import TARGETS, FeatureStore, Samples


@contextlib.contextmanager
def stored(features, targets, *counts):
    """Yields one `Samples` for each count of rows, in order."""
    with FeatureStore() as store:
        half = len(features) // 2
        for rows in (slice(0, half), slice(half, None)):
            store.append("features", features[rows])
            store.append(TARGETS, targets[rows])
        ends = np.cumsum((0, *counts))
        yield [
            Samples(store, "features", np.arange(start, stop))
            for start, stop in itertools.pairwise(ends)
        ]


def blobs(count=240, channels=7, classes=4, seed=0):
    """Returns overlapping classes: features of very different scales, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centres = rng.normal(size=(classes, channels))
    features = centres[labels] + 1.2 * rng.normal(size=(count, channels))
    features = features * np.logspace(-2, 2, channels) + 3.0
    return features.astype("float32"), labels
