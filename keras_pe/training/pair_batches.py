"""What a batch of pairs must be: said when a step is traced, or before `fit` starts."""

import difflib
import math
import warnings
from collections.abc import Collection, Mapping
from typing import Any

from keras import ops, tree

from keras_pe.training.distribution import num_replicas

ONE_PAIR = (
    "A batch of 1 pair has no negatives: its contrastive loss is 0 whatever the model "
    "does. Take a larger batch, and leave out a last batch of 1 (drop_remainder=True)."
)
KERAS_BATCH_SIZE = 32  # what `fit` takes for arrays where no batch size is given


def check_options(
    loss: str, duplicates: str, mask_positions: str, mask_weight: float
) -> None:
    """Refuses options of `ContrastiveTrainer` that make no sense.

    Raises:
        ValueError: naming the option.
    """
    if loss not in ("softmax", "sigmoid"):
        raise ValueError(f'loss must be "softmax" or "sigmoid", got {loss!r}.')
    if duplicates not in ("negative", "ignore"):
        raise ValueError(
            f'duplicates must be "negative" or "ignore", got {duplicates!r}.'
        )
    if mask_positions not in ("masked", "all"):
        raise ValueError(
            f'mask_positions must be "masked" or "all", got {mask_positions!r}.'
        )
    if not 0.0 <= mask_weight < math.inf:
        raise ValueError(f"mask_weight must be 0 or more, got {mask_weight}.")


def as_arrays(inputs: Any) -> Mapping[str, Any]:
    """Returns the inputs of a batch if they are arrays by name.

    Raises:
        ValueError: saying how pictures and texts are given.
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
        f'{{"images": pictures, "token_ids": ids}}, and no (pictures, ids): Keras '
        f"would take the second for labels. No other ids are needed: row i of the "
        f"pictures belongs to row i of the texts."
    )


def check_rows(inputs: Mapping[str, Any]) -> None:
    """Refuses as many texts as there are no pictures, where both numbers are known.

    Raises:
        ValueError: naming both.
    """
    rows = {}
    for name in ("images", "token_ids", "teacher_token_ids", "kept_patches"):
        shape = getattr(inputs.get(name), "shape", None)
        if shape is not None and len(shape) and shape[0] is not None:
            rows[name] = int(shape[0])
    if len(set(rows.values())) > 1:
        said = ", ".join(f"{count} of {name}" for name, count in rows.items())
        raise ValueError(
            f"Row i of the pictures belongs to row i of the texts, got rows: {said}. "
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
    """Refuses labels and weights of samples: a contrastive loss has neither.

    Raises:
        ValueError: saying what to do instead.
    """
    if sample_weight is not None:
        raise ValueError(
            "sample_weight and class_weight are not used by a contrastive loss: every "
            "pair is also a negative of all others. Draw pairs that shall count more "
            "more often, and leave out those that shall not count."
        )
    if tree.flatten(y) and any(part is not None for part in tree.flatten(y)):
        raise ValueError(
            "Labels are not used by a contrastive loss: row i of the pictures belongs "
            'to row i of the texts. Give fit {"images": ..., "token_ids": ...} alone.'
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
            f"{by_name}. Where masks are fewer than pictures, give batches: a "
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


def caption_ids(token_ids: Any) -> Any:  # (batch, tokens) int32
    """Returns a number a caption: equal captions get equal ones.

    A polynomial hash that wraps around in int32; two different captions of a batch
    of 131,072 collide about twice in total, which leaves out two pairs in 17 billion.
    """
    powers = [pow(1_000_003, i, 2**32) for i in range(token_ids.shape[1])]
    signed = [p - 2**32 if p >= 2**31 else p for p in powers]
    weights = ops.convert_to_tensor(signed, "int32")
    return ops.sum(ops.cast(token_ids, "int32") * weights, axis=-1)
