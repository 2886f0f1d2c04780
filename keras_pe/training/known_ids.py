"""Token ids are looked at before a step: inside a compiled one no value can be refused.

There an id that does not exist makes its text NaN, and so the loss and every weight.
"""

import contextlib
import sys
import types
from collections.abc import Generator, Mapping
from typing import Any

import keras
import numpy as np

from keras_pe.models.compiled import host_array


def check_ids(batch: Any, vocabularies: Mapping[str, int]) -> None:
    """Refuses token ids that are not in the vocabulary of who reads them.

    Args:
        batch: arrays by name, or a tuple that begins with them. What lies on an
            accelerator, or is no such batch, is not looked at.
        vocabularies: for each array of token ids how many ids there are, 0 to one less.

    Raises:
        ValueError: naming the array, the id, where it is and the vocabulary.

    Example:
        >>> check_ids({"token_ids": np.array([[598, 7, 599]])}, {"token_ids": 600})
    """
    if isinstance(batch, list | tuple) and batch:
        batch = batch[0]
    if not isinstance(batch, Mapping):
        return
    for name, size in readers(batch, vocabularies).items():
        ids = host_array(batch[name])
        if ids is None or not ids.size or (ids.min() >= 0 and ids.max() < size):
            continue
        place = tuple(int(i) for i in np.argwhere((ids < 0) | (ids >= size))[0])
        raise ValueError(
            f"{name} has the id {ids[place]} at {place}, but the model knows 0 to "
            f"{size - 1}. {_ADVICE.format(size)}"
        )


_ADVICE = (
    "The ids come from a tokenizer of another model: make them with "
    "PETokenizer(vocabulary_size={}, ...)."
)


def readers(
    batch: Mapping[str, Any], vocabularies: Mapping[str, int]
) -> dict[str, int]:
    """Returns how many ids there are for each array of a batch that holds ids.

    A teacher without token ids of its own reads the student's.
    """
    found = {name: size for name, size in vocabularies.items() if name in batch}
    if "token_ids" in found:
        found["token_ids"] = min(
            size
            for name, size in vocabularies.items()
            if name == "token_ids" or name not in batch
        )
    return found


def with_checked_ids(x: Any, vocabularies: Mapping[str, int]) -> Any:
    """Returns what `fit` trains on, with each batch looked at before it is used.

    Args:
        x: what `fit` is given. Arrays are looked at here, generators, `PyDataset` and
            `tf.data` batch by batch; anything else is returned as it is.
        vocabularies: as for `check_ids`.

    Raises:
        ValueError: as `check_ids`; by `tf.data` an `InvalidArgumentError` that says
            the same.
    """
    if isinstance(x, types.GeneratorType):
        return _checked_generator(x, vocabularies)
    if isinstance(x, keras.utils.PyDataset):
        return _CheckedDataset(x, vocabularies)
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(x, tensorflow.data.Dataset):
        return _checked_tf_data(x, vocabularies)
    check_ids(x, vocabularies)
    return x


def _checked_generator(
    batches: Generator[Any, None, None], vocabularies: Mapping[str, int]
) -> Generator[Any, None, None]:
    with contextlib.closing(batches):
        for batch in batches:
            check_ids(batch, vocabularies)
            yield batch


class _CheckedDataset(keras.utils.PyDataset):
    """A `PyDataset` around another one."""

    def __init__(
        self, dataset: keras.utils.PyDataset, vocabularies: Mapping[str, int]
    ) -> None:
        super().__init__(
            dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size
        )
        self.dataset, self.vocabularies = dataset, vocabularies

    @property
    def num_batches(self) -> int | None:
        found: int | None = self.dataset.num_batches
        return found

    def __getitem__(self, index: int) -> Any:
        batch = self.dataset[index]
        check_ids(batch, self.vocabularies)
        return batch

    def on_epoch_begin(self) -> None:
        self.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.dataset.on_epoch_end()


def _checked_tf_data(dataset: Any, vocabularies: Mapping[str, int]) -> Any:
    import tensorflow as tf

    def look(*parts: Any) -> Any:
        batch = parts[0]
        checks = []
        if isinstance(batch, Mapping):
            for name, size in readers(batch, vocabularies).items():
                ids = batch[name]
                wrong = tf.boolean_mask(ids, (ids < 0) | (ids >= size))
                text = f"{name} has ids that the model does not know: it knows 0 to "
                text += f"{size - 1}. {_ADVICE.format(size)} Found:"
                checks.append(tf.debugging.Assert(tf.size(wrong) == 0, [text, wrong]))
        with tf.control_dependencies(checks):
            parts = tf.nest.map_structure(tf.identity, parts)
        return parts if isinstance(dataset.element_spec, tuple) else parts[0]

    return dataset.map(look)
