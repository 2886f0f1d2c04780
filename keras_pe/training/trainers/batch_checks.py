"""What a batch must be: looked at before a step, or said when one is traced.

Inside a compiled step no value can be refused: an id that does not exist becomes NaN on
JAX and TensorFlow, and so the loss and every weight; and there TensorFlow often does
not know how many rows there are.
"""

import difflib
import math
import sys
import warnings
from collections.abc import Callable, Collection, Mapping
from types import GeneratorType
from typing import Any

import keras
from keras import tree

from keras_pe.models.checked_model import checked_batches, inputs_of
from keras_pe.models.text_encoder import first_unknown
from keras_pe.training.devices.distribution import num_replicas

ONE_PAIR = (
    "A batch of 1 pair has no negatives: its contrastive loss is 0 whatever the model "
    "does. Take a larger batch, and leave out a last batch of 1 (drop_remainder=True)."
)
FurtherCheck = Callable[[Mapping[str, Any]], None]
KERAS_BATCH_SIZE = 32  # what `fit` takes for arrays where no batch size is given
_ADVICE = (
    "The ids come from a tokenizer of another model: make them with "
    "PETokenizer(vocabulary_size={}, ...)."
)


# === Arrays by name ===
def as_arrays(inputs: Any) -> Mapping[str, Any]:
    """Returns the inputs of a batch if they are arrays by name.

    Raises:
        ValueError: saying how images and texts are given.
    """
    if isinstance(inputs, Mapping):
        return inputs
    got = type(inputs).__name__
    if getattr(inputs, "shape", None) is not None:
        got = f"an array {tuple(inputs.shape)}"
    elif isinstance(inputs, list | tuple):
        got = f"a {got} of {len(inputs)}"
    raise ValueError(
        f"A batch is a dictionary of arrays, got {got}. Give "
        f'{{"images": images, "token_ids": ids}}, and no (images, ids): Keras '
        f"would take the second for labels. No other ids are needed: row i of the "
        f"images belongs to row i of the texts."
    )


# Arrays with a row for each image. Masks of mask regularisation have fewer.
ROWS_OF_IMAGES = (
    "images",
    "token_ids",
    "teacher_token_ids",
    "kept_patches",
    "mask_rows",
    "background",
    "positions",
    "documents",
    "image_slots",
    "answer_places",
    "answer_ids",
    "answer_weights",
)


def check_rows(inputs: Mapping[str, Any]) -> None:
    """Refuses as many texts as there are no images, where both numbers are known.

    Raises:
        ValueError: naming both.
    """
    rows = {}
    for name in ROWS_OF_IMAGES:
        shape = getattr(inputs.get(name), "shape", None)
        if shape is not None and len(shape) and shape[0] is not None:
            rows[name] = int(shape[0])
    if len(set(rows.values())) > 1:
        said = ", ".join(f"{count} of {name}" for name, count in rows.items())
        raise ValueError(
            f"Row i of the images belongs to row i of all others, got rows: {said}. "
            f"Give as many of each."
        )


def check_names(
    inputs: Mapping[str, Any], known: Collection[str], needed: Collection[str]
) -> None:
    """Refuses a batch with an array that nothing reads, or without one that is needed.

    Raises:
        ValueError: naming the array, and the known name nearest to it.
    """
    for name in as_arrays(inputs):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]}?" if near else " Leave it out."
            raise ValueError(
                f"A batch has the array {name!r}, which nothing reads; known are "
                f"{', '.join(known)}.{hint}"
            )
    if not set(needed) <= set(inputs):
        raise ValueError(f"A batch needs {' and '.join(needed)}, got {sorted(inputs)}.")
    check_rows(inputs)


def check_unlabelled(y: Any, sample_weight: Any) -> None:
    """Refuses labels and weights of samples: no trainer here has either.

    Raises:
        ValueError: saying what to do instead.
    """
    if sample_weight is not None:
        raise ValueError(
            "sample_weight and class_weight are not used: the loss is one of the whole "
            "batch. Draw samples that shall count more more often, and leave out those "
            "that shall not count."
        )
    if tree.flatten(y) and any(part is not None for part in tree.flatten(y)):
        raise ValueError(
            "Labels are not used: what is to be learned is in the batch. Give fit one "
            'dictionary of arrays, {"images": ..., ...}, alone.'
        )


def refuse_weights(options: Mapping[str, Any]) -> None:
    """Refuses weights given to `fit`: without labels Keras would drop them.

    Args:
        options: what `fit`, `evaluate` or `train_on_batch` was given, by name.

    Raises:
        ValueError: as `check_unlabelled`.
    """
    for name in ("sample_weight", "class_weight"):
        check_unlabelled(None, options.get(name))
    validation = options.get("validation_data")
    if isinstance(validation, list | tuple) and len(validation) == 3:
        check_unlabelled(None, validation[2])


def check_negatives(rows: int | None) -> None:
    """Refuses a training step of one pair, whose softmax loss is always 0.

    Args:
        rows: of this replica; None where they are not known before the step runs.

    Raises:
        ValueError: if the whole batch is one pair.
    """
    if rows is not None and rows * num_replicas() == 1:
        raise ValueError(ONE_PAIR)


def check_arrays(
    x: Any, batch_size: int | None, validation_split: float, one_is_nothing: bool
) -> None:
    """Looks at arrays given to `fit` before it starts; at nothing else.

    Args:
        x: what `fit` was given.
        batch_size: None for Keras' own.
        validation_split: share of the rows that `fit` does not train on.
        one_is_nothing: whether a batch of one pair has no loss.

    Raises:
        ValueError: if a batch would be one pair, or the arrays differ in rows.
    """
    if not isinstance(x, Mapping):
        return
    check_rows(x)
    by_name = {name: len(x[name]) for name in x if getattr(x[name], "shape", None)}
    lengths = set(by_name.values())
    if "images" not in x or not lengths:
        return
    if len(lengths) > 1:
        raise ValueError(
            f"Arrays are cut into batches together, so all need the same rows, got "
            f"{by_name}. Where masks are fewer than images, give batches: a "
            f"generator, a PyDataset or another dataset."
        )
    rows = math.floor(max(lengths) * (1.0 - validation_split))
    size = min(batch_size or KERAS_BATCH_SIZE, rows)
    if size < 1:
        return
    rest = rows % size
    if one_is_nothing:
        check_negatives(1 if size == 1 else rest or None)
    if rest:
        warnings.warn(
            f"{rows} pairs in batches of {size} leave a last batch of {rest}: with "
            f"fewer negatives its loss is smaller, and it ends every epoch's log. "
            f"Choose a batch size that divides the pairs, or leave {rest} out.",
            stacklevel=5,
        )


# === Token ids ===
def check_ids(batch: Any, vocabularies: Mapping[str, int]) -> None:
    """Refuses token ids that are not in the vocabulary of who reads them.

    Args:
        batch: arrays by name, or a tuple that begins with them. What lies on an
            accelerator, or is no such batch, is not looked at.
        vocabularies: for each array of token ids how many ids there are, 0 to one less.

    Raises:
        ValueError: naming the array, the id, where it is and the vocabulary.

    Example:
        >>> import numpy as np
        >>> check_ids({"token_ids": np.array([[598, 7, 599]])}, {"token_ids": 600})
    """
    if isinstance(batch, list | tuple) and batch:
        batch = batch[0]
    if not isinstance(batch, Mapping):
        return
    for name, size in readers(batch, vocabularies).items():
        unknown = first_unknown(batch[name], size)
        if unknown is None:
            continue
        raise ValueError(
            f"{name} has the id {unknown.number} at {unknown.place}, but the model "
            f"knows 0 to {size - 1}. {_ADVICE.format(size)}"
        )


def readers(
    batch: Mapping[str, Any], vocabularies: Mapping[str, int]
) -> dict[str, int]:
    """Returns how many ids there are for each array of a batch that holds ids.

    A teacher without token ids of its own reads the student's.
    """
    sizes = {name: size for name, size in vocabularies.items() if name in batch}
    if "token_ids" in sizes:
        sizes["token_ids"] = min(
            size
            for name, size in vocabularies.items()
            if name == "token_ids" or name not in batch
        )
    return sizes


# === Every batch ===
class BatchCheck:
    """Looks at one batch; can be sent to another process.

    Args:
        vocabularies: for each array of token ids how many ids there are.
        needs_negatives: whether one pair alone is refused. Only where TensorFlow
            compiles a step for any number of rows: else the step itself refuses it.
        further: raises ValueError if arrays, by name, do not belong together.

    Example:
        >>> import numpy as np
        >>> look = BatchCheck({"token_ids": 600})
        >>> batch = {"images": np.zeros((1, 8, 8, 3)), "token_ids": np.array([[7]])}
        >>> look(batch) is batch
        True
    """

    def __init__(
        self,
        vocabularies: Mapping[str, int],
        needs_negatives: bool = False,
        further: FurtherCheck | None = None,
    ) -> None:
        self.vocabularies, self.further = dict(vocabularies), further
        on_tensorflow = keras.backend.backend() == "tensorflow"
        self.needs_negatives = needs_negatives and on_tensorflow

    def __call__(self, batch: Any) -> Any:
        """Returns the batch.

        Raises:
            ValueError: if it is no dictionary of arrays, its images and texts differ
                in number, an id does not exist, or it is a single pair.
        """
        arrays = as_arrays(inputs_of(batch))
        check_rows(arrays)
        shape = getattr(arrays.get("images"), "shape", None)
        if self.needs_negatives and shape:
            check_negatives(shape[0])
        check_ids(arrays, self.vocabularies)
        if self.further is not None:
            self.further(arrays)
        return batch


def with_checked_batches(
    x: Any,
    vocabularies: Mapping[str, int],
    needs_negatives: bool = False,
    copies: bool = False,
    further: FurtherCheck | None = None,
) -> Any:
    """Returns what a model's methods take, each batch looked at before it is used.

    Args:
        x: what `fit`, `evaluate` or `predict` is given, as for `checked_batches`.
        vocabularies: as for `BatchCheck`.
        needs_negatives: as for `BatchCheck`.
        copies: as for `checked_batches`.
        further: as for `BatchCheck`.

    Raises:
        ValueError: as `BatchCheck`; by `tf.data` an `InvalidArgumentError` that says
            the same.
    """
    if isinstance(x, Mapping | list | tuple) or hasattr(x, "shape"):
        BatchCheck(vocabularies, further=further)((x,))
        return x
    if hasattr(x, "element_spec"):  # of `tf.data`, known before it is read
        as_arrays(inputs_of(x.element_spec))
    check = BatchCheck(vocabularies, needs_negatives, further)
    return checked_batches(x, check, copies)


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
