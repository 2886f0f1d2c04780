"""Tokens that match others one by one: mask regularisation, alignment to a teacher."""

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
    distances = _distances(masked_tokens, full_tokens)
    if positions == "all":
        return ops.mean(distances)
    mask = ops.cast(mask, "float32")
    return ops.sum(distances * mask) / ops.maximum(ops.sum(mask), 1.0)


def feature_alignment_loss(
    student: Any,  # (batch, tokens, channels)
    teacher: Any,  # (batch, tokens, channels)
) -> Any:
    """Returns the mean of 1 - cosine between a student's and a teacher's tokens.

    The teacher's are constants: no gradient reaches them. All tokens count, those of
    masked patches and those that the student sees. Computed in float32; a token of
    length zero has cosine 0 with any other, and no gradient.

    Args:
        student: `(batch, tokens, channels)`: tokens of its last layer.
        teacher: `(batch, tokens, channels)`: those of the teacher's layer. A student
            of another width needs a projection first.

    Returns:
        float32 scalar in [0, 2]; 0 where both point the same way.

    Raises:
        ValueError: if the shapes differ.

    Source: Perception Encoder, section 5.2: `L_core`, but for the 1 that makes it 0
        for equal tokens.

    Example:
        >>> import numpy as np
        >>> tokens = np.random.default_rng(0).normal(size=(2, 3, 4))
        >>> abs(float(feature_alignment_loss(tokens, 2.0 * tokens))) < 1e-6
        True
    """
    shapes = [tuple(x.shape) for x in (student, teacher)]
    if len(shapes[0]) != 3 or not same_shape(*shapes):
        raise ValueError(
            f"Tokens of student and teacher must be (batch, tokens, channels) and fit, "
            f"got {shapes[0]} and {shapes[1]}. Leave class tokens out of both; project "
            f"a student's of another width, and give both as many patches."
        )
    return ops.mean(_distances(student, teacher))


def same_shape(one: Any, other: Any) -> bool:
    """Returns whether two shapes are equal, where both are known."""
    return len(one) == len(other) and all(
        a == b for a, b in zip(one, other, strict=True) if None not in (a, b)
    )


def _distances(tokens: Any, constant: Any) -> Any:  # both (batch, tokens, channels)
    """Returns 1 - cosine `(batch, tokens)`; the second has no gradient."""
    tokens = unit_length(ops.cast(tokens, "float32"))
    constant = unit_length(ops.stop_gradient(ops.cast(constant, "float32")))
    return 1.0 - ops.sum(tokens * constant, axis=-1)


def unit_length(tokens: Any) -> Any:  # (batch, tokens, channels)
    """Returns tokens of length 1; those of length 0 stay, and have no gradient."""
    return tokens * inverse_length(tokens)


def inverse_length(tokens: Any) -> Any:  # (batch, tokens, channels)
    """Returns 1 / length `(batch, tokens, 1)`, 0 for tokens of length 0."""
    square = ops.sum(ops.square(tokens), axis=-1, keepdims=True)
    zero = square < 1e-24
    # Two wheres: the gradient of the branch that is not taken must be finite, too.
    return ops.where(zero, 0.0, 1.0 / ops.sqrt(ops.where(zero, 1.0, square)))
