"""Constraints of weights, where an optimizer leaves them out."""

from collections.abc import Iterable
from typing import Any


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
