"""Layer-wise decay: the factors by hand, and what a step makes of them."""

import keras
import numpy as np
import pytest

from keras_pe.training.optimizers.layer_decay import layer_decay_rates
from keras_pe.training.optimizers.part_rates import PartAdamW
from tests.arrays import to_numpy
from tests.small_models import core

pytestmark = pytest.mark.quick


def by_hand(path):
    """The factor of each weight of `small_models.core`, of decay 0.5."""
    tower, _, rest = path.partition("/")
    part = rest.split("/")[0]
    early = ("patch_embedding", "pre_norm", "token_embedding", "position_embedding")
    if tower == "pe_vision_encoder":  # two blocks
        found = {"block_2": 0.5, "block_1": 0.25} | dict.fromkeys(early, 0.125)
    elif tower == "pe_text_encoder":  # one
        found = {"block_1": 0.5} | dict.fromkeys(early, 0.25)
    else:
        found = {}
    return found.get(part, 1.0)


def test_every_weight_moves_by_its_factor():
    model = core()
    rates = layer_decay_rates(model, 0.5)
    optimizer = PartAdamW(1e-2, weight_decay=0.0, part_rates=rates)
    weights = model.trainable_variables
    before = [to_numpy(weight).copy() for weight in weights]
    # Adam's first step is the rate itself, whatever the gradient.
    optimizer.apply([keras.ops.ones(weight.shape) for weight in weights], weights)
    found = {by_hand(weight.path) for weight in weights}
    assert found == {1.0, 0.5, 0.25, 0.125}
    for weight, old in zip(weights, before, strict=True):
        moved = np.abs(to_numpy(weight) - old)
        expected = 1e-2 * by_hand(weight.path)
        np.testing.assert_allclose(moved, expected, rtol=1e-3, err_msg=weight.path)


def test_parts_that_are_not_trained_have_no_factor():
    model = core()
    model.text_encoder.trainable = False
    rates = layer_decay_rates(model, 0.5)
    assert rates
    assert not any("text" in part for part in rates)
    model = core()
    model.enable_lora(2)
    rates = layer_decay_rates(model, 0.5)
    assert sorted(rates.values()) == [0.25, 0.5, 0.5]  # blocks alone
    PartAdamW(1e-2, part_rates=rates).build(model.trainable_variables)


def test_no_decay_and_impossible_ones():
    assert layer_decay_rates(core(), 1.0) == {}
    for decay in (0.0, -0.5, 1.1, float("nan")):
        with pytest.raises(ValueError, match="at most 1"):
            layer_decay_rates(core(), decay)
