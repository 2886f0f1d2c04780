"""The loss of a language model on answers: next tokens, and no others."""

from typing import Any

from keras import ops


def answer_loss(
    logits: Any,  # (batch, slots, vocabulary)
    targets: Any,  # (batch, slots)
    weights: Any,  # (batch, slots)
    total: Any = None,  # ()
) -> Any:
    """Returns the mean over tokens of answers of what the right one costs, in nats.

    Slots are the places of answers alone, which `keras_pe.data.packing` finds: what
    stands in questions, images and padding is never multiplied with the vocabulary.
    Computed in float32.

    Args:
        logits: `(batch, slots, vocabulary)`: of the token that comes next.
        targets: `(batch, slots)` int: that token.
        weights: `(batch, slots)`: 1 for a slot that is one, 0 for one that is empty.
        total: sum of the weights of all that the mean is over; None takes these
            alone. Where a batch comes in several parts, each part's loss by the whole
            batch's total adds up to the loss of the whole, though answers differ in
            length.

    Returns:
        float32 scalar; 0 if there are no answers.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Perception Encoder, section 5 (next-token loss); upstream
        `apps/plm/transformer.py`, which multiplies all places and then drops those
        that are no answer.

    Example:
        >>> import numpy as np
        >>> logits = np.log([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]])
        >>> round(float(answer_loss(logits, [[0, 2]], [[1, 0]])), 4)  # log(2)
        0.6931
    """
    logits = ops.cast(logits, "float32")
    targets = ops.convert_to_tensor(targets, "int32")
    weights = ops.cast(weights, "float32")
    shapes = [tuple(x.shape) for x in (logits, targets, weights)]
    if len(shapes[0]) != 3 or shapes[1] != shapes[0][:2] or shapes[2] != shapes[1]:
        raise ValueError(
            f"Expected logits (batch, slots, vocabulary), targets and weights (batch, "
            f"slots), got {shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
    right = ops.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    cost = ops.logsumexp(logits, axis=-1) - right
    # An empty slot's cost may be anything, infinity too.
    counted = ops.sum(ops.where(weights > 0.0, weights * cost, 0.0))
    total = ops.sum(weights) if total is None else ops.cast(total, "float32")
    return counted / ops.maximum(total, 1.0)
