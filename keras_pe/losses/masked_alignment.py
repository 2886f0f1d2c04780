"""Mask regularisation: tokens of a masked image match those of the whole one."""

from typing import Any, Literal

from keras import ops


def masked_alignment_loss(
    masked_tokens: Any,  # (batch, tokens, channels)
    full_tokens: Any,  # (batch, tokens, channels)
    mask: Any,  # (batch, tokens)
    *,
    positions: Literal["masked", "all"] = "masked",
) -> Any:
    """Returns the mean of 1 - cosine between tokens with and without masked patches.

    The tokens of the whole image are constants: no gradient reaches them. Computed
    in float32. A token of length zero has cosine 0 with any other, and no gradient.

    Args:
        masked_tokens: `(batch, tokens, channels)`: last layer's tokens of images of
            which some patches were masked.
        full_tokens: `(batch, tokens, channels)`: those of the same images, whole.
        mask: `(batch, tokens)`, bool or 0 and 1: true where the patch was masked.
        positions: "masked": the mean is over masked tokens; "all": over all tokens.

    Returns:
        float32 scalar in [0, 2]; 0 if no token is masked and only those count.

    Raises:
        ValueError: if shapes or options do not fit.

    Source: Perception Encoder, section 2.1, which aligns "the masked tokens".

    Example:
        >>> import numpy as np
        >>> tokens, mask = np.ones((2, 3, 4)), np.array([[1, 0, 0], [0, 1, 1]])
        >>> abs(float(masked_alignment_loss(tokens, tokens, mask))) < 1e-6
        True
    """
    if positions not in ("masked", "all"):
        raise ValueError(f'positions must be "masked" or "all", got {positions!r}.')
    shapes = [tuple(x.shape) for x in (masked_tokens, full_tokens, mask)]
    known = all(None not in shape for shape in shapes)
    if len(shapes[0]) != 3 or (
        known and (shapes[0] != shapes[1] or shapes[0][:2] != shapes[2])
    ):
        raise ValueError(
            f"Masked and full tokens must be (batch, tokens, channels) and the mask "
            f"(batch, tokens), got {shapes[0]}, {shapes[1]} and {shapes[2]}. A mask "
            f"has no entry for a class token: leave that out of the tokens too."
        )
    masked_tokens = _unit_length(ops.cast(masked_tokens, "float32"))
    full_tokens = _unit_length(ops.stop_gradient(ops.cast(full_tokens, "float32")))
    distances = 1.0 - ops.sum(masked_tokens * full_tokens, axis=-1)  # (batch, tokens)
    if positions == "all":
        return ops.mean(distances)
    mask = ops.cast(mask, "float32")
    return ops.sum(distances * mask) / ops.maximum(ops.sum(mask), 1.0)


def _unit_length(tokens: Any) -> Any:  # (batch, tokens, channels)
    square = ops.sum(ops.square(tokens), axis=-1, keepdims=True)
    zero = square < 1e-24
    # Two wheres: the gradient of the branch that is not taken must be finite, too.
    length = ops.sqrt(ops.where(zero, 1.0, square))
    return ops.where(zero, 0.0, tokens / length)
