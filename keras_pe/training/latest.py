"""A metric that says what the last step gave: no average over an epoch."""

from typing import Any

import keras
from keras import ops


class Latest(keras.metrics.Metric):
    """Holds the last value it was given.

    Args:
        name: name in the logs.

    Example:
        >>> metric = Latest("logit_scale")
        >>> metric.update_state(3.0); metric.update_state(4.0); float(metric.result())
        4.0
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.value = self.add_variable(
            shape=(), initializer="zeros", aggregation="mean", name="value"
        )

    def update_state(self, value: Any, sample_weight: Any = None) -> None:
        value = ops.convert_to_tensor(value, self.value.dtype)
        self.value.assign(ops.stop_gradient(value))

    def result(self) -> Any:
        return ops.convert_to_tensor(self.value)
