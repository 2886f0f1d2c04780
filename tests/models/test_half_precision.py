"""float16 runs on every backend's CPU, where a stock Keras layer may not."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.layers.attention import attend
from tests.small_models import core, images, perturb, token_ids

pytestmark = pytest.mark.quick
BACKEND = keras.backend.backend()


def cosines(a, b):
    a, b = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (a, b))
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_embeddings_are_those_of_float32(policy):
    exact, half = perturb(core()), perturb(core(dtype=policy))
    for name, inputs in (("encode_image", images()), ("encode_text", token_ids())):
        found = getattr(half, name)(inputs)
        assert cosines(found, getattr(exact, name)(inputs)).min() > 0.9999, name
    found = half.vision_encoder.features(images(), layers=2).values
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    assert (
        cosines(found, exact.vision_encoder.features(images(), 2).values).min() > 0.99
    )


@pytest.mark.compiled
@pytest.mark.slow
def test_a_step_under_mixed_float16_is_that_of_float32():
    moved = {}
    for policy in ("float32", "mixed_float16"):
        tower = perturb(core(dtype=policy)).vision_encoder
        kernel = tower.blocks[0].attention.qkv.kernel
        before = ops.convert_to_numpy(kernel).copy()
        # No scaling of the loss: two steps of a new scale would be left out.
        tower.compile(keras.optimizers.SGD(0.01), "mse", auto_scale_loss=False)
        tower.train_on_batch(images(), np.ones((2, 16), "float32"))
        moved[policy] = (ops.convert_to_numpy(kernel) - before).ravel()
    assert np.abs(moved["float32"]).max() > 1e-5
    assert cosines(moved["float32"], moved["mixed_float16"]) > 0.99


@pytest.mark.skipif(BACKEND != "jax", reason="the others compute all dtypes")
def test_jax_has_no_such_product_for_stock_layers():
    """If this fails, `kernel_is_missing` has had its day."""
    inputs = keras.Input((5, 8))
    layer = keras.layers.MultiHeadAttention(2, 4, dtype="mixed_float16")
    stock = keras.Model(inputs, layer(inputs, inputs))
    x = np.zeros((2, 5, 8), "float32")
    with pytest.raises(ValueError, match="not supported by dot_general on CPU"):
        stock.predict(x, verbose=0)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_float16_has_the_dtype_and_value_asked_for(causal):
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(3, 2, 6, 4, 8)).astype("float16")
    half = attend(*map(ops.convert_to_tensor, arrays), causal=causal)
    exact = attend(*map(ops.convert_to_tensor, arrays.astype("float32")), causal=causal)
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    np.testing.assert_allclose(
        ops.convert_to_numpy(half), ops.convert_to_numpy(exact), atol=1e-2
    )
