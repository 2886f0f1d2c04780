"""Weights between those before a fine-tuning and those after it."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

Weights = list[np.ndarray]


def weights_of(model: keras.Model) -> Weights:
    """Returns a copy of a model's weights, in their order.

    Args:
        model: a built model.
    """
    return [np.array(ops.convert_to_numpy(weight)) for weight in model.weights]


def interpolated(
    before: Sequence[np.ndarray], after: Sequence[np.ndarray], alpha: float
) -> Weights:
    """Returns `(1 - alpha) * before + alpha * after`, weight by weight.

    With alpha 0 and 1 these are the very weights before and after.

    Args:
        before: weights before fine-tuning.
        after: weights after it, of the same shapes.
        alpha: 0 to 1.

    Returns:
        The weights, each of its own dtype; sums are float64.

    Raises:
        ValueError: if alpha is not 0 to 1, or the weights are not of one model.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT),
        section 3.

    Example:
        >>> interpolated([np.zeros(2)], [np.array([1.0, 2.0])], 0.5)
        [array([0.5, 1. ])]
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha}: expected 0 (before) to 1 (fine-tuned).")
    shapes = [[weight.shape for weight in weights] for weights in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{len(before)} weights before and {len(after)} after are not of one "
            "architecture. Merge LoRA first (merge_lora)."
        )
    if alpha in (0, 1):
        return [np.array(weight) for weight in (after if alpha else before)]
    return [
        ((1 - alpha) * old.astype("float64") + alpha * new).astype(old.dtype)
        for old, new in zip(before, after, strict=True)
    ]


def assign_weights(model: keras.Model, weights: Sequence[np.ndarray]) -> None:
    """Gives a model the weights that `weights_of` or `interpolated` returned."""
    for variable, value in zip(model.weights, weights, strict=True):
        variable.assign(value)
