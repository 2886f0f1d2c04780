"""Two-dimensional rotary position embedding, as Perception Encoder uses it."""

from typing import Any

import numpy as np
from keras import ops

# (cos, sin), each (tokens, head_dim // 2) or (batch, tokens, head_dim // 2), float32.
RotaryTable = tuple[Any, Any]


def rotary_table(
    grid: tuple[int, int],
    head_dim: int,
    *,
    class_token: bool,
    theta: float = 10_000.0,
    reference_grid: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cosines and sines that turn the channel pairs of each token.

    The first half of the channel pairs turns with the column (x), the second half
    with the row (y). Positions are integers, whatever the resolution: a larger
    picture simply has larger positions. With a class token the patches count from 1
    and the class token keeps angle 0, so it is not rotated; without one they count
    from 0.

    Args:
        grid: (rows, columns) of patches.
        head_dim: channels a head; a multiple of 4.
        class_token: whether the first token is the class token.
        theta: base of the geometric series of frequencies.
        reference_grid: None for the integer positions of the paper and of upstream.
            A side in patches scales positions by `reference_grid / grid` along each
            axis, as timm does away from a model's native size.

    Returns:
        `(cos, sin)`, float32, each `(tokens, head_dim // 2)`: one angle a pair.

    Raises:
        ValueError: if `head_dim` is not a multiple of 4.

    Source: Perception Encoder, section 2.1; upstream `core/vision_encoder/rope.py`.

    Example:
        >>> cos, sin = rotary_table((2, 3), head_dim=8, class_token=True)
        >>> cos.shape
        (7, 4)
    """
    if head_dim % 4:
        raise ValueError(
            f"2D RoPE needs a head_dim that is a multiple of 4 (two axes of channel "
            f"pairs), got {head_dim}. Choose hidden_dim and num_heads so that "
            f"hidden_dim / num_heads is a multiple of 4."
        )
    rows, columns = grid
    axis_dim = head_dim // 2
    exponents = np.arange(0, axis_dim, 2, dtype=np.float32) / np.float32(axis_dim)
    frequencies = (1.0 / np.float32(theta) ** exponents).astype(np.float32)
    first = 1 if class_token else 0
    x = np.arange(first, first + columns, dtype=np.float32)
    y = np.arange(first, first + rows, dtype=np.float32)
    if reference_grid is not None:
        x = x / np.float32(columns) * np.float32(reference_grid)
        y = y / np.float32(rows) * np.float32(reference_grid)
    pairs_per_axis = frequencies.size
    angles = np.empty((rows, columns, 2, pairs_per_axis), dtype=np.float32)
    angles[:, :, 0] = x[None, :, None] * frequencies
    angles[:, :, 1] = y[:, None, None] * frequencies
    table = angles.reshape(rows * columns, 2 * pairs_per_axis)
    if class_token:
        table = np.concatenate([np.zeros_like(table[:1]), table])
    return np.cos(table), np.sin(table)


def rotate(x: Any, table: RotaryTable) -> Any:  # x: (batch, tokens, heads, head_dim)
    """Turns each interleaved channel pair of `x` by its token's angle.

    The rotation runs in float32 whatever the dtype of `x`: bfloat16 has 8 bits of
    mantissa, too few for the angles of a large grid.

    Args:
        x: queries or keys, `(batch, tokens, heads, head_dim)`.
        table: `(cos, sin)` from `rotary_table`; a leading batch axis is allowed,
            for pictures that keep different patches.

    Returns:
        The rotated tensor, of the shape and dtype of `x`.
    """
    cos, sin = (ops.expand_dims(ops.cast(t, "float32"), -2) for t in table)
    _, tokens, heads, head_dim = x.shape
    # -1 for the batch alone: every other size is known when the graph is traced.
    pairs = ops.reshape(ops.cast(x, "float32"), (-1, tokens, heads, head_dim // 2, 2))
    # Not pairs[..., 0]: PyTorch fills a whole zero tensor for each gradient of those.
    even, odd = ops.unstack(pairs, 2, axis=-1)
    turned = ops.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    return ops.cast(ops.reshape(turned, (-1, tokens, heads, head_dim)), x.dtype)
