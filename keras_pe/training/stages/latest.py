"""A metric of what the last training step gave, and of all batches in an evaluation."""

from typing import Any

import keras
from keras import ops


class Latest(keras.metrics.Metric):
    """Holds the last value it was given, or the mean of the values of an evaluation.

    A training step changes the model, so the last value is what describes it. In an
    evaluation all batches describe one model, and each counts with its rows.

    Args:
        name: name in the logs.

    Example:
        >>> metric = Latest("logit_scale")
        >>> metric.update_state(3.0); metric.update_state(4.0); float(metric.result())
        4.0
        >>> metric.reset_state()
        >>> metric.add(3.0, rows=30); metric.add(4.0, rows=10); float(metric.result())
        3.25
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        # Not "sum", Keras' default: replicas of TensorFlow assign old value + new, and
        # the sum over replicas of that counts the old value several times.
        self.total, self.count = (
            self.add_variable(
                shape=(), initializer="zeros", aggregation="mean", name=name
            )
            for name in ("total", "count")
        )

    def update_state(self, value: Any, sample_weight: Any = None) -> None:
        """Takes the value of a training step in place of those before."""
        value = ops.convert_to_tensor(value, self.total.dtype)
        self.total.assign(ops.stop_gradient(value))
        self.count.assign(ops.ones_like(value))

    def add(self, value: Any, rows: Any) -> None:
        """Adds the value of an evaluation's batch, which counts with its rows."""
        value = ops.convert_to_tensor(value, self.total.dtype)
        rows = ops.cast(rows, self.total.dtype)
        self.total.assign_add(ops.stop_gradient(value) * rows)
        self.count.assign_add(rows)

    def record(self, value: Any, rows: Any, training: bool) -> None:
        """Takes a training step's value, or adds that of an evaluation's batch."""
        if training:
            self.update_state(value)
        else:
            self.add(value, rows)

    def result(self) -> Any:
        count = ops.convert_to_tensor(self.count)
        return ops.convert_to_tensor(self.total) / ops.maximum(count, 1.0)
