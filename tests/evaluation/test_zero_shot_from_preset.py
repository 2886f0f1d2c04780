"""A classifier from the name of a preset: the same as one from its parts."""

import numpy as np
import pytest

import keras_pe
from keras_pe import PEImageConverter, ZeroShotClassifier
from keras_pe.preprocessing.prompts import TEMPLATES
from keras_pe.presets import CheckpointError

pytestmark = [
    pytest.mark.quick,
    # The small tokenizer cuts prompts, and a file does not decide that nobody is told.
    pytest.mark.filterwarnings("ignore:.*(do not fit context|on_truncation)"),
]
NAMES = ["cat", "dog"]
OWN = ["a drawing of a {}", "{}"]


@pytest.fixture(scope="module")
def preset(model, tokenizer, tmp_path_factory):
    """A preset that knows classes and how they are asked for."""
    folder = tmp_path_factory.mktemp("known") / "preset"
    model.save_to_preset(
        folder,
        tokenizer=tokenizer,
        image_converter=PEImageConverter(32, resize_mode="center_crop"),
        metadata={"zero_shot": {"class_names": [*NAMES, "owl"], "templates": OWN}},
    )
    return folder


def images():
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 255, (3, 40, 50, 3)).astype("uint8"))


def names_and_scores(classifier):
    best = [b for found in classifier.predict(images()) for b in found]
    return [b.name for b in best], np.array([b.probability for b in best])


def test_it_is_that_of_the_parts(preset, model, tokenizer):
    converter = PEImageConverter(32, resize_mode="center_crop")
    parts = ZeroShotClassifier(model, tokenizer, NAMES, OWN, converter)
    found = ZeroShotClassifier.from_preset(preset, NAMES)
    assert found.templates == tuple(OWN)
    assert found.image_converter.resize_mode == "center_crop"
    names, scores = names_and_scores(parts)
    assert names_and_scores(found)[0] == names
    np.testing.assert_allclose(names_and_scores(found)[1], scores, atol=1e-5)


def test_without_names_it_takes_the_presets(preset, model, tokenizer):
    found = ZeroShotClassifier.from_preset(preset)
    assert found.class_names == [*NAMES, "owl"]
    slow = ZeroShotClassifier(model, tokenizer, found.class_names, OWN)
    # Half precision in the preset.
    np.testing.assert_allclose(found.class_matrix, slow.class_matrix, atol=1e-3)
    # Other templates, other vectors: those that were saved do not count.
    other = ZeroShotClassifier.from_preset(preset, templates=["{}"])
    slow = ZeroShotClassifier(model, tokenizer, found.class_names, ["{}"])
    np.testing.assert_allclose(other.class_matrix, slow.class_matrix, atol=1e-5)


def test_a_preset_that_knows_nothing(model, tokenizer, tmp_path):
    model.save_to_preset(
        tmp_path, tokenizer=tokenizer, image_converter=PEImageConverter(32)
    )
    found = ZeroShotClassifier.from_preset(tmp_path, NAMES)
    assert found.templates == TEMPLATES["general"]
    with pytest.raises(ValueError, match="knows no classes of its own"):
        ZeroShotClassifier.from_preset(tmp_path)


def test_vision_encoders_are_refused():
    with pytest.raises(CheckpointError, match="is a PESpatial, not a PECore"):
        keras_pe.ZeroShotClassifier.from_preset("PE-Spatial-T16-512", NAMES)
