"""Batches are looked at before a step: inside a compiled one no value can be refused.

There an id that does not exist makes its text NaN, and one bad pixel its picture.
"""

import contextlib
import copy
import functools
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_pe.models.compiled import torch_array

Check = Callable[[Any], None]  # of what a model is called with; raises ValueError


def checked_batches(x: Any, check: Check, once: bool = False) -> Any:
    """Returns what `fit` or `predict` reads, with each batch looked at before its use.

    Args:
        x: what they are given. Arrays are looked at here, all other batch by batch.
        check: is called with the inputs alone, without labels. It must be a function
            that other processes can be sent, as a `PyDataset` may run in them.
        once: whether `x` is read once: then what has no place for a look of its own
            (`grain.DataLoader`) is looked at too.

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
    tensorflow = sys.modules.get("tensorflow")
    if isinstance(x, keras.utils.PyDataset):
        return CheckedDataset(x, check)
    if tensorflow is not None and isinstance(x, tensorflow.data.Dataset):
        return _checked_tf_data(x, check)
    if isinstance(x, types.GeneratorType):
        return _checked_generator(x, check)
    if _is_of(x, "torch", "DataLoader"):
        return _checked_loader(x, check)
    if _is_of(x, "grain", "MapDataset", "IterDataset"):
        return x.map(functools.partial(_checked_batch, check=check))
    if once and _is_of(x, "grain", "DataLoader"):
        return _checked_generator(x, check)
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


def _checked_generator(batches: Iterable[Any], check: Check) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        if isinstance(batches, types.GeneratorType):
            stack.enter_context(contextlib.closing(batches))
        for number, batch in enumerate(batches):
            yield _checked_batch(batch, check, number)


class CheckedDataset(keras.utils.PyDataset):
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


def _checked_tf_data(dataset: Any, check: Check) -> Any:
    import tensorflow as tf

    def look(number: Any, parts: Any) -> Any:
        inputs = inputs_of(parts)

        def on_host(number: np.ndarray, *arrays: np.ndarray) -> np.int32:
            batch = tf.nest.pack_sequence_as(inputs, arrays)
            _checked_batch((batch,), check, int(number))
            return np.int32(0)

        looked = tf.numpy_function(on_host, [number, *tf.nest.flatten(inputs)], "int32")
        with tf.control_dependencies([looked]):
            return tf.nest.map_structure(tf.identity, parts)

    return dataset.enumerate().map(look)


def _checked_loader(loader: Any, check: Check) -> Any:
    """Returns a PyTorch `DataLoader` that looks at what it has collated."""
    found = copy.copy(loader)
    found.collate_fn = functools.partial(_collated, loader.collate_fn, check)
    return found


def _collated(collate: Callable[[Any], Any], check: Check, samples: Any) -> Any:
    batch = collate(samples)
    # PyTorch's tensors, which the arrays of another backend do not tell anything.
    seen = keras.tree.map_structure(_on_host, inputs_of(batch))
    _checked_batch((seen,), check)
    return batch


def _on_host(tensor: Any) -> Any:
    return torch_array(tensor) if hasattr(tensor, "detach") else tensor


def _is_of(x: Any, library: str, *names: str) -> bool:
    """Returns whether this is of a class of a library, without importing it."""
    return any(
        kind.__name__ in names and kind.__module__.split(".")[0] == library
        for kind in type(x).__mro__
    )
