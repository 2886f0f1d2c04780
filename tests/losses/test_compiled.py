"""Chunked losses inside compiled steps, as `fit` runs them, and what they hold."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.losses import chunked_softmax_contrastive_loss
from tests.losses import float64
from tests.losses.cases import IDS, SAME_CAPTION, X, Y, case
from tests.losses.embeddings import unit
from tests.losses.gradients import largest_difference

BACKEND = keras.backend.backend()
SCALE = np.float32(16)


def loss(x, y, scale, ids):
    return chunked_softmax_contrastive_loss(
        x, y, scale, chunk_size=7, caption_ids=ids, duplicates="ignore"
    )


def as_numpy(value, gradients):
    return float(value), [np.asarray(g, "float64") for g in gradients]


@pytest.mark.skipif(BACKEND != "jax", reason="jit is JAX's")
@pytest.mark.parametrize("name", ["softmax, ignore", "sigmoid, ignore", "distillation"])
def test_jax_differentiates_what_is_compiled(name):
    import jax

    it = case(name, 16.0)

    @jax.jit
    def compiled(inputs, rows):
        return it.chunked(*inputs, **rows, **it.options, chunk_size=7)

    rows = {key: ops.convert_to_tensor(value) for key, value in it.rows.items()}
    found = as_numpy(*jax.value_and_grad(compiled)(it.inputs, rows))
    assert largest_difference(found, it.expected, it.expected) < 1e-6


@pytest.mark.skipif(BACKEND != "jax", reason="jit is JAX's")
def test_jax_keeps_the_loop_and_never_holds_the_matrix():
    import jax

    x, y = unit(0, count=96), unit(1, count=96)
    ids = np.arange(96, dtype="int32")
    step = jax.value_and_grad(
        lambda *inputs: chunked_softmax_contrastive_loss(*inputs, chunk_size=4), (0, 1)
    )
    program = str(jax.make_jaxpr(step)(x, y, SCALE))
    assert program.count("dot_general") == 4  # one forward, three backward
    assert "f32[4,96]" in program
    assert "f32[96,96]" not in program
    assert "f32[96,96]" in str(
        jax.make_jaxpr(lambda a: loss(a, a, SCALE, ids) * a @ a.T)(x)
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function is TensorFlow's")
@pytest.mark.parametrize("rows", [24, None], ids=["known batch", "unknown batch"])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "XLA"])
@pytest.mark.compiled
def test_tensorflow_function(rows, jit_compile):
    import tensorflow as tf

    matrix = tf.TensorSpec((rows, 16), "float32")
    signature = [matrix, matrix, tf.TensorSpec((), "float32")]
    signature.append(tf.TensorSpec((rows,), "int32"))

    @tf.function(input_signature=signature, jit_compile=jit_compile)
    def step(x, y, scale, ids):
        with tf.GradientTape() as tape:
            tape.watch([x, y, scale])
            value = loss(x, y, scale, ids)
        return value, tape.gradient(value, [x, y, scale])

    for count in (24,) if rows else (24, 21, 5):
        x, y, ids = X[:count], Y[:count], IDS[:count]
        found = as_numpy(*step(x, y, SCALE, ids))
        left_out = SAME_CAPTION[:count, :count]
        expected = float64.softmax_contrastive(x, y, float(SCALE), left_out)
        assert largest_difference(found, expected, expected) < 1e-6


@pytest.mark.skipif(BACKEND != "torch", reason="only PyTorch counts references")
def test_torch_frees_what_the_backward_pass_kept():
    import gc
    import weakref

    gc.disable()
    try:
        x = ops.convert_to_tensor(unit(0)).requires_grad_()
        value = loss(x, x, SCALE, IDS)
        value.backward()
        kept = weakref.ref(x)
        del x, value
        assert kept() is None
    finally:
        gc.enable()
