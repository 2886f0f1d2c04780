"""What counts as one text, as many, and as neither; which tokenizer they need."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# Kinds of NumPy dtypes whose elements may be strings; bytes get their own advice.
STRING_KINDS = "OSTU"


def as_texts(texts: Any) -> list[str]:
    """Returns texts as a list, or says what is no text, where, and what to do."""
    if isinstance(texts, str):
        return [texts]
    shape = getattr(texts, "shape", None)
    if shape is not None and len(shape) == 0 and hasattr(texts, "item"):
        return as_texts(texts.item())  # an array of no axes holds one text
    dtype = getattr(texts, "dtype", "string")
    kind = getattr(dtype, "kind", "U" if "str" in f"{dtype}".lower() else "?")
    if (
        isinstance(texts, bytes | bytearray | memoryview | Mapping | set | frozenset)
        or not hasattr(texts, "__iter__")
        or (shape is not None and len(shape) != 1)  # a table yields its columns' names
        or (kind not in STRING_KINDS and shape != (0,))
    ):
        shown = "" if shape is None else f" of shape {tuple(shape)}"
        raise TypeError(
            f"texts is a {type(texts).__name__}{shown} ({texts!r:.60}): expected a "
            f"string or a flat sequence of strings. {_advice(texts)}"
        )
    batch = list(texts)
    for i, text in enumerate(batch):
        if not isinstance(text, str):
            raise TypeError(
                f"texts[{i}] is a {type(text).__name__} ({text!r:.60}): expected a "
                f"string. {_advice(text)}"
            )
    return batch


def _advice(wrong: Any) -> str:
    """Returns what makes texts of something that is none."""
    if isinstance(wrong, bytes | bytearray | memoryview):
        return "Decode bytes with .decode('utf-8')."
    if isinstance(wrong, Mapping) or hasattr(wrong, "columns"):
        return "Pass one column or value of it, a list of strings."
    if isinstance(wrong, set | frozenset):
        return "A set has no order: pass a list."
    if isinstance(wrong, list | tuple):
        return "Flatten nested lists: a batch is one list of strings."
    number = isinstance(wrong, int | np.integer)
    if number or (hasattr(wrong, "shape") and not isinstance(wrong, np.floating)):
        return (
            "Token ids go to encode_text as they are; `detokenize` makes texts of "
            "them. Of an array of strings take .ravel().tolist()."
        )
    return "Replace a missing caption (None, NaN, NA) by '' or leave it out."


def check_tokenizer(tokenizer: Any, model: Any) -> None:
    """Refuses a tokenizer whose ids mean something else to the model, or are too many.

    Of another vocabulary even ids that exist are those of other words, and the ids that
    start and end a text differ. A context shorter than the model's is fine: texts are
    cut earlier.

    Args:
        tokenizer: a `PETokenizer`. Of any other callable what it does not tell, by
            attributes of the same names, is not compared.
        model: a `PECore` or `PETextEncoder`.

    Raises:
        ValueError: naming both sizes.

    Example:
        >>> from keras_pe import PETextEncoder, PETokenizer
        >>> tower = PETextEncoder(vocabulary_size=600, context_length=8, hidden_dim=32,
        ...     num_layers=1, num_heads=4, intermediate_dim=64, output_dim=16)
        >>> check_tokenizer(PETokenizer(context_length=8, vocabulary_size=600), tower)
    """
    tower = getattr(model, "text_encoder", model)
    vocabulary = getattr(tokenizer, "vocabulary_size", tower.vocabulary_size)
    context = getattr(tokenizer, "context_length", tower.context_length)
    if vocabulary == tower.vocabulary_size and context <= tower.context_length:
        return
    raise ValueError(
        f"The tokenizer does not fit the model: it makes {context} ids a text of "
        f"{vocabulary}, and the model reads up to {tower.context_length} of "
        f"{tower.vocabulary_size}. Load both from one preset with "
        f"PETokenizer.from_preset, or use PETokenizer(context_length="
        f"{tower.context_length}, vocabulary_size={tower.vocabulary_size})."
    )
