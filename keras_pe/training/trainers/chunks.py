"""Runs a function over a batch chunk by chunk, keeping one chunk's activations."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from keras_pe.arrays import release_freed_memory


def split_rows(x: Any, num_chunks: int) -> Any:  # (batch, ...)
    """Returns `(num_chunks, batch / num_chunks, ...)`: chunk k holds rows k, k + n, ...

    Rows are dealt out like cards. Where the batch is sharded over devices, each chunk
    then takes as many rows of each device, and no row has to travel.
    """
    x = ops.reshape(x, (-1, num_chunks, *x.shape[1:]))
    return ops.transpose(x, (1, 0, *range(2, len(x.shape))))


def merge_rows(x: Any) -> Any:  # (num_chunks, rows, ...)
    """Undoes `split_rows`; returns `(batch, ...)`."""
    x = ops.transpose(x, (1, 0, *range(2, len(x.shape))))
    return ops.reshape(x, (-1, *x.shape[2:]))


def map_chunks(
    function: Callable[[dict[str, Any]], Any],
    rows: dict[str, Any],
    num_chunks: int,
) -> Any:
    """Applies a function to each chunk of a batch and stacks what it returns.

    The backward pass runs the function again, one chunk at a time: the memory of the
    activations is that of one chunk, for a third more arithmetic. This is gradient
    caching (Gao et al. 2021) written as rematerialisation.

    Args:
        function: from arrays of `(batch / num_chunks, ...)`, by name, to arrays. It
            draws no random numbers: a draw inside a rematerialised function fails on
            JAX. Draw outside and pass the result in `rows`.
        rows: arrays by name, cut along their first axis.
        num_chunks: how many chunks; divides every first axis.

    Returns:
        What the function returns, with a leading axis of `num_chunks`.

    Raises:
        ValueError: if `num_chunks` does not divide the rows of an array.

    Example:
        >>> import numpy as np
        >>> x = np.arange(6.0, dtype="float32").reshape(6, 1)
        >>> doubled = map_chunks(lambda r: 2.0 * r["x"], {"x": x}, 3)
        >>> ops.convert_to_numpy(merge_rows(doubled))[:, 0].tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    names = list(rows)
    for name in names:
        count = rows[name].shape[0]
        if count is not None and count % num_chunks:
            raise ValueError(
                f"Each chunk takes as many rows of every array, got {count} rows of "
                f"{name} for {num_chunks} chunks. Make the batch or the chunks larger."
            )

    def once(*chunk: Any) -> Any:
        return function(dict(zip(names, chunk, strict=True)))

    recomputed = keras.remat(once)
    chunks = tuple(split_rows(rows[name], num_chunks) for name in names)
    if keras.backend.backend() == "jax":  # a loop in the graph: compiled once
        return ops.map(lambda chunk: recomputed(*chunk), chunks)
    results = []
    for number in range(num_chunks):
        results.append(recomputed(*(x[number] for x in chunks)))
        release_freed_memory(results[-1])
    return tree.map_structure(lambda *parts: ops.stack(parts), *results)


def num_chunks(
    rows: int | None,
    chunk_size: int,
    replicas: int = 1,
    training: bool = True,
) -> int:
    """Returns in how many chunks a batch is run; 1 for no chunking.

    Args:
        rows: rows of this replica; None where TensorFlow does not know them.
        chunk_size: rows of a chunk, over all replicas.
        replicas: over how many replicas the batch is spread. Each runs as many chunks,
            of its own rows.
        training: in training the chunks must have the size asked for. An evaluation
            keeps nothing for a backward pass: any divisor of a last, short batch
            will do, and rows that are not known are run as they come.

    Raises:
        ValueError: in training, if the rows are not known or not divisible.
    """
    if rows is None:
        if not training:
            return 1
        raise ValueError(
            f"Chunks of {chunk_size} rows need batches whose number of rows is known "
            f"when the step is compiled, got None. Batch the tf.data dataset with "
            f"batch(size, drop_remainder=True), or wrap a list of batches with "
            f"keras_pe.training.devices.distribution.static_batches."
        )
    batch = rows * replicas
    if chunk_size >= batch:
        return 1
    chunks = -(-batch // chunk_size)
    if not training:
        return next(count for count in range(chunks, rows + 1) if rows % count == 0)
    if batch % chunk_size or rows % chunks:
        raise ValueError(
            f"The chunk size must divide the batch, and each of {replicas} replicas "
            f"takes an equal part of a chunk: got a batch of {batch} rows and chunks "
            f"of {chunk_size}. Choose a divisor of {batch} that is a multiple of "
            f"{replicas}."
        )
    return chunks
