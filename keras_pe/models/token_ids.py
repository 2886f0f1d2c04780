"""What token ids must be: whole numbers, of the vocabulary of who reads them."""

from typing import Any

import keras
import numpy as np

from keras_pe.models.compiled import host_array


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
    values = host_array(token_ids)
    if values is None or not values.size:
        return
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= vocabulary_size:
        wrong = np.argwhere((values < 0) | (values >= vocabulary_size))[0]
        place = ", ".join(map(str, wrong))
        raise ValueError(
            f"Token ids must be from 0 to {vocabulary_size - 1}, got {low} to {high}, "
            f"the first of those beyond at [{place}]. They come from a tokenizer of "
            f"another model: make them with {tokenizer}."
        )
