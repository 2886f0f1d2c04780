"""Weights between two models, against the sum written out, and as models."""

import keras
import numpy as np
import pytest

from keras_pe.finetuning.pairs.interpolation import (
    assign_weights,
    interpolated,
    weights_of,
)
from tests.arrays import to_numpy
from tests.small_models import core, images, token_ids

pytestmark = pytest.mark.quick


def two_models():
    keras.utils.set_random_seed(0)
    first = core()
    keras.utils.set_random_seed(1)
    return first, core()


def test_the_sum_of_each_weight():
    before, after = map(weights_of, two_models())
    half = interpolated(before, after, 0.3)
    for old, new, found in zip(before, after, half, strict=True):
        expected = [
            0.7 * float(a) + 0.3 * float(b)
            for a, b in zip(old.ravel(), new.ravel(), strict=True)
        ]
        assert found.dtype == old.dtype
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6, atol=1e-7)
    for alpha, weights in ((0.0, before), (1.0, after)):
        for found, same in zip(
            interpolated(before, after, alpha), weights, strict=True
        ):
            np.testing.assert_array_equal(found, same)


def test_a_model_computes_with_the_weights_it_is_given():
    """The compiled encoder sees weights that are assigned after its first call."""
    before, after = two_models()
    old, new = weights_of(before), weights_of(after)
    x, ids = images(2), token_ids(2)
    wanted = to_numpy(after.encode_image(x)), to_numpy(after.encode_text(ids))
    first = to_numpy(before.encode_image(x))
    assign_weights(before, interpolated(old, new, 1.0))
    np.testing.assert_allclose(to_numpy(before.encode_image(x)), wanted[0], atol=1e-5)
    np.testing.assert_allclose(to_numpy(before.encode_text(ids)), wanted[1], atol=1e-5)
    assign_weights(before, old)
    np.testing.assert_allclose(to_numpy(before.encode_image(x)), first, atol=1e-5)
    assert np.abs(first - wanted[0]).max() > 1e-2


def test_between_merged_updates_is_a_smaller_update():
    """Half of the way to merged LoRA is LoRA of half the alpha, merged."""
    model, _ = two_models()
    tower = model.vision_encoder
    before = weights_of(tower)
    tower.enable_lora(2, alpha=4.0)
    rng = np.random.default_rng(0)
    for variable in tower.trainable_variables:
        if variable.name.startswith("lora"):
            variable.assign(rng.normal(size=tuple(variable.shape)).astype("float32"))
    merged = weights_of(tower.merge_lora())
    assert not all(np.array_equal(*both) for both in zip(before, merged, strict=True))
    names = [weight.path for weight in core().vision_encoder.weights]
    half = interpolated(before, merged, 0.5)
    for layer in tower._flatten_layers():
        if getattr(layer, "lora_enabled", False):
            layer.lora_alpha = layer.lora_alpha / 2
    expected = weights_of(tower.merge_lora())
    for name, found, wanted in zip(names, half, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=name)


def test_what_is_not_between():
    one, two = [np.zeros(2)], [np.zeros(3)]
    with pytest.raises(ValueError, match="expected 0"):
        interpolated(one, one, 1.5)
    with pytest.raises(ValueError, match="Merge LoRA first"):
        interpolated(one, two, 0.5)
