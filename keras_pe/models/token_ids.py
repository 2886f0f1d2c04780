"""What token ids must be: whole numbers, of the vocabulary of who reads them."""

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_pe.arrays import host_array


def tokenizer_of(vocabulary_size: int, context_length: int) -> str:
    """Returns how the tokenizer that fits a text tower is made."""
    return (
        f"PETokenizer(context_length={context_length}, "
        f"vocabulary_size={vocabulary_size})"
    )


def check_token_ids(token_ids: Any, vocabulary_size: int, context_length: int) -> None:
    """Checks the dtype, and the values where they can be seen for nothing.

    Args:
        token_ids: `(batch, tokens)`, an array or tensor of any kind.
        vocabulary_size: how many ids there are.
        context_length: most tokens of a text, for the error alone.

    Raises:
        TypeError: if these are texts.
        ValueError: naming dtype, or the first id that does not exist and its place.

    Example:
        >>> check_token_ids(np.array([[598, 7, 599]]), 600, 8)
    """
    tokenizer = tokenizer_of(vocabulary_size, context_length)
    if getattr(token_ids.dtype, "kind", None) in ("U", "O", "S", "T"):
        raise TypeError(
            f"The text tower reads token ids, got texts ({token_ids!r:.80}). Use "
            f"encode_text({tokenizer}(texts)), or PETokenizer.from_preset(...)."
        )
    dtype = keras.backend.standardize_dtype(token_ids.dtype)
    if "int" not in dtype:
        raise ValueError(
            f"Token ids must be whole numbers, got {dtype}. Make them with "
            f"{tokenizer}; in a functional model take keras.Input(..., "
            f'dtype="int32").'
        )
    unknown = first_unknown(token_ids, vocabulary_size)
    if unknown is not None:
        place = ", ".join(map(str, unknown.place))
        raise ValueError(
            f"Token ids must be from 0 to {vocabulary_size - 1}, got {unknown.lowest} "
            f"to {unknown.highest}, the first of those beyond at [{place}]. They come "
            f"from a tokenizer of another model: make them with {tokenizer}."
        )


class UnknownId(NamedTuple):
    """An id that does not exist.

    Attributes:
        number: the id.
        place: where it is.
        lowest: the lowest id of all.
        highest: the highest.
    """

    number: int
    place: tuple[int, ...]
    lowest: int
    highest: int


def first_unknown(token_ids: Any, vocabulary_size: int) -> UnknownId | None:
    """Returns the first id that does not exist.

    Args:
        token_ids: `(batch, tokens)`, an array or tensor of any kind.
        vocabulary_size: how many ids there are.

    Returns:
        None if all exist, or can't be seen for nothing.

    Example:
        >>> first_unknown(np.array([[598, 7, 599]]), 599)
        UnknownId(number=599, place=(0, 2), lowest=7, highest=599)
    """
    values = host_array(token_ids)
    if values is None or not values.size:
        return None
    lowest, highest = int(values.min()), int(values.max())
    if lowest >= 0 and highest < vocabulary_size:
        return None
    wrong = np.argwhere((values < 0) | (values >= vocabulary_size))[0]
    place = tuple(int(number) for number in wrong)
    return UnknownId(int(values[place]), place, lowest, highest)
