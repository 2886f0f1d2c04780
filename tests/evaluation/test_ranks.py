"""Recall with several matches and dual-softmax, against NumPy on whole matrices."""

import numpy as np
import pytest

from keras_pe.evaluation.accuracy import label_ranks
from keras_pe.evaluation.ranks import Gallery, Matches, match_ranks
from keras_pe.evaluation.retrieval import both_ranks

pytestmark = [pytest.mark.quick, pytest.mark.once]
NUM_IMAGES, NUM_TEXTS = 23, 60


def softmax(x, axis):
    weights = np.exp(x - x.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def direct_recall(images, texts, images_of_text, captions, k, dsl_scale):
    """Upstream's steps, one by one, on whole matrices."""
    scores = texts @ images.T
    scores_t = scores.T
    if dsl_scale is not None:
        scores = scores * softmax(dsl_scale * scores, axis=0)
        scores_t = scores_t * softmax(dsl_scale * scores_t, axis=0)
    positive = np.zeros(scores.shape, bool)
    for text, own in enumerate(images_of_text):
        positive[text, own] = True
    for caption in set(captions):
        same = [i for i, other in enumerate(captions) if other == caption]
        positive[same] = positive[same].any(axis=0)

    def recall(matrix, matches):
        nearest = np.argsort(-matrix, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(matches, nearest, axis=1).any(axis=1).mean()

    return {
        "text_to_image": recall(scores, positive),
        "image_to_text": recall(scores_t, positive.T),
    }


def data(dtype="float64"):
    """Several captions an image, images that share a text, texts that come twice."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(NUM_IMAGES, 8))
    images_of_text = [[i % NUM_IMAGES] for i in range(NUM_TEXTS)]
    images_of_text[5] = [5, 7, 9]
    captions = [f"caption {i}" for i in range(NUM_TEXTS)]
    for copy, original in ((30, 3), (41, 3), (59, 12)):
        captions[copy] = captions[original]
    texts = images[[images[0] for images in images_of_text]]
    texts = texts + 1.2 * rng.normal(size=texts.shape)
    for i, caption in enumerate(captions):  # equal texts have equal embeddings
        texts[i] = texts[captions.index(caption)]
    images, texts = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts)
    )
    return images.astype(dtype), texts.astype(dtype), images_of_text, captions


@pytest.mark.parametrize("dsl_scale", [None, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("chunk_size", [1, 7, 23, 1000])
def test_against_whole_matrices(chunk_size, dsl_scale):
    images, texts, images_of_text, captions = data()
    matches = Matches(NUM_IMAGES, images_of_text, captions)
    ranks = both_ranks(images, texts, matches, chunk_size, dsl_scale)
    for k in range(1, NUM_IMAGES):
        expected = direct_recall(images, texts, images_of_text, captions, k, dsl_scale)
        for direction, recall in expected.items():
            assert (ranks[direction] < k).mean() == pytest.approx(recall), direction
    assert 0.3 < (ranks["text_to_image"] < 1).mean() < 0.95


def test_float32_and_reweighting_that_matters():
    *embeddings, images_of_text, captions = data("float32")
    matches = Matches(NUM_IMAGES, images_of_text, captions)
    plain = both_ranks(*embeddings, matches, 7)
    reweighted = both_ranks(*embeddings, matches, 7, 20.0)
    expected = direct_recall(*embeddings, images_of_text, captions, 1, 20.0)
    for direction, recall in expected.items():
        assert (reweighted[direction] < 1).mean() == pytest.approx(recall)
        assert (reweighted[direction] != plain[direction]).any()


def test_the_masks_are_each_others_transpose():
    _, _, images_of_text, captions = data()
    matches = Matches(NUM_IMAGES, images_of_text, captions)
    of_texts = matches.of_texts(slice(0, NUM_TEXTS))
    of_images = matches.of_images(slice(0, NUM_IMAGES))
    np.testing.assert_array_equal(of_texts, of_images.T)
    assert of_texts[30, 3]  # the copy of text 3 matches its image
    assert of_texts[5].sum() == 3


def test_ties_count_against_the_model():
    same = np.ones((4, 3))
    ranks = match_ranks(same, same, Matches(4, [0, 1, 2, 3]).of_texts, 2, 1.0)
    assert ranks.tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_equal_vectors_have_equal_products(rows):
    rng = np.random.default_rng(0)
    for channels in range(1, 700, 13):  # BLAS alone fails at many of these sizes
        column = rng.normal(size=channels).astype("float32")
        gallery = Gallery(np.tile(column, (channels + 7, 1)))
        found = gallery.products(rng.normal(size=(rows, channels)).astype("float32"))
        assert found.shape == (rows, channels + 7)
        np.testing.assert_array_equal(found, found[:, :1].repeat(channels + 7, axis=1))


def test_products_with_few_equal_vectors():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6)).astype("float32")
    vectors[[7, 30]] = vectors[3]
    vectors[9] = -vectors[9] * 0.0  # zeros of both signs are equal
    vectors[12] = 0.0
    vectors[20] = vectors[21][::-1]  # an equal sum, another vector
    rows = rng.normal(size=(5, 6)).astype("float32")
    gallery = Gallery(vectors)
    assert len(gallery.vectors) == 37
    np.testing.assert_allclose(gallery.products(rows), rows @ vectors.T, rtol=1e-5)


def test_a_constant_model_finds_nothing_whatever_the_sizes():
    rng = np.random.default_rng(0)
    for count in range(2, 60, 3):
        one = rng.normal(size=(1, 11 * count))
        same = np.repeat(one / np.linalg.norm(one), count, axis=0)
        for chunk_size in (1, 2, 7, 1000):
            matches = Matches(count, np.arange(count))
            ranks = match_ranks(same, same, matches.of_texts, chunk_size)
            assert (ranks == count - 1).all()
        classes = label_ranks(same, same, np.arange(count))
        assert (classes == count - 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, [0, 2]), "expected 0 to 1"),
        ((2, [0, 0]), "Image 1 has no match"),
        ((2, [0, 1, []]), "Text 2 has no match"),
        ((2, [0, 1], ["a"]), "Expected 2 texts"),
        ((2, [0, 1.5]), "no places"),
    ],
)
def test_matches_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        Matches(*arguments)


def test_bad_options():
    one = np.ones((1, 1))
    of_texts = Matches(1, [0]).of_texts
    with pytest.raises(ValueError, match="chunk_size"):
        match_ranks(one, one, of_texts, 0)
    with pytest.raises(ValueError, match="dsl_scale"):
        match_ranks(one, one, of_texts, 1, 0.0)
