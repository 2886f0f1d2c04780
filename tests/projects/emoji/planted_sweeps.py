"""Sweeps with scores that were chosen, and a noise that all of them share."""

import numpy as np

from keras_pe.probing import LayerScore, SweepResult

NOISE = np.random.default_rng(0).normal(0, 0.01, 200)


def planted(scores, spread=0.0, higher_is_better=True):
    """Returns a sweep of these scores by layer; resampled ones move together."""
    rows = tuple(
        LayerScore(layer, score, score, score, score, (score,), ({},))
        for layer, score in scores.items()
    )
    own = np.random.default_rng(len(scores)).normal(0, spread, (len(rows), 200))
    resampled = np.array(list(scores.values()))[:, None] + NOISE + own
    protocol = {"probe": {}, "test": 50, "test_sha256": "0", "bounds": [0.0, 1.0]}
    layers = list(scores)
    return SweepResult(
        "segmentation", "mIoU", higher_is_better, rows, layers[-1], 0.1, (0.1, 0.2),
        (0.0, 0.0), protocol, resampled=resampled,
    )  # fmt: skip
