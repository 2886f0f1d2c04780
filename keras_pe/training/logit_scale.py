"""The learned factor of the cosines: kept below a limit without losing its gradient."""

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_pe")
class LogitScaleLimit(keras.constraints.Constraint):
    """Keeps the logarithm of a logit scale at or below that of a limit.

    A constraint is applied by the optimizer after its step, on all backends. A clamp in
    the loss alone would latch: beyond the limit its gradient is zero, so a scale that a
    step has carried too far could never come down.

    Args:
        max_logit_scale: largest factor of the cosines, 100 in CLIP and the paper.

    Raises:
        ValueError: unless the limit is above 1.

    Source: Radford et al. 2021, section 2.5; open_clip clamps its parameter likewise.

    Example:
        >>> limit = LogitScaleLimit(100.0)
        >>> round(float(limit(ops.convert_to_tensor(5.0))), 3)  # ln 100
        4.605
    """

    def __init__(self, max_logit_scale: float) -> None:
        if not 1.0 < max_logit_scale < math.inf:
            raise ValueError(f"max_logit_scale must be above 1, got {max_logit_scale}.")
        self.max_logit_scale = float(max_logit_scale)

    def __call__(self, log_scale: Any) -> Any:
        log_scale = ops.convert_to_tensor(log_scale)
        return ops.minimum(
            log_scale, ops.cast(math.log(self.max_logit_scale), log_scale.dtype)
        )

    def get_config(self) -> dict[str, Any]:
        return {"max_logit_scale": self.max_logit_scale}


def clamped_scale(log_scale: Any, limit: LogitScaleLimit | None) -> Any:
    """Returns exp of the logarithm, at most the limit, with the gradient kept.

    A scale above the limit (a weight that was assigned, an average of weights) counts
    as the limit, and its gradient is that at the limit: it can come down again.

    Args:
        log_scale: scalar, variable or tensor.
        limit: None for no limit.
    """
    log_scale = ops.convert_to_tensor(log_scale)
    if limit is not None:
        log_scale = log_scale + ops.stop_gradient(limit(log_scale) - log_scale)
    return ops.exp(log_scale)
