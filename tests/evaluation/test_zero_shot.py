"""Zero-shot classification against its definition."""

import keras
import numpy as np
import pytest

from keras_pe import ZeroShotClassifier
from keras_pe.models.embedding import embed_images, embed_texts
from keras_pe.preprocessing.batches import load_batches
from tests.small_models import images as noise

pytestmark = pytest.mark.quick
NAMES = ["cat", "dog", "red car"]
TEMPLATES = ["{}", "a {}."]


def images(count=3):
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 255, (count, 40, 50, 3)).astype("uint8"))


def test_other_things_than_a_model_and_its_tokenizer(model, tokenizer):
    with pytest.raises(TypeError, match="model must be a PECore, got PETokenizer"):
        ZeroShotClassifier(tokenizer, model, NAMES)
    with pytest.raises(TypeError, match="model must be a PECore, got str"):
        ZeroShotClassifier("pe_core_emoji_patch8_64", tokenizer, NAMES)
    with pytest.raises(TypeError, match="tokenizer must be a PETokenizer, got str"):
        ZeroShotClassifier(model, "pe_core_emoji_patch8_64", NAMES)


def test_it_is_shown_by_its_classes(model, tokenizer):
    shown = repr(ZeroShotClassifier(model, tokenizer, [*NAMES, "owl"]))
    assert "4 classes: 'cat', 'dog', 'red car', ...)" in shown


@pytest.mark.slow
def test_class_matrix_is_the_mean_of_unit_prompts(model, tokenizer):
    classifier = ZeroShotClassifier(model, tokenizer, NAMES, TEMPLATES)
    for row, name in enumerate(NAMES):
        prompts = tokenizer([template.format(name) for template in TEMPLATES])
        embeddings = keras.ops.convert_to_numpy(model.encode_text(prompts))
        mean = embeddings.mean(axis=0)
        np.testing.assert_allclose(
            classifier.class_matrix[row], mean / np.linalg.norm(mean), atol=1e-5
        )


@pytest.mark.slow
def test_predictions_are_ordered_and_sum_to_one(model, tokenizer):
    classifier = ZeroShotClassifier(model, tokenizer, NAMES, TEMPLATES, batch_size=2)
    found = classifier.predict(images(5), top_k=3)
    assert len(found) == 5
    for best in found:
        probabilities = [prediction.probability for prediction in best]
        assert sum(probabilities) == pytest.approx(1.0, abs=1e-5)
        assert probabilities == sorted(probabilities, reverse=True)
        assert all(NAMES[p.index] == p.name for p in best)
    similarity = classifier.similarities(classifier.image_converter(images(5)))
    assert [best[0].index for best in found] == similarity.argmax(axis=1).tolist()


@pytest.mark.slow
def test_padding_of_the_last_batch_changes_nothing(model):
    x = noise(5)
    np.testing.assert_allclose(
        embed_images(model, x, 2), embed_images(model, x, 5), atol=1e-5
    )
    assert embed_images(model, x[:0], 2).shape == (0, 16)


def test_texts_and_images_meet(model, tokenizer):
    texts = embed_texts(model, tokenizer, NAMES, 2)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1.0, atol=1e-5)


def test_bad_images_are_skipped_and_named(model, tokenizer, tmp_path):
    classifier = ZeroShotClassifier(model, tokenizer, NAMES, batch_size=2)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    batches = load_batches(
        [images()[0], bad, images()[1]],
        classifier.image_converter,
        2,
        max_skipped_share=0.5,
    )
    places = [place for place, _ in classifier.predict_batches(batches, 1)]
    assert places == [0, 2]
    assert batches.report.num_skipped == 1
    assert "bad.png" in str(batches.report)


def test_templates_of_files_and_lists(model, tokenizer):
    ours = ZeroShotClassifier(model, tokenizer, NAMES, ["a {}.", "{}"])
    of_file = ZeroShotClassifier(model, tokenizer, NAMES, ("a {c}.", "{c}"))
    np.testing.assert_array_equal(ours.class_matrix, of_file.class_matrix)
    plain = ZeroShotClassifier(model, tokenizer, NAMES, "plain")
    assert plain.templates == ("{}",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["cat", 3]}, r"class_names\[1\] is 3, expected a name"),
        ({"class_names": ["cat", " "]}, r"class_names\[1\] is ' ', expected a name"),
        ({"class_names": []}, "at least one name"),
        ({"class_names": "cat"}, "list of at least one name"),
        ({"class_names": NAMES, "templates": ["a photo"]}, "exactly one {}"),
        ({"class_names": NAMES, "templates": []}, "at least one, such as"),
        ({"class_names": NAMES, "templates": "imagenet"}, "one of \\('plain'"),
        ({"class_names": NAMES, "batch_size": 0}, "batch_size"),
    ],
)
def test_bad_arguments_are_explained(model, tokenizer, arguments, message):
    with pytest.raises(ValueError, match=message):
        ZeroShotClassifier(model, tokenizer, **arguments)
    classifier = ZeroShotClassifier(model, tokenizer, NAMES)
    for top_k in (0, -1, 1.5, None, "2"):
        with pytest.raises(ValueError, match="top_k must be a whole number"):
            classifier.predict(images(), top_k=top_k)
        with pytest.raises(ValueError, match="top_k must be a whole number"):
            classifier.predict_embeddings(classifier.class_matrix, top_k)
