"""Averages of weights, when they take the place of these, and constraints there."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras


def constrain(variables: Iterable[Any]) -> None:
    """Applies the constraints of weights, as an optimizer does after each update.

    Optimizers leave out the averages (`use_ema`) that they put in the place of weights
    at the end of training: those are taken before updates are constrained.

    Args:
        variables: Keras variables; changed.

    Example:
        >>> import keras
        >>> weight = keras.Variable([3.0, -1.0])
        >>> weight.constraint = keras.constraints.NonNeg()
        >>> constrain([weight])
        >>> keras.ops.convert_to_numpy(weight).tolist()
        [3.0, 0.0]
    """
    for variable in variables:
        if variable.constraint is not None:
            variable.assign(variable.constraint(variable))


@contextlib.contextmanager
def averages_put_in_once(trainer: keras.Model) -> Iterator[None]:
    """Puts averages (`use_ema`) in the place of weights when the block ends well.

    `fit` does so whenever it ends. A run is many calls of it: a later stage would go on
    from the average, and a run that was stopped there and resumed would not.

    Args:
        trainer: a compiled model.
    """
    optimizer = trainer.optimizer
    optimizer.finalize_variable_values = lambda variables: None  # hides the method
    try:
        yield
    finally:
        del optimizer.finalize_variable_values
    optimizer.finalize_variable_values(trainer.trainable_variables)
    constrain(trainer.trainable_variables)
