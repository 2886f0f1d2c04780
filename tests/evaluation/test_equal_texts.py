"""Names that are one to the model are named, and credited if asked for."""

import warnings

import numpy as np
import pytest

from keras_pe import PETokenizer
from keras_pe.evaluation import evaluate_retrieval, evaluate_zero_shot
from keras_pe.evaluation.equal_texts import equal_classes, equal_groups
from keras_pe.evaluation.zero_shot import ZeroShotClassifier
from tests.small_models import core, perturb

pytestmark = pytest.mark.once
OPTIONS = {"batch_size": 2, "num_resamples": 20, "resize_modes": "squash"}
NAMES = ["owl", "cat", "dog"]


@pytest.fixture(scope="module")
def model():
    return perturb(core())


def tokenizer():
    return PETokenizer(context_length=8, vocabulary_size=600, on_truncation="ignore")


def images(count=6):
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 255, (count, 32, 32, 3)).astype("uint8"))


@pytest.fixture(scope="module")
def found(model):
    """Returns what the model calls each image: these labels are all right."""
    labels = [0, 1, 2]
    result = []
    for image in images():
        tops = [
            evaluate_zero_shot(
                model, tokenizer(), [image], [label], NAMES, "plain", **OPTIONS
            ).best["top1"].value
            for label in labels
        ]  # fmt: skip
        result.append(int(np.argmax(tops)))
    return np.array(result)


def top1(model, labels, names, **options):
    result = evaluate_zero_shot(
        model, tokenizer(), images(), labels, names, "plain", **OPTIONS, **options
    )
    return result.best["top1"].value, result.protocol


def test_equal_names_are_named_and_credited(model, found):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # names that differ: silence
        assert top1(model, found, NAMES)[0] == 1.0
    # The class that is found most, in capitals, and as HTML has it.
    most = int(np.bincount(found).argmax())
    name = NAMES[most]
    names = [*NAMES, f" {name.upper()} ", "a cow", f"&#{ord(name[0])};{name[1:]}"]
    message = f"3 of 6 class names are not different to the model: '{name}', "
    with pytest.warns(UserWarning, match=message):
        score, protocol = top1(model, found, names)
    assert protocol["equal_classes"] == [[most, 3, 5]]
    assert protocol["equal_names"] == "separate"
    assert score <= np.mean(found != most)
    with pytest.warns(UserWarning, match='equal_names="credit"'):
        credited, protocol = top1(model, found, names, equal_names="credit")
    assert protocol["equal_names"] == "credit"
    # A copy's label is as good as the first one's.
    copies = np.where(found == most, 5, found)
    with pytest.warns(UserWarning, match="3 of 6"):
        of_copies, _ = top1(model, copies, names, equal_names="credit")
    assert credited == of_copies == top1(model, found, [*NAMES, "a cow"])[0]
    assert credited > score


def test_prompts_that_are_cut_off_before_they_differ(model):
    long = "a very long prompt that is cut off "
    names = [long + "cat", long + "dog", "owl"]
    with pytest.warns(UserWarning, match="2 of 3 class names"):
        _, protocol = top1(model, [0] * 6, names)
    assert protocol["equal_classes"] == [[0, 1]]
    # One of two templates tells them apart: they are two classes.
    vectors = np.eye(3)
    first = equal_classes(tokenizer(), names, ["{}", "{c}"], vectors)
    assert equal_groups(first) == [[0, 1]]
    first = equal_classes(tokenizer(), ["cat", "dog", "owl"], [long + "{}"], vectors)
    assert equal_groups(first) == [[0, 1, 2]]
    first = equal_classes(tokenizer(), NAMES, [long + "{}", "{}"], vectors)
    assert equal_groups(first) == []
    # Equal vectors, whatever the names.
    first = equal_classes(tokenizer(), NAMES, ["{}"], vectors[[0, 1, 0]])
    assert equal_groups(first) == [[0, 2]]


def test_equal_texts_of_retrieval(model):
    texts = ["an owl", "An  OWL", "a cat", "a cat"]

    def run(**options):
        return evaluate_retrieval(
            model, tokenizer(), images(4), texts, ks=(1, 2, 4), **OPTIONS, **options
        )

    with pytest.warns(UserWarning, match="'an owl', 'An  OWL' \\(places 0, 1\\)"):
        separate = run()
    assert separate.protocol["equal_texts"] == [[0, 1]]
    with pytest.warns(UserWarning, match='equal_tokens="credit"'):
        credited = run(equal_tokens="credit")
    # The nearest text of an image of an owl is never its own alone.
    for score, value in credited.best.items():
        assert value.value >= separate.best[score].value
    strings = ["an owl", "an owl", "a cat", "a cat"]
    same = evaluate_retrieval(
        model, tokenizer(), images(4), strings, ks=(1, 2, 4), **OPTIONS
    )
    assert same.protocol["equal_texts"] == []
    assert {k: v.value for k, v in credited.best.items()} == {
        k: v.value for k, v in same.best.items()
    }


def test_options_that_are_none(model):
    with pytest.raises(ValueError, match="equal_names='merge': expected one of"):
        top1(model, [0] * 6, NAMES, equal_names="merge")
    with pytest.raises(ValueError, match="equal_tokens='merge': expected one of"):
        evaluate_retrieval(model, tokenizer(), images(1), ["a"], equal_tokens="merge")


def test_a_classifier_names_equal_classes(model):
    message = r"2 of 3 class names are not .*'a cat', 'A  cat' \(places 0, 2\)\. They s"
    with pytest.warns(UserWarning, match=message):
        found = ZeroShotClassifier(model, tokenizer(), ["a cat", "b", "A  cat"])
    with pytest.warns(UserWarning, match=message):  # of vectors that were saved, too
        ZeroShotClassifier(
            model, tokenizer(), found.class_names, class_matrix=found.class_matrix
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ZeroShotClassifier(model, tokenizer(), ["a cat", "b"])
