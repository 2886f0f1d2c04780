"""KerasHub's tasks on our backbones: fit, predict, save, load."""

import keras
import numpy as np
import pytest

pytest.importorskip("keras_hub", reason="needs keras-pe[kerashub]")
import keras_hub

import keras_pe
from keras_pe.kerashub import (
    PEBackbone,
    PEImageClassifier,
    PEImageClassifierPreprocessor,
    PEImageConverter,
    PEPyramidBackbone,
    PERetinaNetObjectDetector,
)
from recipes.detection.scenes import scenes
from tests.arrays import to_numpy
from tests.kerashub.hub_models import SIDE, largest_difference, save
from tests.small_models import images, perturb, vision_encoder


def digits():
    """Returns drawn digits as pictures, in an order of no meaning, and their names."""
    found = pytest.importorskip("sklearn.datasets").load_digits()
    pictures = (found.images * 255 / 16).astype("uint8")[..., None].repeat(3, axis=-1)
    return pictures, found.target


@pytest.mark.compiled
def test_digits_are_learnt():
    pictures, names = digits()
    classifier = keras_hub.models.ImageClassifier(
        PEBackbone.from_preset(
            "pe_core_emoji_patch8_64", layers=2, image_shape=(32, 32, 3)
        ),
        num_classes=10,
        preprocessor=PEImageClassifierPreprocessor(PEImageConverter(32)),
    )
    classifier.compile(keras.optimizers.Adam(1e-3))
    classifier.fit(pictures[:1024], names[:1024], batch_size=32, epochs=2, verbose=0)
    found = classifier.predict(pictures[1024:1280], batch_size=64, verbose=0)
    # 0.91 on PyTorch; a tenth is chance.
    assert (found.argmax(1) == names[1024:1280]).mean() > 0.75


# === Presets of classifiers ===
def test_a_classifier_from_our_preset_is_saved_and_loaded(tmp_path):
    save(tmp_path / "ours")
    classifier = PEImageClassifier.from_preset(
        tmp_path / "ours", num_classes=3, layers=1, image_shape=(16, 32, 3), dropout=0.1
    )
    assert classifier.backbone.num_layers == 1
    assert classifier.preprocessor.image_size == (16, 32)
    perturb(classifier)
    classifier.backbone.enable_lora(2)
    # The updates of four matrices, and the classes' matrix and bias.
    assert len(classifier.trainable_variables) == 4 * 2 + 2
    classifier.compile(keras.optimizers.Adam(0.02))
    pictures, names = digits()
    classifier.fit(pictures[:8], names[:8] % 3, batch_size=8, verbose=0)
    expected = classifier.predict(pictures[:5], verbose=0)
    classifier.save_to_preset(str(tmp_path / "hub"))
    for load in (keras_hub.models.ImageClassifier, PEImageClassifier):
        again = load.from_preset(str(tmp_path / "hub"))
        assert type(again) is PEImageClassifier
        np.testing.assert_array_equal(again.predict(pictures[:5], verbose=0), expected)
        assert len(again.trainable_variables) == 4 * 2 + 2
    more = PEImageClassifier.from_preset(tmp_path / "hub", num_classes=5)
    assert more.predict(pictures[:2], verbose=0).shape == (2, 5)
    x = images(2, 16, 32)
    assert largest_difference(more.backbone(x), classifier.backbone(x)) == 0

    preprocessors = (
        keras_hub.models.ImageClassifierPreprocessor,
        PEImageClassifierPreprocessor,
    )
    for load in preprocessors:
        found = load.from_preset(str(tmp_path / "hub"))
        assert type(found) is PEImageClassifierPreprocessor
        changed, labels = found(pictures[:2], y=names[:2])
        np.testing.assert_array_equal(
            to_numpy(changed), keras_pe.PEImageConverter((16, 32))(pictures[:2])
        )
        np.testing.assert_array_equal(to_numpy(labels), names[:2])


def test_a_classifier_on_the_preset_of_a_backbone(tmp_path):
    backbone = PEBackbone.from_encoder(perturb(vision_encoder()))
    backbone.save_to_preset(str(tmp_path))
    PEImageConverter(SIDE).save_to_preset(str(tmp_path))
    load = keras_hub.models.ImageClassifier.from_preset
    classifier = load(str(tmp_path), num_classes=4, pooling="max")
    pictures, _ = digits()
    assert classifier.predict(pictures[:2], verbose=0).shape == (2, 4)
    assert largest_difference(classifier.backbone(images()), backbone(images())) == 0


def test_a_classifier_without_converter(tmp_path):
    perturb(vision_encoder()).save_to_preset(tmp_path, keras_pe.PEImageConverter(SIDE))
    classifier = PEImageClassifier.from_preset(
        tmp_path, preprocessor=None, num_classes=2
    )
    assert classifier.predict(images(), verbose=0).shape == (2, 2)
    with pytest.raises(TypeError, match="num_classes"):
        PEImageClassifier.from_preset(tmp_path)


# === Detectors ===
def detector(**options):
    encoder = perturb(vision_encoder())
    return PERetinaNetObjectDetector(
        PEPyramidBackbone.from_encoder(
            encoder, image_shape=(64, 64, 3), scales=(1, 0.5), **options
        ),
        num_classes=8,
        bounding_box_format="xyxy",
        pre_logits_num_conv_layers=1,
    )


@pytest.mark.compiled
def test_a_detector_takes_a_step_and_detects():
    model = detector(top_level=True)
    model.compile(keras.optimizers.SGD(0.01))
    pictures, objects = scenes(2, side=64, seed=0)
    before = [to_numpy(v) for v in model.trainable_variables]
    history = model.fit(pictures, objects, batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    moved = [
        not np.array_equal(a, to_numpy(b))
        for a, b in zip(before, model.trainable_variables, strict=True)
    ]
    # All but what no prediction depends on: the class token's own last steps.
    assert np.mean(moved) > 0.9
    found = model.predict(pictures, verbose=0)
    assert found["boxes"].shape[::2] == (2, 4)
    assert np.isfinite(found["boxes"]).all()


def test_a_detector_is_saved_and_loaded(tmp_path):
    model = detector()
    model.save_to_preset(str(tmp_path))
    pictures, _ = scenes(2, side=64, seed=0)
    for load in (
        keras_hub.models.ObjectDetector,
        keras_hub.models.RetinaNetObjectDetector,
        PERetinaNetObjectDetector,
    ):
        again = load.from_preset(str(tmp_path))
        assert type(again) is PERetinaNetObjectDetector
        assert largest_difference(again(pictures), model(pictures)) == 0
