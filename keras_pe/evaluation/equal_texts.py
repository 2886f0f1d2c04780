"""Texts that are one text to the model: no score can tell them apart.

The tokenizer lower-cases, repairs and cuts off, so that "OWL " is "owl", and two long
prompts may end before they differ. ImageNet's own lists hold "crane", "maillot" and
"sunglasses" twice. Ties count against a model, so such classes score 0 unless they are
credited for each other.
"""

import warnings
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, get_args

import numpy as np

from keras_pe.preprocessing.prompts import fill
from keras_pe.preprocessing.tokenizer import PETokenizer

# Equal ones are rivals, or count as one.
Equals = Literal["separate", "credit"]


def equal_classes(
    tokenizer: PETokenizer,
    class_names: Sequence[str],
    templates: Sequence[str],
    vectors: np.ndarray,
) -> np.ndarray:
    """Returns for each class the first one that is equal to it, int64 `(classes,)`.

    Classes are equal if all of their prompts have equal token ids, or if their vectors
    are equal to the last bit.

    Args:
        tokenizer: the model's.
        class_names: names of the classes.
        templates: prompts with one `{}` or `{c}`.
        vectors: `(classes, channels)`.
    """
    first = np.zeros(len(class_names), "int64")
    for template in templates:
        prompts = [fill(template, name) for name in class_names]
        ids = tokenizer(prompts)
        first = firsts(zip(first.tolist(), map(bytes, ids), strict=True))
        if len(np.unique(first)) == len(first):
            break
    # Equal prompts in different batches may differ in the last bit of their vectors.
    return firsts(vectors[place].tobytes() for place in first)


def equal_texts(tokenizer: PETokenizer, texts: Sequence[str]) -> np.ndarray:
    """Returns for each text the first one of equal token ids, int64 `(texts,)`.

    Example:
        >>> equal_texts(PETokenizer(), ["an owl", "a cat", "An  OWL"])
        array([0, 1, 0])
    """
    return firsts(map(bytes, tokenizer(list(texts))))


def firsts(keys: Iterable[Hashable]) -> np.ndarray:
    """Returns for each key the place of the first one that equals it.

    Example:
        >>> firsts("abca")
        array([0, 1, 2, 0])
    """
    places: dict[Hashable, int] = {}
    return np.array(
        [places.setdefault(key, place) for place, key in enumerate(keys)], "int64"
    )


def equal_groups(first: np.ndarray) -> list[list[int]]:
    """Returns the places of those that equal others, a list for each set of equals.

    Example:
        >>> equal_groups(np.array([0, 1, 0, 3, 1]))
        [[0, 2], [1, 4]]
    """
    groups: dict[int, list[int]] = {}
    for place, earliest in enumerate(first.tolist()):
        groups.setdefault(earliest, []).append(place)
    return [places for places in groups.values() if len(places) > 1]


def warn_of_equals(
    kind: str, names: Sequence[str], groups: list[list[int]], advice: str
) -> None:
    """Says which of the names are one to the model, if any are.

    Args:
        kind: what the names are, such as "class names".
        names: all of them.
        groups: from `equal_groups`.
        advice: what follows from it and what to do, in whole sentences.
    """
    if not groups:
        return
    shown = "; ".join(
        f"{', '.join(repr(names[place]) for place in group)} (places "
        f"{', '.join(map(str, group))})"
        for group in groups[:5]
    )
    more = f"; and {len(groups) - 5} more sets" if len(groups) > 5 else ""
    warnings.warn(
        f"{sum(map(len, groups))} of {len(names)} {kind} are not different to the "
        f"model: {shown}{more}. {advice}",
        stacklevel=3,
    )


def scores_of_equals(option: str) -> str:
    """Returns what an evaluation makes of equals, for `warn_of_equals`."""
    return (
        "Ties count against it, so none of them can come first. Give them different "
        f'texts, or {option}="credit" counts equal ones as one.'
    )


def check_equals(value: str, option: str) -> None:
    """Says if an option is neither "separate" nor "credit"."""
    if value not in get_args(Equals):
        raise ValueError(f"{option}={value!r}: expected one of {get_args(Equals)}.")
