"""What chunked losses are built of: logits in row chunks, with hand-written gradients.

The forward pass keeps sums over chunks; the backward pass computes each chunk's logits
again. Four matrix products in place of the three of a loss that holds all logits.

Where a chunk is changed in place here (`x -= y`), PyTorch saves a copy of it; on JAX
and TensorFlow that is an ordinary subtraction.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_pe.losses.pairs import pair_logits
from keras_pe.losses.row_chunks import fold_row_chunks


def with_gradient(forward: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    """Returns a function of tensors that has the gradient it is given.

    Args:
        forward: `(*inputs) -> (output, saved)`, one float32 output tensor: on PyTorch
            Keras passes on the gradient of the first output only.
        backward: `(upstream, saved, *inputs) -> gradients`, one for each input.
            `saved` must not hold the output itself, or PyTorch never frees either.
    """

    @ops.custom_gradient
    def function(*inputs: Any) -> Any:
        output, saved = forward(*inputs)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            # PyTorch passes the inputs, and the upstream gradient by its name.
            upstream = arguments[0] if upstream is None else upstream
            return backward(upstream, saved, *inputs)

        return output, gradient

    return function


def checked_chunk_size(chunk_size: int) -> int:
    """Raises a `ValueError` if rows cannot be taken `chunk_size` at a time."""
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
        raise ValueError(f"chunk_size must be a whole number, got {chunk_size!r}.")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1 row, got {chunk_size}.")
    return chunk_size


def product_gradients(
    gradient: Any,  # (rows, keys): of the logits
    queries: Any,  # (rows, channels)
    keys: Any,  # (keys, channels)
    scale: Any,
    key_total: Any,  # (keys, channels): of earlier chunks
    scale_total: Any,
) -> tuple[Any, Any, Any]:
    """Takes a gradient through `logits = scale * queries @ keys.T`.

    Returns:
        the gradients of the queries, of the keys and of the scale; to the last two
        those of the earlier chunks are added.
    """
    key_total += ops.matmul(ops.transpose(gradient), queries * scale)
    query_gradient = ops.matmul(gradient, keys)
    scale_total = scale_total + ops.sum(query_gradient * queries)
    query_gradient *= scale
    return query_gradient, key_total, scale_total


# === Log-sum-exp ===
def streaming_logsumexp(
    queries: Any,  # (rows, channels)
    keys: Any,  # (keys, channels)
    scale: Any,
    chunk_size: int,
    query_ids: Any = None,  # (rows,)
    key_ids: Any = None,  # (keys,)
) -> tuple[Any, Any]:
    """Returns the log-sum-exp of all logits along both axes, in one walk.

    Args:
        queries: float32 `(rows, channels)`, walked in chunks.
        keys: float32 `(keys, channels)`.
        scale: float32 scalar: logits are `scale * queries @ keys.T`.
        chunk_size: queries at a time; `chunk_size * keys` logits are held.
        query_ids: int32 `(rows,)`. Pairs whose ids are equal are left out.
        key_ids: int32 `(keys,)`.

    Returns:
        `(rows,)`: over the keys; and `(keys,)`: over the queries. Where all pairs are
        left out, -1e30 or a little more.

    Example:
        >>> import numpy as np
        >>> row, column = streaming_logsumexp(np.eye(3), np.eye(3), 1.0, 2)
        >>> row.shape == column.shape == (3,)
        True
    """

    def forward(queries: Any, keys: Any, scale: Any) -> Any:
        row, column = _logsumexp(queries, keys, scale, chunk_size, query_ids, key_ids)
        return ops.concatenate([row, column]), (row, column)

    def backward(upstream: Any, saved: Any, *inputs: Any) -> Any:
        return _logsumexp_gradients(upstream, saved, inputs, ids, key_ids, chunk_size)

    ids = [] if query_ids is None else [query_ids]
    inputs = [ops.convert_to_tensor(x, "float32") for x in (queries, keys, scale)]
    joined = with_gradient(forward, backward)(*inputs)
    num_rows = ops.shape(inputs[0])[0]
    return joined[:num_rows], joined[num_rows:]


def _logsumexp(
    queries: Any, keys: Any, scale: Any, chunk_size: int, query_ids: Any, key_ids: Any
) -> tuple[Any, Any]:
    def step(totals: Any, chunk: Any) -> Any:
        column_max, column_sum = totals  # (keys,)
        queries, *ids = chunk
        logits = pair_logits(queries, keys, scale, key_ids, *ids)
        row_max = ops.max(logits, axis=1)
        row_sum = ops.sum(ops.exp(logits - row_max[:, None]), axis=1)
        highest = ops.maximum(column_max, ops.max(logits, axis=0))
        logits -= highest
        column_sum = column_sum * ops.exp(column_max - highest)
        column_sum = column_sum + ops.sum(ops.exp(logits), axis=0)
        return (highest, column_sum), [row_max + ops.log(row_sum)]

    start = (ops.full_like(keys[:, 0], -1e38), ops.zeros_like(keys[:, 0]))
    rows = [queries] if query_ids is None else [queries, query_ids]
    totals, (row,) = fold_row_chunks(step, start, rows, chunk_size, [()])
    return row, totals[0] + ops.log(totals[1])


def _logsumexp_gradients(
    upstream: Any,  # (rows + keys,)
    saved: tuple[Any, Any],
    inputs: Any,
    ids: list[Any],
    key_ids: Any,
    chunk_size: int,
) -> tuple[Any, Any, Any]:
    queries, keys, scale = inputs
    log_sums, column_log_sum = saved
    num_rows = ops.shape(queries)[0]
    column_upstream = upstream[num_rows:]

    def step(totals: Any, chunk: Any) -> Any:
        queries, log_sum, upstream, *ids = chunk
        logits = pair_logits(queries, keys, scale, key_ids, *ids)
        gradient = ops.exp(logits - log_sum[:, None])
        gradient *= upstream[:, None]
        logits -= column_log_sum
        logits = ops.exp(logits)
        logits *= column_upstream
        gradient += logits
        query_gradient, *totals = product_gradients(
            gradient, queries, keys, scale, *totals
        )
        return tuple(totals), [query_gradient]

    rows = [queries, log_sums, upstream[:num_rows], *ids]
    start = (ops.zeros_like(keys), ops.zeros_like(scale))
    (key_gradient, scale_gradient), (query_gradient,) = fold_row_chunks(
        step, start, rows, chunk_size, [tuple(queries.shape[1:])]
    )
    return query_gradient, key_gradient, scale_gradient
