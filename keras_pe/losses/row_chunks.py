"""A walk over the rows of tensors, some at a time, in a loop that is not unrolled.

On PyTorch a chunk is a slice. JAX may hold the rows sharded over devices: there chunks
are strided, so that each takes its share from every device and nothing is sent around
to form it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

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
    chunks = [tf.reshape(row, (-1, chunk_size, *row.shape[1:])) for row in rows]
    outputs = tuple(
        tf.TensorArray("float32", count, element_shape=(chunk_size, *shape))
        for shape in shapes
    )

    def body(k: Any, totals: Any, outputs: Any) -> Any:
        totals, found = step(totals, [chunk[k] for chunk in chunks])
        written = [o.write(k, part) for o, part in zip(outputs, found, strict=True)]
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
