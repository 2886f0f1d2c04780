"""What chunked losses are built of: walks over chunks of rows, with their gradients.

A walk is a loop that is not unrolled. On PyTorch a chunk is a slice. JAX may hold the
rows sharded over devices: there chunks are strided, so that each takes its share from
every device and nothing is sent around to form it.

The forward pass of a loss keeps sums over chunks; the backward pass computes each
chunk's logits again. Four matrix products in place of the three of a loss that holds
all logits. Where a chunk is changed in place here (`x -= y`), PyTorch saves a copy of
it; on JAX and TensorFlow that is an ordinary subtraction.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_pe.losses.contrastive import pair_logits

Step = Callable[[Any, list[Any]], tuple[Any, list[Any]]]


def fold_row_chunks(
    step: Step,
    totals: tuple[Any, ...],
    rows: Sequence[Any],  # each (rows, ...)
    chunk_size: int,
    output_shapes: Sequence[tuple[int, ...]],
) -> tuple[Any, list[Any]]:
    """Applies `step` to chunk after chunk. Has no gradient of its own.

    Args:
        step: `(totals, chunk) -> (totals, outputs)`: `chunk` holds `(chunk_size, ...)`
            rows of each tensor, `outputs` float32 tensors `(chunk_size,
            *output_shape)`. The last chunk may be shorter, on TensorFlow even empty.
            Which rows a chunk holds depends on the backend.
        totals: float32 tensors that are handed from chunk to chunk.
        rows: tensors of equally many rows; TensorFlow need not know how many.
        chunk_size: rows at a time.
        output_shapes: of each output, without the rows.

    Returns:
        the last totals, and the outputs `(rows, *output_shape)` in the order of rows.
    """
    num_rows = ops.shape(rows[0])[0]
    if isinstance(num_rows, int) and num_rows <= chunk_size:
        return step(totals, list(rows))
    if keras.backend.backend() == "torch":
        return _fold_slices(step, totals, rows, chunk_size, output_shapes)
    count = num_rows // chunk_size
    whole = count * chunk_size
    divides = isinstance(num_rows, int) and whole == num_rows
    in_chunks = [row if divides else row[:whole] for row in rows]
    on_jax = keras.backend.backend() == "jax"
    fold = _fold_strided if on_jax else _fold_tensorflow
    totals, outputs = fold(step, totals, in_chunks, chunk_size, count, output_shapes)
    if divides:
        return totals, outputs
    totals, rest = step(totals, [row[whole:] for row in rows])
    pairs = zip(outputs, rest, strict=True)
    return totals, [ops.concatenate(pair, axis=0) for pair in pairs]


def _fold_slices(
    step: Step, totals: Any, rows: Any, chunk_size: int, shapes: Any
) -> tuple[Any, list[Any]]:
    # Filled in place: a list of outputs given to ops.concatenate would be held twice,
    # and longer, for Keras leaves what is in a list to the garbage collector.
    num_rows = rows[0].shape[0]
    outputs = [ops.empty((num_rows, *shape), dtype="float32") for shape in shapes]
    for start in range(0, num_rows, chunk_size):
        chunk = slice(start, start + chunk_size)
        totals, found = step(totals, [row[chunk] for row in rows])
        for output, part in zip(outputs, found, strict=True):
            output[chunk] = part
    return totals, outputs


def _fold_strided(
    step: Step, totals: Any, rows: Any, chunk_size: int, count: int, shapes: Any
) -> tuple[Any, list[Any]]:
    # Chunk k holds rows k, k + count, k + 2 * count and so on.
    strided = [ops.reshape(row, (chunk_size, count, *row.shape[1:])) for row in rows]

    def body(k: Any, state: Any) -> Any:
        totals, buffers = state
        chunk = []
        for row in strided:
            trailing = tuple(row.shape[2:])
            start = (0, k, *[0] * len(trailing))
            part = ops.slice(row, start, (chunk_size, 1, *trailing))
            chunk.append(ops.reshape(part, (chunk_size, *trailing)))
        totals, outputs = step(totals, chunk)
        updated = []
        for buffer, output, shape in zip(buffers, outputs, shapes, strict=True):
            start = (0, k, *[0] * len(shape))
            output = ops.expand_dims(output, axis=1)
            updated.append(ops.slice_update(buffer, start, output))
        return tuple(totals), tuple(updated)

    buffers = tuple(
        ops.zeros((chunk_size, count, *shape), dtype="float32") for shape in shapes
    )
    totals, buffers = ops.fori_loop(0, count, body, (tuple(totals), buffers))
    return totals, [
        ops.reshape(buffer, (chunk_size * count, *shape))
        for buffer, shape in zip(buffers, shapes, strict=True)
    ]


def _fold_tensorflow(
    step: Step, totals: Any, rows: Any, chunk_size: int, count: Any, shapes: Any
) -> tuple[Any, list[Any]]:
    # Not ops.fori_loop, which runs up to ten chunks at the same time, nor
    # ops.slice_update, which copies the whole output for every chunk.
    import tensorflow as tf

    if not isinstance(count, int):
        # XLA compiles the body even if it never runs, and needs a chunk to read there.
        missing = chunk_size * (tf.maximum(count, 1) - count)
        rows = [
            tf.pad(row, [[0, missing], *[[0, 0]] * (len(row.shape) - 1)])
            for row in rows
        ]
    # No axis of one row, neither in what is read (slices, no reshape into chunks) nor
    # in what is written: XLA puts such an axis elsewhere, and copies all rows for it.
    kept = [shape if chunk_size == 1 else (chunk_size, *shape) for shape in shapes]
    outputs = tuple(
        tf.TensorArray("float32", count, element_shape=shape) for shape in kept
    )

    def body(k: Any, totals: Any, outputs: Any) -> Any:
        chunk = []
        for row in rows:
            trailing = tuple(row.shape[1:])
            start = (k * chunk_size, *[0] * len(trailing))
            chunk.append(tf.slice(row, start, (chunk_size, *trailing)))
        totals, found = step(totals, chunk)
        written = [
            output.write(k, tf.reshape(part, shape))
            for output, part, shape in zip(outputs, found, kept, strict=True)
        ]
        return k + 1, tuple(totals), tuple(written)

    _, totals, outputs = tf.while_loop(
        lambda k, *_: k < count,
        body,
        (0, tuple(totals), outputs),
        parallel_iterations=1,
    )
    return totals, [
        tf.reshape(output.stack(), (count * chunk_size, *shape))
        for output, shape in zip(outputs, shapes, strict=True)
    ]


# === Logits in row chunks, with hand-written gradients ===
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
