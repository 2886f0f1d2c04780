"""Retrieval pair by pair, against sorting; and changes on the same pairs."""

import numpy as np
import pytest

from keras_pe.evaluation.retrieval import retrieval_recall
from keras_pe.finetuning.pairs.pair_scores import (
    change,
    mean_cosine,
    pair_hits,
    points,
)
from keras_pe.training.run.retrieval_scores import PairEmbeddings

pytestmark = [pytest.mark.quick, pytest.mark.once]


def embeddings(noise, count=40, seed=0):
    rng = np.random.default_rng(seed)
    both = rng.normal(size=(2, count, 8))
    both[1] = both[0] + noise * both[1]
    both /= np.linalg.norm(both, axis=2, keepdims=True)
    captions = [b"%d" % n for n in range(count)]
    return PairEmbeddings(*both.astype("float32"), captions)


def test_hits_are_those_of_sorting():
    pairs = embeddings(1.0)
    hits = pair_hits(pairs)
    for name, scores in (
        ("image_to_text", pairs.images @ pairs.texts.T),
        ("text_to_image", pairs.texts @ pairs.images.T),
    ):
        for k in (1, 5, 10):
            nearest = np.argsort(-scores, axis=1)[:, :k]
            expected = [row in nearest[row] for row in range(len(scores))]
            assert hits[f"{name}_recall_at_{k}"].tolist() == expected
    both = [hits[f"{name}_recall_at_1"] for name in ("image_to_text", "text_to_image")]
    assert 0 < np.mean(both) < 1
    assert points(hits)["recall_at_1"] == pytest.approx(100 * np.mean(both))
    for name, share in retrieval_recall(*pairs).items():
        assert points(hits)[name] == pytest.approx(100 * share)


def test_an_interval_is_that_of_the_same_pairs():
    rng = np.random.default_rng(0)
    before = rng.random(400) < 0.5
    after = before.copy()
    after[:20] = True  # a few pairs won, all others the same
    found = change(before, after)
    won = 100 * (after.mean() - before.mean())
    assert found.gain == pytest.approx(won)
    assert found.after - found.before == pytest.approx(won)
    assert 0 < found.low < won < found.high < won + 2
    # The slow way: pairs drawn with replacement, both scores of the same draw.
    draws = rng.integers(0, 400, (2000, 400))
    gains = 100 * (after[draws].mean(axis=1) - before[draws].mean(axis=1))
    low, high = np.quantile(gains, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.3)
    assert found.high == pytest.approx(high, abs=0.3)
    unpaired = 100 * 1.96 * np.sqrt(2 * 0.25 / 400)
    assert found.high - found.low < unpaired  # half of what unpaired scores would have


def test_embeddings_that_turn():
    angle = np.pi / 3
    old = np.tile([1.0, 0.0], (5, 1))
    new = np.tile([np.cos(angle), np.sin(angle)], (5, 1))
    assert mean_cosine(old, old) == pytest.approx(1.0)
    assert mean_cosine(old, new) == pytest.approx(0.5)
