"""Controls: every question with another image than its own, wherever there is one."""

import collections

import numpy as np
import pytest

from keras_pe.probing import LanguageProbe, question_targets
from keras_pe.probing.feature_store import TARGETS, FeatureStore, Samples
from keras_pe.probing.language_batches import Documents, TrainingRows
from keras_pe.probing.language_controls import IMAGES, OtherImages, image_digests
from keras_pe.probing.language_data import questions_of_samples
from tests.probing.asked import prompt, questions

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.mark.parametrize("images", [[0, 1], [0, 1, 2], range(8), [3, 0, 3, 1, 1, 3]])
def test_each_sample_once_with_another_image(images):
    images, seen = np.array(images), set()
    for seed in range(50):
        found = OtherImages(images).permuted(np.random.default_rng(seed))
        assert sorted(found) == list(range(len(images)))
        assert np.all(images[found] != images)
        seen.add(tuple(found))
    assert len(seen) > 1 or len(images) == 2


def test_where_most_have_one_image_all_still_get_another():
    images = np.array([5, 5, 7, 5, 5])
    for seed in range(20):
        found = OtherImages(images).permuted(np.random.default_rng(seed))
        assert np.all(images[found] != images)


def test_drawn_are_all_of_another_image_equally_often():
    images = np.array([0, 1, 1, 2])
    places = np.repeat(np.arange(4), 3000)
    found = OtherImages(images).drawn(places, np.random.default_rng(0))
    counts = collections.Counter(zip(places.tolist(), found.tolist(), strict=True))
    allowed = [
        [other for other in range(4) if images[other] != images[own]]
        for own in range(4)
    ]
    expected = {
        (own, other): 3000 / len(others)
        for own, others in enumerate(allowed)
        for other in others
    }
    assert set(counts) == set(expected)
    for pair, count in counts.items():
        assert count == pytest.approx(expected[pair], rel=0.1)


@pytest.mark.parametrize("images", [[0], [4, 4, 4]])
def test_one_image_has_no_other(images):
    with pytest.raises(ValueError, match=f"The {len(images)} test samples have one"):
        OtherImages(np.array(images), "test")


def test_digests_tell_images_apart():
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(3, 8, 8, 3)).astype("float32")
    images[2] = images[0]
    found = image_digests(images)
    assert found.shape == (3, 16)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0], found[2])
    assert np.any(found[0] != found[1])
    images[1, 7, 7, 2] += 1e-6
    assert np.any(image_digests(images)[1] != found[1])


# === Samples ===
def repeated(store, count, times):
    """Returns samples, each image of them several times; features say which one."""
    (targets,) = question_targets(questions(count * times))
    numbers = np.arange(count * times) % count
    images = np.random.default_rng(0).uniform(size=(count, 4, 4, 3))[numbers]
    features = numbers.astype("float32")[:, None, None, None]
    store.append("features", np.tile(features, (1, 2, 2, 5)))
    store.append(TARGETS, targets)
    store.append(IMAGES, image_digests(images))
    return Samples(store, "features", np.arange(count * times)), numbers


def test_shuffled_samples_have_their_questions_and_features_of_another_image():
    with FeatureStore() as store:
        samples, numbers = repeated(store, 3, 4)
        for seed in range(20):
            found = LanguageProbe().shuffled(samples, seed)
            features, _ = found.batch(np.arange(12))
            assert np.all(features[:, 0, 0, 0] != numbers)
            assert list(questions_of_samples(found)) == list(
                questions_of_samples(samples)
            )


def test_blind_questions_never_come_with_their_own_image():
    with FeatureStore() as store:
        samples, numbers = repeated(store, 2, 5)
        others = OtherImages.of(samples)
        documents = Documents(prompt(1))(list(questions_of_samples(samples)))
        rows = TrainingRows(documents, 64, 8, 20, True, 0)
        for step in range(20):
            batch = rows.batch(samples, step, others)
            chosen = rows.rows[step * rows.rows_a_step : (step + 1) * rows.rows_a_step]
            for place, several in enumerate(chosen):
                own = [numbers[each.image_number] for each in several]
                shown = batch["features"][place, : len(own), 0, 0, 0]
                np.testing.assert_array_equal(shown, 1 - np.array(own))
