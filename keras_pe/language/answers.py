"""What the answers of packed rows cost a language model, and how many are right."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from keras import ops

from keras_pe.language.decoder import Decoder
from keras_pe.losses.answers import answer_loss


class AnswerCost(NamedTuple):
    """Sums over the answer tokens of some rows.

    Attributes:
        cost: float32 scalar, in nats.
        right: float32 scalar, how many tokens the model likes best.

    Example:
        >>> total = AnswerCost(cost=6.0, right=3)
        >>> total.cost / 4    # nats a token, of four answer tokens
        1.5
    """

    cost: Any
    right: Any


def answer_cost(
    decoder: Decoder,
    image_tokens: Any,  # (rows, tokens, hidden_dim)
    packed: Mapping[str, Any],
    training: bool | None = None,
) -> AnswerCost:
    """Returns what the answers of packed rows cost, and how many tokens are right.

    Args:
        decoder: reads the rows.
        image_tokens: `(rows, tokens, hidden_dim)`: of the images of each row, one after
            another, as a projector gives them; their dtype is that of the embeddings.
        packed: arrays as of `keras_pe.data.packing.packed_row`, stacked.
        training: whether the decoder's dropout and stochastic depth are active.

    Example:
        >>> import numpy as np
        >>> from keras_pe.data.packing import Document, packed_row
        >>> from keras_pe.language import SmallDecoder
        >>> document = Document(np.array([1, 0, 2, 3]), np.array([0, 0, 0, 1], bool),
        ...     np.array([0, 1, 0, 0], bool))
        >>> row = packed_row([document], length=6, slots=2)
        >>> decoder = SmallDecoder(60, hidden_dim=16, num_layers=1, num_heads=2)
        >>> found = answer_cost(decoder, np.zeros((1, 1, 16), "float32"),
        ...     {name: array[None] for name, array in row.items()})
        >>> float(found.cost) > 0.0
        True
    """
    x = among_words(decoder, packed["token_ids"], packed["image_slots"], image_tokens)
    hidden = decoder.run(
        x,
        positions=packed["positions"],
        documents=packed["documents"],
        training=training,
    )
    places = ops.cast(packed["answer_places"], "int32")[..., None]
    logits = decoder.logits(_taken(hidden, places))
    weights = ops.cast(packed["answer_weights"], "float32")
    cost = answer_loss(logits, packed["answer_ids"], weights, total=1.0)
    ids = ops.cast(packed["answer_ids"], "int32")
    right = ops.cast(ops.argmax(logits, axis=-1), "int32") == ids
    return AnswerCost(cost, ops.sum(weights * ops.cast(right, "float32")))


def among_words(
    decoder: Decoder,
    token_ids: Any,  # (rows, length)
    image_slots: Any,  # (rows, length)
    image_tokens: Any,  # (rows, tokens, hidden_dim)
) -> Any:
    """Returns the embeddings of rows, `(rows, length, hidden_dim)`, images in place.

    Args:
        decoder: gives the embeddings of words.
        token_ids: `(rows, length)` int.
        image_slots: `(rows, length)` int: k where token k of the row's image tokens
            stands, counted from 1; 0 where a word stands.
        image_tokens: `(rows, tokens, hidden_dim)`.
    """
    image_tokens = ops.convert_to_tensor(image_tokens)
    x = ops.cast(decoder.embed(token_ids), image_tokens.dtype)
    slots = ops.cast(image_slots, "int32")[..., None]  # (rows, length, 1)
    # A place that is no image's takes the first token, and then does not.
    seen = _taken(image_tokens, ops.maximum(slots - 1, 0))
    return ops.where(slots > 0, seen, x)


def _taken(x: Any, places: Any) -> Any:  # (rows, tokens, channels), (rows, n, 1)
    """Returns tokens `(rows, n, channels)`; NaN for those that do not exist.

    No value can be refused in a compiled step, and backends differ on such places: they
    wrap, take the last one or stop. NaN ends a run with a sentence.
    """
    known = ops.clip(places, 0, x.shape[1] - 1)
    found = ops.take_along_axis(x, known, axis=1)
    return ops.where(known == places, found, ops.cast(float("nan"), x.dtype))
