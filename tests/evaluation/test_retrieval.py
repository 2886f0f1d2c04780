"""Recall at k against a sort of the whole matrix."""

import numpy as np
import pytest

from keras_pe.evaluation.retrieval import retrieval_recall

pytestmark = [pytest.mark.quick, pytest.mark.once]


def embeddings(pairs, channels, seed):
    x = np.random.default_rng(seed).normal(size=(pairs, channels))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_against_a_full_sort(chunk_size):
    images, texts = embeddings(40, 6, 0), embeddings(40, 6, 1)
    texts[:20] = images[:20] + 0.3 * texts[:20]
    captions = [i % 30 for i in range(40)]
    found = retrieval_recall(images, texts, captions, (1, 5), chunk_size)
    for name, scores in (
        ("image_to_text", images @ texts.T),
        ("text_to_image", texts @ images.T),
    ):
        order = np.argsort(-scores, axis=1)
        for k in (1, 5):
            hits = [
                any(captions[j] == captions[i] for j in order[i, :k]) for i in range(40)
            ]
            assert found[f"{name}_recall_at_{k}"] == pytest.approx(np.mean(hits))
    assert 0.2 < found["image_to_text_recall_at_1"] < 1.0


def test_a_constant_model_finds_nothing():
    same = np.ones((10, 4)) / 2.0
    assert set(retrieval_recall(same, same, ks=(1, 5)).values()) == {0.0}


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="one shape"):
        retrieval_recall(np.eye(3), np.eye(4))
    with pytest.raises(ValueError, match="one a pair"):
        retrieval_recall(np.eye(3), np.eye(3), captions=["a"])


def test_nothing_to_score_is_no_score():
    with pytest.raises(ValueError, match="no pairs"):
        retrieval_recall(np.empty((0, 4)), np.empty((0, 4)))


@pytest.mark.parametrize("ks", [(), (0,), (-1,), (1.5,), (True,)])
def test_ks_are_whole_numbers(ks):
    with pytest.raises(ValueError, match="whole numbers of at least 1"):
        retrieval_recall(np.eye(3), np.eye(3), ks=ks)


def test_ks_may_be_an_array():
    found = retrieval_recall(np.eye(3), np.eye(3), ks=np.array([1, 2]))
    assert set(found.values()) == {1.0}
    assert "image_to_text_recall_at_2" in found
