"""Which settings of a trained head make sense."""

from collections.abc import Iterable
from typing import Any

from keras_pe.arrays import is_number


def checked_rates(learning_rates: Any) -> tuple[float, ...]:
    """Returns the learning rates to choose from.

    Raises:
        ValueError: if they are no list, or an empty one, or one is no finite number
            above 0.

    Example:
        >>> checked_rates([1e-3, 3e-3])
        (0.001, 0.003)
    """
    listed = isinstance(learning_rates, Iterable)
    rates = tuple(learning_rates) if listed else ()
    if not rates or not all(is_number(rate) and rate > 0 for rate in rates):
        raise ValueError(
            f"learning_rates must be a list of at least one number above 0, such as "
            f"(1e-3,), got {learning_rates!r:.80}."
        )
    return rates


def check_weight_decay(weight_decay: Any) -> None:
    """Raises ValueError if a weight decay is no finite number of at least 0.

    Example:
        >>> check_weight_decay(0.01)
    """
    if not is_number(weight_decay) or weight_decay < 0:
        raise ValueError(
            f"weight_decay must be a number of at least 0, got {weight_decay!r:.80}. "
            f"0 is none."
        )
