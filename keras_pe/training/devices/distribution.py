"""What the losses and the data pipeline must know about a run on many devices.

JAX runs one program over all devices (`sharding` beside this): a batch is global
there, and nothing has to be gathered. TensorFlow replicates the step over the devices
of a `tf.distribute.MirroredStrategy`; PyTorch starts one process a device (`torchrun`
and `torch_loop` beside this). On these two a step sees the rows of its own
replica only, while a contrastive loss compares rows of the whole batch.

Convention of every loss in `keras_pe.losses` that takes `gather=`: it returns its
replica's share, so that the mean of the shares over the replicas is the loss of the
whole batch. The mean of their gradients is then its gradient, if and only if the
gradient goes back through the gather to the replica that a row came from.
"""

import contextlib
import contextvars
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

Gather = Callable[[Any], Any]

_one_replica: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "one_replica", default=False
)


# === What runs ===
def num_replicas() -> int:
    """Returns over how many replicas the code that calls this is replicated.

    1 on JAX, and on TensorFlow wherever the caller is not inside a replicated step.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        return 1 if context is None else int(context.num_replicas_in_sync)
    if backend == "torch" and not _one_replica.get():
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            return int(dist.get_world_size())
    return 1


@contextlib.contextmanager
def one_replica() -> Iterator[None]:
    """PyTorch: inside, losses and metrics see the rows of this process alone.

    A gather waits for all processes. Code that only one of them runs, such as an
    evaluation on the first, would wait for ever; in here it gathers nothing.
    """
    token = _one_replica.set(True)
    try:
        yield
    finally:
        _one_replica.reset(token)


def host_position() -> tuple[int, int]:
    """Returns `(host_index, host_count)`: which part of the data this process reads.

    A host is a process with its own data pipeline: one for each device under
    `torchrun`, one for each machine on JAX, and one altogether under TensorFlow's
    `MirroredStrategy`, which splits the batches itself.

    Example:
        >>> host_index, host_count = host_position()
        >>> host_index < host_count
        True
    """
    backend = keras.backend.backend()
    if backend == "torch":
        # What torchrun says, so that data can be opened before the processes meet.
        return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if backend == "jax":
        import jax

        return jax.process_index(), jax.process_count()
    return 0, 1


def batch_parts() -> int:
    """Returns over how many devices a batch is cut, called where the model is built."""
    backend = keras.backend.backend()
    if backend == "torch":
        return host_position()[1]
    if backend == "tensorflow":
        import tensorflow as tf

        return int(tf.distribute.get_strategy().num_replicas_in_sync)
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    # Weights that are cut leave one axis to copies of the model; rows take both.
    rows = distribution.get_data_layout((1,)).axes[0]
    names = rows if isinstance(rows, tuple) else (rows,)
    return math.prod(int(mesh.shape[mesh.axis_names.index(name)]) for name in names)


def scope_of(trainer: keras.Model) -> Any:
    """Returns the scope of the TensorFlow strategy that a model was built under.

    Elsewhere it is a context that does nothing.
    """
    strategy = getattr(trainer, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


# === In the loss ===
def cross_replica_gather() -> Gather | None:
    """Returns the function that fetches the rows of all replicas, if there are many.

    It maps `(local_batch, ...)` to `(global_batch, ...)` in the order of the replicas.
    Every replica must call it, with as many rows as the others. Floating-point rows
    carry a gradient: each replica gets, for its rows, the sum of the gradients of
    their copies on all replicas. Integer rows (caption ids) have none.

    Returns:
        The function, or None where the batch is already whole: on one device, and on
        JAX always.

    Raises:
        tf.errors.InvalidArgumentError: by the function, on TensorFlow, if the batch
            does not divide over the replicas.

    Example:
        >>> gather = cross_replica_gather()
        >>> gather is None  # on one device
        True
    """
    if num_replicas() == 1:
        return None
    if keras.backend.backend() == "torch":
        return _torch_gather_function().apply
    return _tensorflow_gather


def replica_loss_scale() -> float:
    """Returns what a replica multiplies its loss by before the backward pass.

    The replicas' gradients must be averaged. PyTorch's DistributedDataParallel does;
    Keras on TensorFlow sums them, and takes the factor out again for the logs.

    Returns:
        1 / replicas inside a replicated TensorFlow step, else 1.

    Example:
        >>> replica_loss_scale()  # on one device
        1.0
    """
    return 1.0 / num_replicas() if keras.backend.backend() == "tensorflow" else 1.0


def _tensorflow_gather(x: Any) -> Any:  # (local_batch, ...) -> (global_batch, ...)
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    x = tf.convert_to_tensor(x)
    carrier = x.dtype  # TensorFlow 2.21 gathers no others
    if x.dtype not in (tf.float32, tf.float16, tf.float64, tf.int32, tf.int64):
        carrier = tf.float32 if x.dtype.is_floating else tf.int32
    gathered = tf.cast(context.all_gather(tf.cast(x, carrier), axis=0), x.dtype)
    # Replicas with fewer rows would count for as much as the others.
    even = tf.debugging.assert_equal(
        tf.shape(gathered)[0],
        tf.shape(x)[0] * replicas,
        f"The batch does not divide over {replicas} replicas: they hold different "
        f"numbers of rows. Choose a batch size that is a multiple of {replicas} and "
        f"drop the remainder of the data.",
    )
    with tf.control_dependencies([even] if even is not None else []):
        gathered = tf.identity(gathered)
    rows = None if x.shape[0] is None else x.shape[0] * replicas
    return tf.ensure_shape(gathered, [rows, *x.shape[1:]])


@functools.cache
def _torch_gather_function() -> Any:
    import torch
    import torch.distributed as dist

    # torch 2.13 renames these two.
    renamed = hasattr(dist, "all_gather_single")
    all_gather: Any = getattr(
        dist, "all_gather_single" if renamed else "all_gather_into_tensor"
    )
    reduce_scatter: Any = getattr(
        dist, "reduce_scatter_single" if renamed else "reduce_scatter_tensor"
    )

    class GatherRows(torch.autograd.Function):
        """All-gather whose gradient is the reduce-scatter.

        `torch.distributed.all_gather` alone has no gradient: the rows of the other
        replicas would be constants.
        """

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # (local_batch, ...)
            rows = x.shape[0] * dist.get_world_size()
            gathered = x.new_empty((rows, *x.shape[1:]))
            all_gather(gathered, x.contiguous())
            return gathered

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:  # (global_batch, ...)
            gradient = gradients[0].contiguous()
            rows = gradient.shape[0] // dist.get_world_size()
            own = gradient.new_empty((rows, *gradient.shape[1:]))
            reduce_scatter(own, gradient)
            return own

    return GatherRows


# === In the data pipeline ===
def local_rows(batch: Any, host_index: int, host_count: int) -> Any:
    """Returns the rows of a whole batch that one process trains on.

    A pipeline that takes `host_index` and `host_count` need not read the other rows;
    this is for batches that every process has whole.

    Args:
        batch: a nest of arrays `(rows, ...)`.
        host_index: which process, from 0.
        host_count: how many there are.

    Returns:
        The same nest of `(rows / host_count, ...)`.

    Raises:
        ValueError: if `host_count` does not divide the rows of an array.

    Example:
        >>> local_rows({"x": np.arange(6)}, host_index=1, host_count=3)["x"].tolist()
        [2, 3]
    """

    def cut(x: Any) -> Any:
        rows = _divided(x.shape[0], host_count, "processes")
        return x[host_index * rows : (host_index + 1) * rows]

    return tree.map_structure(cut, batch)


def static_batches(batches: Iterable[Any], strategy: Any = None) -> Any:
    """TensorFlow: wraps batches of NumPy arrays for `fit`, under a strategy or none.

    `fit` splits the batches of arrays, `tf.data`, `PyDataset` and grain datasets over
    the replicas by itself; this is for other iterables. A plain generator loses a batch
    there (Keras 3.15), for `fit` builds the model with it. The result also has static
    shapes, which chunked towers and mask regularisation need. On several replicas,
    where `fit` averages the first batch over them, bool arrays become int32.

    Args:
        batches: gives the same batches whenever it is iterated over: whole batches,
            nests (dictionaries or tuples) of arrays whose shapes never change. With a
            length, `fit` knows how long an epoch is.
        strategy: the `tf.distribute.Strategy` the trainer was made under; None for the
            one in scope here.

    Returns:
        A `tf.data.Dataset` of whole batches, for `trainer.fit`.

    Raises:
        ValueError: if `batches` can be read only once, is empty, or if the replicas
            do not divide the rows of an array.

    Example:
        >>> strategy = tf.distribute.MirroredStrategy()               # doctest: +SKIP
        >>> trainer.fit(static_batches(batches, strategy))            # doctest: +SKIP
    """
    import tensorflow as tf

    if iter(batches) is batches:
        raise ValueError(
            f"batches must start anew whenever it is iterated over, got a "
            f"{type(batches).__name__}, which can be read once. Give a list, a "
            f"dataset, or an object whose __iter__ makes the generator."
        )
    first = next(iter(batches), None)
    if first is None:
        raise ValueError("batches is empty: there is nothing to train on.")
    replicas = (strategy or tf.distribute.get_strategy()).num_replicas_in_sync

    def numbers(x: Any) -> Any:
        x = np.array(x)  # a copy: a step on several replicas writes into it (2.21)
        # TensorFlow has no mean of bool.
        return x.astype("int32") if x.dtype == bool and replicas > 1 else x

    def spec(x: Any) -> Any:
        x = numbers(x)
        _divided(x.shape[0], replicas, "replicas")
        return tf.TensorSpec(x.shape, x.dtype)

    signature = tree.map_structure(spec, first)
    dataset = tf.data.Dataset.from_generator(
        lambda: (tree.map_structure(numbers, batch) for batch in batches),
        output_signature=signature,
    )
    # There is nothing to tune, and the end of an iterator waits for its tuner, which
    # may sleep for as long as the iterator has lived, up to a minute (2.21).
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = dataset.with_options(options)
    try:
        count = len(batches)  # type: ignore[arg-type]
    except TypeError:
        return dataset
    return dataset.apply(tf.data.experimental.assert_cardinality(count))


def _divided(rows: int, parts: int, what: str) -> int:
    if rows % parts:
        raise ValueError(
            f"An array of {rows} rows does not divide over {parts} {what}. Choose a "
            f"batch size that is a multiple of {parts}; with masks for a sixteenth of "
            f"the batch, of {16 * parts}."
        )
    return rows // parts
