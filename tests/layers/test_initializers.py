"""Initial weights: distributions, seeds, dtypes, and what a draw holds at once."""

import tracemalloc
from typing import Any

import keras
import numpy as np
import pytest

from keras_pe.layers.fine_tuning import Dense
from keras_pe.layers.initializers import (
    PIECE,
    GlorotUniform,
    HeUniform,
    RandomNormal,
)

pytestmark = pytest.mark.quick


def numbers(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def test_normal_numbers_have_their_mean_and_deviation() -> None:
    drawn = numbers(RandomNormal(mean=1.0, stddev=0.5, seed=1)((400, 500), "float32"))
    assert drawn.mean() == pytest.approx(1.0, abs=0.005)
    assert drawn.std() == pytest.approx(0.5, abs=0.005)
    within = (np.abs(drawn - 1.0) < 0.5).mean()
    assert within == pytest.approx(0.6827, abs=0.005)


def test_uniform_numbers_fill_the_range_of_keras_own() -> None:
    drawn = numbers(GlorotUniform(seed=1)((300, 500), "float32"))
    theirs = numbers(keras.initializers.GlorotUniform(seed=1)((300, 500), "float32"))
    limit = (6 / 800) ** 0.5
    assert limit * 0.999 < np.abs(drawn).max() <= limit
    assert drawn.mean() == pytest.approx(0.0, abs=1e-3)
    assert drawn.std() == pytest.approx(theirs.std(), rel=0.01)


def test_lora_begins_as_in_keras_and_alike_on_every_backend() -> None:
    drawn = numbers(HeUniform(seed=1)((1000, 30), "float32"))
    theirs = numbers(keras.initializers.HeUniform(seed=1)((1000, 30), "float32"))
    assert np.abs(drawn).max() <= (6 / 1000) ** 0.5
    assert drawn.std() == pytest.approx(theirs.std(), rel=0.02)
    keras.utils.set_random_seed(5)
    layer = Dense(4)
    layer.build((None, 3))
    layer.enable_lora(2)
    found = numbers(layer.lora_kernel_a)
    expected = [[-0.348957, -1.254774], [1.274886, -1.070873], [0.231498, -0.359555]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not numbers(layer.lora_kernel_b).any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("cls", [RandomNormal, GlorotUniform, HeUniform])
def test_pieces_are_the_numbers_drawn_at_once(cls: Any, dtype: str) -> None:
    initializer = cls(seed=7)
    shape = (PIECE // 512 + 3, 512)  # two pieces, the second one small
    generator = np.random.Generator(np.random.Philox(7))
    if cls is RandomNormal:
        whole = generator.standard_normal(shape, "float32") * np.float32(0.05)
    else:
        limit = (6 / (shape[0] if cls is HeUniform else sum(shape))) ** 0.5
        whole = generator.random(shape, "float32") * np.float32(2 * limit)
        whole -= np.float32(limit)
    drawn = initializer(shape, dtype)
    assert keras.backend.standardize_dtype(drawn.dtype) == dtype
    np.testing.assert_array_equal(
        numbers(drawn), whole.astype(np.dtype(dtype)).astype("float32")
    )
    np.testing.assert_array_equal(numbers(initializer(shape, dtype)), numbers(drawn))


def test_layers_differ_and_a_global_seed_repeats_them() -> None:
    def kernels() -> list[np.ndarray]:
        keras.utils.set_random_seed(3)
        layers = [Dense(4), Dense(4)]
        for layer in layers:
            layer.build((None, 6))
        return [numbers(layer.kernel) for layer in layers]

    first, second = kernels(), kernels()
    assert not np.array_equal(first[0], first[1])
    np.testing.assert_array_equal(first, second)


def test_a_configuration_makes_the_same_numbers() -> None:
    layer = Dense(4, kernel_initializer=RandomNormal(stddev=0.1, seed=5))
    layer.build((None, 6))
    again = Dense.from_config(layer.get_config())
    again.build((None, 6))
    assert type(again.kernel_initializer) is RandomNormal
    np.testing.assert_array_equal(numbers(again.kernel), numbers(layer.kernel))


def test_a_drawn_weight_can_be_changed() -> None:
    variable = keras.Variable(RandomNormal(seed=2), shape=(64, 32), dtype="bfloat16")
    before = numbers(variable.value)
    variable.assign_add(keras.ops.ones((64, 32), "bfloat16"))
    np.testing.assert_allclose(numbers(variable.value), before + 1, atol=0.01)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_draw_holds_little_beside_the_weight(dtype: str) -> None:
    initializer, shape = RandomNormal(seed=2), (8 * PIECE // 64, 64)
    size = 8 * PIECE * np.dtype(dtype).itemsize
    initializer(shape, dtype)
    tracemalloc.start()
    initializer(shape, dtype)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size + 8 * PIECE + 2**20


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone traces so")
def test_traced_draws_are_no_constants() -> None:
    import jax

    initializer = RandomNormal(stddev=0.5, seed=2)
    traced = jax.make_jaxpr(lambda: initializer((300, 100), "float32"))()
    assert not any(np.size(constant) > 100 for constant in traced.consts)
    drawn = numbers(jax.jit(lambda: initializer((300, 100), "float32"))())
    assert drawn.std() == pytest.approx(0.5, abs=0.01)


def test_what_keras_takes_is_taken() -> None:
    assert numbers(RandomNormal(seed=-1)((2, 2), "float32")).std() > 0
    assert numbers(GlorotUniform(seed=1)((0, 0), "float32")).shape == (0, 0)
