"""A model of NaN or infinity gets no score: each evaluation names what is wrong."""

import ml_dtypes
import numpy as np
import pytest

from keras_pe import PEImageConverter, PETokenizer, ZeroShotClassifier
from keras_pe.arrays import NonFiniteError
from keras_pe.evaluation import (
    VideoProtocol,
    evaluate_retrieval,
    evaluate_zero_shot,
    retrieval_recall,
)
from keras_pe.evaluation.accuracy import label_ranks
from keras_pe.evaluation.ranks import Matches, match_ranks
from keras_pe.models.embedding import embed_images, embed_texts
from projects.emoji.evaluation import score
from tests.small_models import core, perturb

NAMES = ["cat", "dog", "owl"]
TEXTS = ["a cat", "a dog", "an owl"]
OPTIONS = {"batch_size": 2, "num_resamples": 20}


@pytest.fixture(scope="module")
def model():
    return perturb(core())


@pytest.fixture(scope="module")
def tokenizer():
    return PETokenizer(context_length=8, vocabulary_size=600, on_truncation="ignore")


def images():
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 255, (3, 40, 60, 3)).astype("uint8"))


@pytest.fixture(params=[(t, v) for t in ("vision", "text") for v in (np.nan, np.inf)])
def damaged(request, model):
    """Spoils one weight of one tower; returns which tower."""
    tower, value = request.param
    encoder = model.vision_encoder if tower == "vision" else model.text_encoder
    variable = encoder.trainable_variables[-1]
    before = np.array(variable)
    spoilt = before.copy()
    spoilt.flat[0] = value
    variable.assign(spoilt)
    yield tower
    variable.assign(before)


def test_evaluations_of_a_damaged_model(damaged, model, tokenizer):
    def zero_shot(videos=False, **options):
        samples = [np.stack([p, p]) for p in images()] if videos else images()
        labels = [0, 1, 2]
        return evaluate_zero_shot(
            model, tokenizer, samples, labels, NAMES, **OPTIONS, **options
        )

    # "cat" stands first: the prompt named is its own.
    wanted = "squash embeddings of pe_core: sample 0 \\(number 0\\)"
    if damaged == "text":
        wanted = "text embeddings of pe_core: text 0 \\(cat\\)"
    with pytest.raises(NonFiniteError, match=wanted):
        zero_shot()
    with pytest.raises(NonFiniteError, match=wanted):
        zero_shot(videos=True, video=VideoProtocol(2))
    wanted = wanted.replace("(cat", "(a cat")
    for dsl_scale in (None, 1.0):
        with pytest.raises(NonFiniteError, match=wanted):
            evaluate_retrieval(
                model, tokenizer, images(), TEXTS, dsl_scale=dsl_scale, **OPTIONS
            )


def test_the_classifier_of_a_damaged_model(damaged, model, tokenizer):
    if damaged == "text":
        with pytest.raises(NonFiniteError, match="text 0 \\(cat\\)"):
            ZeroShotClassifier(model, tokenizer, NAMES)
        with pytest.raises(NonFiniteError, match="text 0 \\(a cat\\) of 3"):
            embed_texts(model, tokenizer, TEXTS)
        return
    classifier = ZeroShotClassifier(model, tokenizer, NAMES, batch_size=2)
    with pytest.raises(NonFiniteError, match="number 0 of those given"):
        classifier.predict(images())
    converted = PEImageConverter(32)(images())
    with pytest.raises(NonFiniteError, match="image 0 of 3"):
        classifier.similarities(converted)
    with pytest.raises(NonFiniteError, match="image 0 of 3"):
        embed_images(model, converted)


@pytest.mark.quick
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_arrays_that_are_no_numbers(value):
    good, bad = np.eye(4), np.eye(4)
    bad[2, 1] = value
    of_texts = Matches(4, range(4)).of_texts
    for sides, wanted in (
        ((bad, good), "image 2|query 2|sample 2"),
        ((good, bad), "text 2|entry 2|class 2"),
    ):
        with pytest.raises(NonFiniteError, match=wanted):
            retrieval_recall(*sides)
        with pytest.raises(NonFiniteError, match=wanted):
            label_ranks(*sides, np.arange(4))
        for dsl_scale in (None, 10.0):
            with pytest.raises(NonFiniteError, match=wanted):
                match_ranks(*sides, of_texts, dsl_scale=dsl_scale)
    with pytest.raises(NonFiniteError, match="similarities: image 2 of 4"):
        score(bad, np.arange(4))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("size", "wanted"), [(1e20, "similarities of the"), (1e200, "as float32: .* 0 of")]
)
def test_what_overflows_is_refused(size, wanted):
    # Finite sides whose products are not, or that are beyond float32: no cosines.
    left, right = np.full((4, 2), size), np.full((4, 2), size)
    right[:, 1] = -size
    with pytest.raises(NonFiniteError, match=wanted):
        label_ranks(left, right, np.arange(4))
    with pytest.raises(NonFiniteError, match=wanted):
        match_ranks(left, right, Matches(4, range(4)).of_texts)


SCORES = (
    lambda a, b: retrieval_recall(a, b, ks=(1,))["text_to_image_recall_at_1"],
    lambda a, b: (match_ranks(a, b, Matches(50, range(50)).of_texts) < 1).mean(),
    lambda a, b: (label_ranks(a, b, np.arange(50)) < 1).mean(),
)


@pytest.mark.quick
@pytest.mark.parametrize("score", SCORES)
def test_narrow_floats_are_multiplied_in_float32(score):
    rows = np.random.default_rng(0).normal(size=(50, 64))
    large = (3000 * rows).astype("float16")
    assert np.isfinite(large).all()
    with np.errstate(over="ignore"):
        assert not np.isfinite(large @ large.T).all()
    assert score(large, large) == 1.0
    narrow = rows.astype(ml_dtypes.bfloat16)
    assert score(narrow, narrow) == 1.0


@pytest.mark.quick
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", bool, "complex64", object])
def test_embeddings_that_are_no_floats_are_refused(score, dtype):
    rows = (100 * np.random.default_rng(0).normal(size=(50, 64))).clip(-127, 127)
    wrong, good = rows.astype("int8").astype(dtype), rows.astype("float32")
    for sides in ((wrong, good), (good, wrong), (wrong, wrong)):
        with pytest.raises(ValueError, match=r"got dtype .*, expected floating-point"):
            score(*sides)


@pytest.mark.quick
def test_embeddings_of_wrong_shapes():
    of_texts = Matches(4, range(4)).of_texts
    with pytest.raises(ValueError, match="3 channels and gallery entries 4"):
        match_ranks(np.ones((4, 3)), np.eye(4), of_texts)
    with pytest.raises(
        ValueError, match="shape \\(4,\\), expected two axes: query, channel"
    ):
        match_ranks(np.ones(4), np.eye(4), of_texts)


def test_embeddings_for_the_classifier(model, tokenizer):
    classifier = ZeroShotClassifier(model, tokenizer, NAMES)
    own = classifier.class_matrix
    large = (6e4 * own / np.abs(own).max()).astype("float16")
    assert [p[0].name for p in classifier.predict_embeddings(large)] == NAMES
    with pytest.raises(ValueError, match="got dtype int8, expected floating-point"):
        classifier.predict_embeddings((100 * own).astype("int8"))
    with pytest.raises(NonFiniteError, match="image 1 of 3"):
        classifier.predict_embeddings(np.where([[0], [1], [0]], np.nan, own))
    with pytest.raises(ValueError, match="Embed the images with the classifier's"):
        classifier.predict_embeddings(own[:, 1:])
