"""What a causal language model must give to be taught by images."""

from typing import Any, Protocol

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
                alone; None for one document a row.
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
