"""Looks at each batch before a step does, whatever `fit` takes batches from.

Inside a compiled step no value can be refused: an id that does not exist becomes NaN on
JAX and TensorFlow, and there TensorFlow often does not know how many rows there are.
"""

import sys
import warnings
from collections.abc import Mapping
from types import GeneratorType
from typing import Any

import keras

from keras_pe.models.checked_batches import checked_batches, inputs_of
from keras_pe.training.known_ids import check_ids
from keras_pe.training.pair_batches import as_arrays, check_negatives, check_rows


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
        arrays = as_arrays(inputs_of(batch))
        check_rows(arrays)
        shape = getattr(arrays.get("images"), "shape", None)
        if self.needs_negatives and shape:
            check_negatives(shape[0])
        check_ids(arrays, self.vocabularies)
        return batch


def with_checked_batches(
    x: Any, vocabularies: Mapping[str, int], needs_negatives: bool = False
) -> Any:
    """Returns what a model's methods take, each batch looked at before it is used.

    Args:
        x: what `fit`, `evaluate` or `predict` is given, as for `checked_batches`.
        vocabularies: as for `BatchCheck`.
        needs_negatives: as for `BatchCheck`.

    Raises:
        ValueError: as `BatchCheck`; by `tf.data` an `InvalidArgumentError` that says
            the same.
    """
    if isinstance(x, Mapping | list | tuple) or hasattr(x, "shape"):
        BatchCheck(vocabularies)((x,))
        return x
    if hasattr(x, "element_spec"):  # of `tf.data`, known before it is read
        as_arrays(inputs_of(x.element_spec))
    return checked_batches(x, BatchCheck(vocabularies, needs_negatives))


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
            stacklevel=5,
        )
