"""What a causal language model must give to be taught by images."""

from typing import Any, Protocol

from keras import ops

from keras_pe.data.packing import BRANCH
from keras_pe.models.text_encoder import first_unknown

Caches = list[Any]  # one of each block, of whatever kind the model takes


class Decoder(Protocol):
    """A causal language model that runs on embeddings, with or without a cache.

    Images enter as embeddings among those of the words, so nothing here takes ids but
    `embed`. The model is causal over all of them, those of images too, as upstream's.

    Attributes:
        hidden_dim: channels of an embedding.
        vocabulary_size: how many token ids there are.
        max_length: most tokens of a sequence.

    Source: Perception Encoder, section 5; upstream `apps/plm/transformer.py`.

    Example:
        >>> from keras_pe.language import SmallDecoder
        >>> decoder: Decoder = SmallDecoder(600, hidden_dim=16, num_layers=1,
        ...     num_heads=2)
        >>> len(decoder.new_caches(batch=1, length=8))    # one of each block
        1
    """

    hidden_dim: int
    vocabulary_size: int
    max_length: int

    def embed(self, token_ids: Any) -> Any:
        """Returns `(batch, tokens, hidden_dim)`, of ids `(batch, tokens)`."""

    def run(
        self,
        embeddings: Any,
        *,
        positions: Any = None,
        documents: Any = None,
        training: bool | None = None,
    ) -> Any:
        """Returns what stands behind the last norm, `(batch, tokens, hidden_dim)`.

        Args:
            embeddings: `(batch, tokens, hidden_dim)`, of words and images.
            positions: `(batch, tokens)` int32; None counts from 0.
            documents: `(batch, tokens)` int32: a token sees those of its own number
                alone, and of the trunk that it branches from, see `same_document`; None
                for one document a row.
            training: whether dropout and stochastic depth are active.
        """

    def run_cached(
        self, embeddings: Any, caches: Caches, index: Any
    ) -> tuple[Any, Caches]:
        """Returns `run`'s result for new tokens, and the caches with them in.

        Args:
            embeddings: `(batch, tokens, hidden_dim)`, of the new tokens alone.
            caches: as of `new_caches`, of the tokens before.
            index: place of the first new token.
        """

    def new_caches(self, batch: int, length: int) -> Caches:
        """Returns empty caches for sequences of at most `length` tokens."""

    def logits(self, hidden: Any) -> Any:
        """Returns `(..., vocabulary_size)` float32, of what `run` returns."""


# === What all of them say of their input ===
def check_ids(decoder: Any, token_ids: Any) -> None:
    """Says if ids are none, or one does not exist, where it can be seen for nothing.

    Raises:
        ValueError: if they are no whole numbers; naming the first one that does not
            exist and its place.
    """
    dtype = getattr(token_ids, "dtype", None)
    if dtype is None or "int" not in str(dtype):
        raise ValueError(
            f"{decoder.name} embeds an array of token ids, whole numbers (batch, "
            f"tokens), got {token_ids!r:.60} ({dtype or type(token_ids).__name__})."
        )
    unknown = first_unknown(token_ids, decoder.vocabulary_size)
    if unknown is not None:
        raise ValueError(
            f"{decoder.name} has token ids from 0 to {decoder.vocabulary_size - 1}, "
            f"got {unknown.number} at {list(unknown.place)}. They come from another "
            f"tokenizer."
        )


def checked_tokens(decoder: Any, shape: Any) -> int:
    """Returns how many tokens embeddings of a shape have, or says why they are none.

    Raises:
        ValueError: if they have another width, or are more than the decoder reads.
    """
    if len(shape) != 3 or shape[2] != decoder.hidden_dim or not shape[1]:
        raise ValueError(
            f"Expected embeddings (batch, tokens, {decoder.hidden_dim}), got "
            f"{tuple(shape)}. Words come from embed(), images from a projector to "
            f"{decoder.hidden_dim} channels."
        )
    check_length(decoder, shape[1])
    return int(shape[1])


def check_places(decoder: Any, shape: Any, **places: Any) -> None:
    """Refuses positions and documents that are not one a token, or do not exist.

    Args:
        decoder: that reads them.
        shape: of the embeddings.
        **places: `positions` and `documents`; None for one that was not given.

    Raises:
        ValueError: naming which, as backends would wrap, or stop in a sentence of
            theirs.
    """
    for name, array in places.items():
        found = tuple(shape[:2]) if array is None else tuple(array.shape)
        pairs = zip(found, shape[:2], strict=False)  # a traced size may not be known
        if len(found) != 2 or any(a != b for a, b in pairs if None not in (a, b)):
            raise ValueError(
                f"{name} must be one a token, {tuple(shape[:2])}, got {found}."
            )
    unknown = first_unknown(places["positions"], decoder.max_length)
    if unknown is not None:
        raise ValueError(
            f"{decoder.name} knows positions from 0 to {decoder.max_length - 1}, got "
            f"{unknown.number} at {list(unknown.place)}."
        )


def check_length(decoder: Any, length: int, what: str = "tokens") -> None:
    """Raises ValueError if a sequence is longer than the decoder reads."""
    if length > decoder.max_length:
        raise ValueError(
            f"{decoder.name} reads at most {decoder.max_length} tokens, got {length} "
            f"{what}. Give it fewer, or build it with a larger max_length."
        )


def check_place(index: Any, tokens: int, length: int) -> None:
    """Says if new tokens do not fit into a cache, where their place is a number.

    Raises:
        ValueError: as a backend would move them, in silence, over those before.
    """
    if isinstance(index, int) and not 0 <= index <= length - tokens:
        raise ValueError(
            f"A cache of {length} tokens can't take {tokens} at place {index}."
        )


def same_document(documents: Any) -> Any:  # (batch, tokens) int32
    """Returns which tokens others may see: bool `(batch, 1, tokens, tokens)`.

    A token sees those of its own document; where that branches, those of the trunk and
    of its own branch (`keras_pe.data.packing.BRANCH`). No row is empty: a token sees
    itself.
    """
    documents = ops.convert_to_tensor(documents)
    of_trunk = documents % BRANCH  # of the document that a token is of
    seeing, seen = documents[:, None, :, None], documents[:, None, None, :]
    return (seeing == seen) | (of_trunk[:, None, :, None] == seen)
