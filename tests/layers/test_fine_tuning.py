"""LoRA on quantised matrices: what a file holds, beside stock Keras layers."""

import keras
import numpy as np
import pytest

from keras_pe.layers.fine_tuning import Dense, adaptations
from tests.small_models import core

pytestmark = pytest.mark.quick
INPUTS, UNITS, RANK = 24, 10, 3
QUANTIZATIONS = ("int8", "int4", "int4 in blocks")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, INPUTS)).astype("float32")
KERNEL = RNG.normal(size=(INPUTS, UNITS)).astype("float32")
BIAS = RNG.normal(size=UNITS).astype("float32")
UPDATE = [RNG.normal(0, 0.3, s).astype("float32") for s in ((24, 3), (3, 10))]


def quantised(kind, mode, lora_rank=None):
    layer = kind(UNITS, name="layer")
    layer.build((None, INPUTS))
    layer.set_weights([KERNEL, BIAS])
    name, *blocks = mode.split(" in ")
    config = None
    if name == "int4":
        config = keras.quantizers.Int4QuantizationConfig(block_size=8 if blocks else -1)
    layer.quantize(name, config=config)
    if lora_rank is not None:
        layer.enable_lora(lora_rank, lora_alpha=2.0 * lora_rank)
        layer.lora_kernel_a.assign(UPDATE[0][:, :lora_rank])
        layer.lora_kernel_b.assign(UPDATE[1][:lora_rank])
    return layer


def saved(layer):
    store = {}
    layer.save_own_variables(store)
    return store


def values(layer):
    return {v.name: keras.ops.convert_to_numpy(v) for v in layer.variables}


@pytest.mark.parametrize("mode", QUANTIZATIONS)
def test_a_plain_layer_reads_the_sum_as_stock_keras_writes_it(mode):
    stock = quantised(keras.layers.Dense, mode)
    stock.load_own_variables(saved(quantised(keras.layers.Dense, mode, RANK)))
    adapted, ours = quantised(Dense, mode, RANK), quantised(Dense, mode)
    ours.load_own_variables(saved(adapted))
    expected = values(stock)
    found = values(ours)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(ours(X)), keras.ops.convert_to_numpy(stock(X))
    )
    # Rounded once more: as near as the whole numbers of that many bits come.
    exact = keras.ops.convert_to_numpy(adapted(X))
    error = np.abs(keras.ops.convert_to_numpy(ours(X)) - exact).max()
    assert error < {"int8": 0.02, "int4": 0.25}[mode.split()[0]] * np.abs(exact).max()
    assert error > 0


@pytest.mark.parametrize("mode", QUANTIZATIONS)
def test_a_layer_of_another_rank_takes_the_sum_and_begins_its_own(mode):
    plain, other = quantised(Dense, mode), quantised(Dense, mode, 2)
    store = saved(quantised(Dense, mode, RANK))
    first = keras.ops.convert_to_numpy(other.lora_kernel_a).copy()
    plain.load_own_variables(store)
    other.load_own_variables(store)
    assert other.lora_enabled
    assert other.lora_rank == 2
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(other(X)), keras.ops.convert_to_numpy(plain(X))
    )
    np.testing.assert_array_equal(
        first, keras.ops.convert_to_numpy(other.lora_kernel_a)
    )
    assert not keras.ops.convert_to_numpy(other.lora_kernel_b).any()


@pytest.mark.parametrize("mode", QUANTIZATIONS)
def test_a_layer_of_the_same_rank_takes_both_apart(mode):
    adapted, other = quantised(Dense, mode, RANK), quantised(Dense, mode, RANK)
    for variable in other.variables:
        variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
    other.load_own_variables(saved(adapted))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(other(X)), keras.ops.convert_to_numpy(adapted(X))
    )


def test_lora_and_float8_are_refused_together_before_anything_is_changed():
    layer = Dense(UNITS, name="layer")
    layer.build((None, INPUTS))
    layer.enable_lora(RANK)
    with pytest.raises(ValueError, match="merge_lora"):
        layer.quantize("float8")
    with pytest.raises(ValueError, match="no float8 product with LoRA"):
        quantised(Dense, "float8", RANK)
    model = core(num_layers=1)
    model.text_encoder.enable_lora(RANK)
    for arguments in (("float8",), ()):
        config = None if arguments else keras.quantizers.Float8QuantizationConfig()
        with pytest.raises(ValueError, match="merge_lora"):
            model.quantize(*arguments, config=config)
    assert not any(entry.get("quantization") for entry in adaptations(model).values())
