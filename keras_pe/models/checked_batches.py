"""Batches are looked at before a step: inside a compiled one no value can be refused.

There an id that does not exist makes its text NaN, and one bad pixel its picture.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Generator, Mapping
from types import GeneratorType
from typing import Any

import keras
import numpy as np

from keras_pe.arrays import torch_array

Check = Callable[[Any], Any]  # of what a model is called with; raises ValueError


def checked_batches(x: Any, check: Check) -> Any:
    """Returns what `fit` or `predict` reads, with each batch looked at before its use.

    Args:
        x: what they are given. Arrays are looked at here; generators, `PyDataset`,
            `tf.data`, PyTorch's `DataLoader` and grain's datasets and loader batch by
            batch; anything else is returned as it is. A generator and a `DataLoader`
            may give dictionaries alone, which Keras refuses.
        check: is called with the inputs alone, without labels. It must be a function
            that other processes can be sent, as a `PyDataset` may run in them.

    Raises:
        ValueError: as `check`, naming the batch; by `tf.data` an
            `InvalidArgumentError` that says the same.

    Example:
        >>> def check(inputs):
        ...     if inputs.min() < 0:
        ...         raise ValueError("negative")
        >>> next(checked_batches((np.array([n]) for n in (-1, 1)), check))
        Traceback (most recent call last):
        ValueError: Batch 0: negative
    """
    if isinstance(x, GeneratorType):
        return _checked_generator(x, check)
    if isinstance(x, keras.utils.PyDataset):
        return _CheckedDataset(x, check)
    # Who has made such a dataset has imported its library.
    tensorflow, torch, grain = map(sys.modules.get, ("tensorflow", "torch", "grain"))
    if tensorflow is not None and isinstance(x, tensorflow.data.Dataset):
        return _checked_tf_data(x, check, tensorflow)
    if torch is not None and isinstance(x, torch.utils.data.DataLoader):
        return _checked_data_loader(x, check, torch)
    if grain is not None and isinstance(x, grain.MapDataset | grain.IterDataset):
        return x.map(functools.partial(_checked_batch, check=check))
    if grain is not None and isinstance(x, grain.DataLoader):
        return _checked_grain_loader(x, check, grain)
    if hasattr(x, "shape") or isinstance(x, Mapping):
        check(x)
    return x


def inputs_of(batch: Any) -> Any:
    """Returns what a model is called with, of `(inputs, labels, ...)`."""
    return batch[0] if isinstance(batch, list | tuple) and batch else batch


def _checked_batch(batch: Any, check: Check, number: int | None = None) -> Any:
    try:
        check(inputs_of(batch))
    except (ValueError, TypeError) as error:
        place = "A batch" if number is None else f"Batch {number}"
        raise type(error)(f"{place}: {error}") from error
    return batch


def _as_tuple(batch: Any) -> tuple[Any, ...]:
    # Of a dictionary Keras takes the keys on JAX and TensorFlow.
    return tuple(batch) if isinstance(batch, list | tuple) else (batch,)


def _checked_generator(
    batches: Generator[Any, None, None], check: Check
) -> Generator[Any, None, None]:
    with contextlib.closing(batches):
        for number, batch in enumerate(batches):
            yield _as_tuple(_checked_batch(batch, check, number))


class _CheckedDataset(keras.utils.PyDataset):
    """A `PyDataset` around another one."""

    def __init__(self, dataset: keras.utils.PyDataset, check: Check) -> None:
        super().__init__(
            dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size
        )
        self.dataset, self.check = dataset, check

    @property
    def num_batches(self) -> int | None:
        found: int | None = self.dataset.num_batches
        return found

    def __getitem__(self, index: int) -> Any:
        return _checked_batch(self.dataset[index], self.check, index)

    def on_epoch_begin(self) -> None:
        self.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.dataset.on_epoch_end()


def _checked_tf_data(dataset: Any, check: Check, tf: Any) -> Any:
    def look(number: Any, parts: Any) -> Any:
        inputs = inputs_of(parts)

        def on_host(number: np.ndarray, *arrays: np.ndarray) -> Any:
            batch = tf.nest.pack_sequence_as(inputs, arrays)
            _checked_batch((batch,), check, int(number))
            return np.int32(0)

        looked = tf.numpy_function(on_host, [number, *tf.nest.flatten(inputs)], "int32")
        with tf.control_dependencies([looked]):
            return tf.nest.map_structure(tf.identity, parts)

    return dataset.enumerate().map(look)


def _checked_data_loader(loader: Any, check: Check, torch: Any) -> Any:
    class CheckedLoader(torch.utils.data.DataLoader):
        """A `DataLoader` around another one: Keras asks for its class."""

        def __init__(self) -> None:
            self.__dict__.update(vars(loader))

        def __iter__(self) -> Any:
            for number, batch in enumerate(loader):
                # PyTorch's tensors tell the arrays of another backend nothing.
                seen = keras.tree.map_structure(_on_host, inputs_of(batch))
                _checked_batch((seen,), check, number)
                yield _as_tuple(batch)

        def __len__(self) -> int:
            return len(loader)

    return CheckedLoader()


def _on_host(tensor: Any) -> Any:
    return torch_array(tensor) if hasattr(tensor, "detach") else tensor


def _checked_grain_loader(loader: Any, check: Check, grain: Any) -> Any:
    class Look(grain.transforms.Map):
        def map(self, batch: Any) -> Any:
            return _checked_batch(batch, check)

    processes = loader.multiprocessing_options
    return grain.DataLoader(  # one can't be changed; Keras' adapter makes a new one too
        data_source=loader._data_source,
        sampler=loader._sampler,
        operations=[*loader._operations, Look()],
        worker_count=processes.num_workers,
        worker_buffer_size=processes.per_worker_buffer_size,
        shard_options=loader._shard_options,
        read_options=loader._read_options,
        enable_profiling=processes.enable_profiling,
    )
