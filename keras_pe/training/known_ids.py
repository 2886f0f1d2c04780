"""Token ids are looked at before a step: inside a compiled one no value can be refused.

There an id that does not exist makes its text NaN, and so the loss and every weight.
"""

from collections.abc import Mapping
from typing import Any

from keras_pe.models.token_ids import first_unknown


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
