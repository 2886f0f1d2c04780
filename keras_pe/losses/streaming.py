"""What chunked losses are built of: logits in row chunks, with hand-written gradients.

The forward pass keeps sums over chunks; the backward pass computes each chunk's logits
again. Four matrix products in place of the three of a loss that holds all logits.

Where a chunk is changed in place here (`x -= y`), PyTorch saves a copy of it; on JAX
and TensorFlow that is an ordinary subtraction.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_pe.losses.contrastive import pair_logits
from keras_pe.losses.row_chunks import fold_row_chunks


def with_gradient(forward: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    """Returns a function of tensors that has the gradient it is given.

    Every tensor that `forward` and `backward` compute with has to be an input, those
    without a gradient too: where JAX differentiates a function that is already
    compiled, a tensor they merely know of is gone.

    Args:
        forward: `(*inputs) -> (output, saved)`, one float32 output tensor: on PyTorch
            Keras passes on the gradient of the first output only.
        backward: `(upstream, saved, *inputs) -> gradients`: those of the first inputs;
            the others have none. `saved` must not hold the output itself, or PyTorch
            never frees either.
    """

    @ops.custom_gradient
    def function(*inputs: Any) -> Any:
        output, saved = forward(*inputs)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            # PyTorch passes the inputs, and the upstream gradient by its name.
            upstream = arguments[0] if upstream is None else upstream
            gradients = backward(upstream, saved, *inputs)
            return (*gradients, *[None] * (len(inputs) - len(gradients)))

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

    inputs = [ops.convert_to_tensor(x, "float32") for x in (queries, keys, scale)]
    if query_ids is not None:
        inputs += [query_ids, key_ids]

    def forward(*inputs: Any) -> Any:
        row, column = _maxima_and_sums(*inputs, chunk_size=chunk_size)
        log_sums = [highest + ops.log(total) for highest, total in (row, column)]
        return ops.concatenate(log_sums), (row, column)

    def backward(upstream: Any, saved: Any, *inputs: Any) -> Any:
        return _logsumexp_gradients(upstream, *saved, *inputs, chunk_size=chunk_size)

    joined = with_gradient(forward, backward)(*inputs)
    num_rows = ops.shape(inputs[0])[0]
    return joined[:num_rows], joined[num_rows:]


def _maxima_and_sums(
    queries: Any,
    keys: Any,
    scale: Any,
    query_ids: Any = None,
    key_ids: Any = None,
    *,
    chunk_size: int,
) -> tuple[Any, Any]:
    """Returns the largest logit and the sum of exp(logit - largest) along both axes."""

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
        return (highest, column_sum), [row_max, row_sum]

    start = (ops.full_like(keys[:, 0], -1e38), ops.zeros_like(keys[:, 0]))
    rows = [queries] if query_ids is None else [queries, query_ids]
    column, row = fold_row_chunks(step, start, rows, chunk_size, [(), ()])
    return tuple(row), column


def _logsumexp_gradients(
    upstream: Any,  # (rows + keys,)
    row: tuple[Any, Any],  # maxima and sums, (rows,)
    column: tuple[Any, Any],  # (keys,)
    queries: Any,
    keys: Any,
    scale: Any,
    query_ids: Any = None,
    key_ids: Any = None,
    *,
    chunk_size: int,
) -> tuple[Any, Any, Any]:
    # Not exp(logit - log-sum-exp): the log-sum-exp of large logits is rounded by more
    # than the probabilities should be.
    num_rows = ops.shape(queries)[0]
    (row_max, row_sum), (column_max, column_sum) = row, column
    row_weight = upstream[:num_rows] / row_sum
    column_weight = upstream[num_rows:] / column_sum

    def step(totals: Any, chunk: Any) -> Any:
        queries, row_max, row_weight, *ids = chunk
        logits = pair_logits(queries, keys, scale, key_ids, *ids)
        gradient = ops.exp(logits - row_max[:, None])
        gradient *= row_weight[:, None]
        logits -= column_max
        logits = ops.exp(logits)
        logits *= column_weight
        gradient += logits
        query_gradient, *totals = product_gradients(
            gradient, queries, keys, scale, *totals
        )
        return tuple(totals), [query_gradient]

    rows = [queries, row_max, row_weight]
    if query_ids is not None:
        rows.append(query_ids)
    start = (ops.zeros_like(keys), ops.zeros_like(scale))
    (key_gradient, scale_gradient), (query_gradient,) = fold_row_chunks(
        step, start, rows, chunk_size, [tuple(queries.shape[1:])]
    )
    return query_gradient, key_gradient, scale_gradient
