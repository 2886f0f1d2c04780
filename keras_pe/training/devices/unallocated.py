"""Models whose weights have shapes and dtypes but no values."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


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
