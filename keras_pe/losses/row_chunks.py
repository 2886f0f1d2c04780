"""A walk over the rows of tensors, some at a time, in a loop that is not unrolled."""

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
    """Applies `step` to chunk after chunk.

    Chunks are strided: of `count` chunks, chunk k holds rows k, k + count,
    k + 2 * count and so on. Where rows lie sharded over devices, every chunk then
    takes its share from every device, and nothing is sent around to form it.

    Args:
        step: `(totals, chunk) -> (totals, outputs)`: `chunk` holds `(chunk_size, ...)`
            rows of each tensor, `outputs` float32 tensors `(chunk_size,
            *output_shape)`. The last chunk may be shorter, on TensorFlow even empty.
        totals: float32 tensors that are handed from chunk to chunk.
        rows: tensors of equally many rows; TensorFlow need not know how many.
        chunk_size: rows at a time.
        output_shapes: of each output, without the rows.

    Returns:
        the last totals, and the outputs `(rows, *output_shape)` in the order of rows.
    """
    num_rows = ops.shape(rows[0])[0]
    count = num_rows // chunk_size
    whole = count * chunk_size
    known = isinstance(num_rows, int)
    if known and count == 0:
        return step(totals, list(rows))
    divides = known and whole == num_rows
    strided = [
        ops.reshape(
            row if divides else row[:whole], (chunk_size, count, *row.shape[1:])
        )
        for row in rows
    ]
    fold = _fold_eagerly if keras.backend.backend() == "torch" else _fold_in_graph
    totals, outputs = fold(step, totals, strided, count, output_shapes)
    outputs = [
        ops.reshape(output, (whole, *shape))
        for output, shape in zip(outputs, output_shapes, strict=True)
    ]
    if divides:
        return totals, outputs
    totals, rest = step(totals, [row[whole:] for row in rows])
    pairs = zip(outputs, rest, strict=True)
    return totals, [ops.concatenate(pair, axis=0) for pair in pairs]


def _fold_eagerly(
    step: Step, totals: Any, strided: list[Any], count: int, _: Any
) -> tuple[Any, list[Any]]:  # strided and outputs: (chunk_size, count, ...)
    # ops.slice_update would copy the whole output for every chunk.
    chunks = []
    for k in range(count):
        totals, outputs = step(totals, [row[:, k] for row in strided])
        chunks.append(outputs)
    return totals, [ops.stack(each, axis=1) for each in zip(*chunks, strict=True)]


def _fold_in_graph(
    step: Step, totals: Any, strided: list[Any], count: Any, shapes: Any
) -> tuple[Any, list[Any]]:  # strided and outputs: (chunk_size, count, ...)
    chunk_size = strided[0].shape[0]

    def body(k: Any, state: Any) -> Any:
        totals, buffers = state
        chunk = []
        for row in strided:
            trailing = tuple(row.shape[2:])
            start = (0, k, *[0] * len(trailing))
            rows = ops.slice(row, start, (chunk_size, 1, *trailing))
            chunk.append(ops.reshape(rows, (chunk_size, *trailing)))
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
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # ops.fori_loop takes TensorFlow's default, up to ten chunks at the same time.
        _, state = tf.while_loop(
            lambda k, _: k < count,
            lambda k, state: (k + 1, body(k, state)),
            (0, (tuple(totals), buffers)),
            parallel_iterations=1,
        )
    else:
        state = ops.fori_loop(0, count, body, (tuple(totals), buffers))
    return state[0], list(state[1])
