"""What alignment starts from: the same function, with fewer blocks or LayerScale."""

import numpy as np
import pytest

from keras_pe import PELang, PESpatial
from keras_pe.models.aligned import language_layers
from tests.arrays import to_numpy
from tests.small_models import core as dual_encoder
from tests.small_models import images, perturb, vision_encoder

pytestmark = pytest.mark.quick


def tokens_of(encoder, layer=-1):
    return to_numpy(encoder.features(images(), layer, class_token=True).values)


@pytest.mark.parametrize("class_token", [True, False])
def test_folded_layer_scale_is_the_same_function(class_token):
    core = perturb(vision_encoder(class_token=class_token))
    spatial = PESpatial.from_core(core)
    assert isinstance(spatial, PESpatial)
    assert (spatial.layer_scale, spatial.drop_path) == (0.1, 0.4)
    for block in spatial.blocks:
        for scale in (block.attention_scale, block.feed_forward_scale):
            np.testing.assert_allclose(to_numpy(scale.scale), 0.1)
    features = (encoder.features(images(), -1) for encoder in (core, spatial))
    expected, found = (to_numpy(f.values) for f in features)
    difference = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert difference < 1e-5
    assert all(weight.trainable for weight in spatial.weights)


def test_layer_scale_that_is_not_folded_is_another_function():
    core = perturb(vision_encoder())
    naive = PESpatial.from_core(core, rescale=False)
    expected, found = tokens_of(core), tokens_of(naive)
    assert np.linalg.norm(found - expected) > 0.1 * np.linalg.norm(expected)


def test_without_layer_scale_weights_are_the_cores():
    core = perturb(vision_encoder())
    spatial = PESpatial.from_core(core, layer_scale=None, drop_path=0.2)
    assert spatial.layer_scale is None
    np.testing.assert_array_equal(tokens_of(spatial), tokens_of(core))
    for ours, theirs in zip(spatial.weights, core.weights, strict=False):
        assert ours is not theirs


def test_an_encoder_with_layer_scale_keeps_its_own():
    core = perturb(vision_encoder(layer_scale=0.5))
    spatial = PESpatial.from_core(core, layer_scale=0.1)
    assert spatial.layer_scale == 0.5
    np.testing.assert_array_equal(tokens_of(spatial), tokens_of(core))


def test_windows_and_frozen_weights():
    core = perturb(vision_encoder(window_size=2, global_blocks=(3,)))
    core.trainable = False
    spatial = PESpatial.from_core(core)
    assert (spatial.window_size, spatial.global_blocks) == (2, (3,))
    assert len(spatial.trainable_weights) == len(spatial.weights)
    np.testing.assert_allclose(tokens_of(spatial), tokens_of(core), atol=1e-4)


# === For a language model ===
def test_blocks_that_stay_for_language():
    assert [language_layers(n) for n in (50, 24, 12, 6, 2, 1)] == [47, 23, 11, 5, 1, 1]
    lang = PELang.from_core(vision_encoder(num_layers=6))
    assert lang.num_layers == 5
    np.testing.assert_allclose(lang.drop_path_rates(), np.linspace(0.0, 0.1, 5))


def test_truncated_and_folded_is_the_inner_layer():
    core = perturb(vision_encoder())
    lang = PELang.from_core(core, layers=2, drop_path=0.3)
    assert lang.drop_path_rates() == [0.0, 0.3]
    expected = tokens_of(core, 2)
    difference = np.linalg.norm(tokens_of(lang) - expected)
    assert difference < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_scale": 0.0}, "layer_scale must be more than 0"),
        ({"layer_scale": float("inf")}, "layer_scale must be more than 0"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PESpatial.from_core(vision_encoder(), **options)


@pytest.mark.parametrize("given", [None, "pe_core_base_patch16_224", "dual"])
def test_what_is_no_vision_encoder_is_refused(given):
    if given == "dual":
        given = dual_encoder()
    for cls in (PESpatial, PELang):
        with pytest.raises(TypeError, match="needs a vision encoder"):
            cls.from_core(given)


def test_what_is_adapted_is_refused():
    core = vision_encoder()
    core.enable_lora(2)
    with pytest.raises(ValueError, match="LoRA"):
        PESpatial.from_core(core)


def test_it_is_saved_as_a_preset(tmp_path):
    spatial = PESpatial.from_core(perturb(vision_encoder()))
    spatial.save_to_preset(tmp_path / "spatial")
    again = PESpatial.from_preset(str(tmp_path / "spatial"))
    np.testing.assert_array_equal(tokens_of(again), tokens_of(spatial))
