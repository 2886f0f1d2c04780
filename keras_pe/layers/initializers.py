"""Initial weights, drawn by NumPy in pieces into the memory that the weight then uses.

A backend's own draw of a token embedding holds three to eight times its size at once,
and JAX compiles a program for each shape, which took longer than all else in building
a model and left more memory behind than a small one has weights.
"""

import contextlib
import math
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_pe.arrays import adopted, aligned_empty

PIECE = 2**20  # numbers that are drawn at once
Draw = Callable[[np.random.Generator, np.ndarray], None]


@keras.saving.register_keras_serializable("keras_pe")
class RandomNormal(keras.initializers.RandomNormal):
    """`keras.initializers.RandomNormal`; the same numbers on every backend.

    Args: those of `keras.initializers.RandomNormal`. With a `SeedGenerator` as seed,
    and in what is traced, Keras' own draws.

    Example:
        >>> import numpy as np
        >>> drawn = RandomNormal(stddev=0.02, seed=0)((1000, 100), "float32")
        >>> round(float(np.asarray(drawn).std()), 3)
        0.02
    """

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        def draw(generator: np.random.Generator, block: np.ndarray) -> None:
            generator.standard_normal(dtype="float32", out=block)
            block *= self.stddev
            block += self.mean

        if _is_left_to_keras(self.seed):
            return super().__call__(shape, dtype)
        return _drawn(self.seed, draw, shape, dtype)


@keras.saving.register_keras_serializable("keras_pe")
class GlorotUniform(keras.initializers.GlorotUniform):
    """`keras.initializers.GlorotUniform`; the same numbers on every backend.

    Args: those of `keras.initializers.GlorotUniform`. With a `SeedGenerator` as seed,
    for what is no matrix, and in what is traced, Keras' own draws.

    Example:
        >>> import numpy as np
        >>> drawn = GlorotUniform(seed=0)((300, 300), "float32")
        >>> float(np.abs(np.asarray(drawn)).max()) <= 0.1
        True
    """

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        if len(shape) != 2 or _is_left_to_keras(self.seed):
            return super().__call__(shape, dtype)
        limit = math.sqrt(6 / max(sum(shape), 2))
        return _drawn(self.seed, _uniform(limit), shape, dtype)


@keras.saving.register_keras_serializable("keras_pe")
class HeUniform(keras.initializers.HeUniform):
    """`keras.initializers.HeUniform`; the same numbers on every backend.

    Args: those of `keras.initializers.HeUniform`. Keras' own draws where they do for
    `GlorotUniform`.

    Example:
        >>> import numpy as np
        >>> drawn = HeUniform(seed=0)((600, 4), "float32")
        >>> float(np.abs(np.asarray(drawn)).max()) <= 0.1
        True
    """

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        if len(shape) != 2 or _is_left_to_keras(self.seed):
            return super().__call__(shape, dtype)
        limit = math.sqrt(6 / max(shape[0], 1))
        return _drawn(self.seed, _uniform(limit), shape, dtype)


def _uniform(limit: float) -> Draw:
    def draw(generator: np.random.Generator, block: np.ndarray) -> None:
        generator.random(dtype="float32", out=block)
        block *= 2 * limit
        block -= limit

    return draw


def _drawn(seed: int, draw: Draw, shape: Any, dtype: Any) -> Any:
    """Returns a tensor of numbers, drawn piece by piece."""
    kind = np.dtype(keras.backend.standardize_dtype(dtype or keras.config.floatx()))
    size = math.prod(shape)
    generator = np.random.Generator(np.random.Philox(seed % 2**64))
    drawn = np.empty(min(size, PIECE), np.float32)

    def pieces() -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, size, PIECE):
            piece = drawn[: size - start]
            draw(generator, piece)
            yield start, piece.astype(kind, copy=False)

    if keras.backend.backend() == "tensorflow" and size > PIECE:
        return keras.ops.reshape(_joined_by_tensorflow(pieces(), size, kind), shape)
    array = aligned_empty((size,), kind)
    for start, piece in pieces():
        array[start : start + len(piece)] = piece
    return keras.ops.convert_to_tensor(adopted(array.reshape(shape)), dtype=kind.name)


def _joined_by_tensorflow(
    pieces: Iterable[tuple[int, np.ndarray]], size: int, dtype: np.dtype
) -> Any:
    """Returns one tensor of all pieces.

    TensorFlow takes over no array: it copies it, and then once more to align it. Its
    variables alone can be written to. This one is of no strategy, and gone afterwards.
    """
    import tensorflow as tf

    with tf.device("CPU:0"):
        name = f"keras_pe_{uuid.uuid4()}"
        variable = tf.raw_ops.VarHandleOp(
            dtype=dtype.name, shape=[size], shared_name=name
        )
        tf.raw_ops.AssignVariableOp(
            resource=variable, value=tf.zeros([size], dtype.name)
        )
        for start, piece in pieces:
            tf.raw_ops.ResourceStridedSliceAssign(
                ref=variable,
                begin=[start],
                end=[start + len(piece)],
                strides=[1],
                value=tf.convert_to_tensor(piece),
            )
        tf.raw_ops.DisableCopyOnRead(resource=variable)
        joined = tf.raw_ops.ReadVariableOp(resource=variable, dtype=dtype.name)
        tf.raw_ops.DestroyResourceOp(resource=variable)
    return joined


def _is_left_to_keras(seed: Any) -> bool:
    if not isinstance(seed, int):
        return True
    if keras.backend.backend() == "torch":
        return False
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.executing_eagerly()
    import jax

    # Keras traces the initialiser of a large weight that is cut over devices: numbers
    # drawn here would become a constant of the compiled program, whole on each.
    return isinstance(jax.device_put(np.zeros(())), jax.core.Tracer)


# === Weights that have a shape and a dtype, and are never drawn ===
@contextlib.contextmanager
def without_allocation() -> Iterator[None]:
    """Makes variables that are built inside have a shape and a dtype, and no memory.

    It is what Keras itself does while it traces a model for the first time, less the
    moment afterwards when it fills the variables in. A 2.4-billion-parameter model is
    built so in a second, on any backend, and can be counted, laid out over devices,
    and on JAX traced and compiled. Reading such a variable outside a
    `keras.StatelessScope` that gives it a value would draw the value anew each time.

    Variables that are given a value rather than an initializer, as an optimizer's
    counters are, can't be made inside: make the optimizer outside, and call its
    `build` inside.

    Example:
        >>> from keras_pe import PEVisionEncoder
        >>> with without_allocation():
        ...     giant = PEVisionEncoder(hidden_dim=1536, num_layers=50, num_heads=16)
        >>> round(giant.count_params() / 1e9, 1)
        1.0
    """
    before = _pending()
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        # Keras notes variables without a value, to fill them all in when some later
        # scope closes. These must never be.
        _set_pending(before)


def _pending() -> list[Any]:
    from keras.src.backend.common import global_state

    return list(global_state.get_global_attribute("uninitialized_variables") or ())


def _set_pending(variables: list[Any]) -> None:
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("uninitialized_variables", variables)
