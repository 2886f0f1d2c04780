"""Looks at each batch before a step does, whatever `fit` takes batches from.

Inside a compiled step no value can be refused: an id that does not exist becomes NaN on
JAX and TensorFlow, and there TensorFlow often does not know how many rows there are.
"""

import contextlib
import inspect
import sys
import warnings
from collections.abc import Generator, Mapping
from types import GeneratorType
from typing import Any

import keras

from keras_pe.training.known_ids import ADVICE, check_ids, readers
from keras_pe.training.pair_batches import (
    ONE_PAIR,
    as_arrays,
    check_negatives,
    check_rows,
)


class BatchCheck:
    """Looks at one batch; can be sent to another process.

    Args:
        vocabularies: for each array of token ids how many ids there are.
        needs_negatives: whether one pair alone is refused. Only where TensorFlow
            compiles a step for any number of rows: else the step itself refuses it.

    Example:
        >>> import numpy as np
        >>> look = BatchCheck({"token_ids": 600})
        >>> batch = {"images": np.zeros((1, 8, 8, 3)), "token_ids": np.array([[7]])}
        >>> look(batch) is batch
        True
    """

    def __init__(
        self, vocabularies: Mapping[str, int], needs_negatives: bool = False
    ) -> None:
        self.vocabularies = dict(vocabularies)
        on_tensorflow = keras.backend.backend() == "tensorflow"
        self.needs_negatives = needs_negatives and on_tensorflow

    def __call__(self, batch: Any) -> Any:
        """Returns the batch.

        Raises:
            ValueError: if it is no dictionary of arrays, its pictures and texts differ
                in number, an id does not exist, or it is a single pair.
        """
        arrays = as_arrays(first_part(batch))
        check_rows(arrays)
        shape = getattr(arrays.get("images"), "shape", None)
        if self.needs_negatives and shape:
            check_negatives(shape[0])
        check_ids(arrays, self.vocabularies)
        return batch


def first_part(batch: Any) -> Any:
    """Returns the inputs of a batch, which may come with labels and weights."""
    return batch[0] if isinstance(batch, list | tuple) and len(batch) < 4 else batch


def as_tuple(batch: Any) -> tuple[Any, ...]:
    """Returns a batch as every backend's loop takes it."""
    return tuple(batch) if isinstance(batch, list | tuple) else (batch,)


def with_checked_batches(
    x: Any, vocabularies: Mapping[str, int], needs_negatives: bool = False
) -> Any:
    """Returns what a model's methods take, each batch looked at before it is used.

    Args:
        x: what `fit`, `evaluate` or `predict` is given. Arrays are looked at here;
            generators, `PyDataset`, `tf.data`, PyTorch's `DataLoader` and grain's
            datasets batch by batch; anything else is returned as it is. A generator
            and a `DataLoader` may give dictionaries alone, which Keras refuses.
        vocabularies: as for `BatchCheck`.
        needs_negatives: as for `BatchCheck`.

    Raises:
        ValueError: as `BatchCheck`; by `tf.data` an `InvalidArgumentError` that says
            the same.
    """
    look = BatchCheck(vocabularies, needs_negatives)
    if isinstance(x, GeneratorType):
        return _checked_generator(x, look)
    if isinstance(x, keras.utils.PyDataset):
        return _CheckedDataset(x, look)
    # Who has made such a dataset has imported its library.
    tensorflow, torch, grain = map(sys.modules.get, ("tensorflow", "torch", "grain"))
    if tensorflow is not None and isinstance(x, tensorflow.data.Dataset):
        return _checked_tf_data(x, look)
    if torch is not None and isinstance(x, torch.utils.data.DataLoader):
        return _checked_data_loader(x, look)
    if grain is not None and isinstance(x, grain.MapDataset | grain.IterDataset):
        return x.map(look)
    if grain is not None and isinstance(x, grain.DataLoader):
        return _checked_grain_loader(x, look)
    if isinstance(x, Mapping | list | tuple) or hasattr(x, "shape"):
        check_rows(as_arrays(x))
        check_ids(x, vocabularies)
    return x


def warn_of_unknown_length(x: Any) -> None:
    """Warns of data whose end Keras on TensorFlow meets inside a step.

    That step fails for want of data, but what does not wait for them is done: the
    iteration is counted and weights decay once more, in every epoch (Keras 3.15).
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    grain = sys.modules.get("grain")
    kinds = (grain.MapDataset, grain.IterDataset, grain.DataLoader) if grain else ()
    if isinstance(x, tf.data.Dataset):
        unknown = int(x.cardinality()) == tf.data.UNKNOWN_CARDINALITY
    else:
        unknown = isinstance(x, (GeneratorType, *kinds))
    if unknown:
        warnings.warn(
            f"The length of the data ({type(x).__name__}) is not known: on TensorFlow "
            f"Keras begins a step too many at the end of each epoch, in which weights "
            f"decay once more. Give steps_per_epoch.",
            stacklevel=4,
        )


def named_arguments(method: str, *given: Any, **options: Any) -> dict[str, Any]:
    """Returns what a method of `keras.Model` was given, all by name.

    Args:
        method: its name, such as "fit".
        given: what was given by position.
        options: what was given by name.
    """
    signature = inspect.signature(getattr(keras.Model, method))
    found = dict(signature.bind(None, *given, **options).arguments)
    del found["self"]
    return {**found.pop("kwargs", {}), **found}


# === Sources of batches ===
def _checked_generator(
    batches: Generator[Any, None, None], look: BatchCheck
) -> Generator[Any, None, None]:
    with contextlib.closing(batches):
        for batch in batches:
            yield as_tuple(look(batch))


class _CheckedDataset(keras.utils.PyDataset):
    """A `PyDataset` around another one."""

    def __init__(self, dataset: keras.utils.PyDataset, look: BatchCheck) -> None:
        super().__init__(
            dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size
        )
        self.dataset, self.look = dataset, look

    @property
    def num_batches(self) -> int | None:
        found: int | None = self.dataset.num_batches
        return found

    def __getitem__(self, index: int) -> Any:
        return self.look(self.dataset[index])

    def on_epoch_begin(self) -> None:
        self.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.dataset.on_epoch_end()


def _checked_data_loader(loader: Any, look: BatchCheck) -> Any:
    import torch

    class CheckedLoader(torch.utils.data.DataLoader):
        """A `DataLoader` around another one: Keras asks for its class."""

        def __init__(self) -> None:
            self.__dict__.update(vars(loader))

        def __iter__(self) -> Any:
            # A tuple: of a dictionary Keras takes the keys on JAX and TensorFlow.
            return (as_tuple(look(batch)) for batch in loader)

        def __len__(self) -> int:
            return len(loader)

    return CheckedLoader()


def _checked_grain_loader(loader: Any, look: BatchCheck) -> Any:
    import grain

    class Look(grain.transforms.Map):
        def map(self, batch: Any) -> Any:
            return look(batch)

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


def _checked_tf_data(dataset: Any, check: BatchCheck) -> Any:
    import tensorflow as tf

    as_arrays(first_part(dataset.element_spec))

    def look(*parts: Any) -> Any:
        batch, checks = parts[0], []
        for name, size in readers(batch, check.vocabularies).items():
            ids = batch[name]
            wrong = tf.boolean_mask(ids, (ids < 0) | (ids >= size))
            text = f"{name} has ids that the model does not know: it knows 0 to "
            text += f"{size - 1}. {ADVICE.format(size)} Found:"
            checks.append(tf.debugging.Assert(tf.size(wrong) == 0, [text, wrong]))
        if "images" in batch and "token_ids" in batch:
            rows = [tf.shape(batch[name])[0] for name in ("images", "token_ids")]
            text = "images and token_ids differ in rows, but row i of one belongs to "
            text += "row i of the other. Found:"
            checks.append(tf.debugging.Assert(rows[0] == rows[1], [text, *rows]))
            if check.needs_negatives:
                checks.append(tf.debugging.Assert(rows[0] > 1, [ONE_PAIR]))
        with tf.control_dependencies(checks):
            parts = tf.nest.map_structure(tf.identity, parts)
        return parts if isinstance(dataset.element_spec, tuple) else parts[0]

    return dataset.map(look)
