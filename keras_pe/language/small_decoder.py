"""A small language model of the text tower's blocks: what needs no download."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import check_sizes
from keras_pe.language.decoder import (
    Caches,
    check_ids,
    check_length,
    check_place,
    check_places,
    checked_tokens,
    same_document,
)
from keras_pe.layers.attention import RotaryTable
from keras_pe.layers.initializers import RandomNormal
from keras_pe.layers.transformer import NORM_EPSILON
from keras_pe.models.tower import Tower

THETA = 10_000.0


@keras.saving.register_keras_serializable("keras_pe")
class SmallDecoder(Tower):
    """A causal transformer over embeddings of words and images.

    Pre-norm blocks as of the towers, rotary positions, and logits by the embedding of
    the tokens itself. At its default size 5 to 10 million weights, by the vocabulary:
    it is trained along with what it reads.

    Args:
        vocabulary_size: number of token ids.
        hidden_dim: channels of a token; of each head a multiple of 2.
        num_layers: transformer blocks.
        num_heads: attention heads.
        intermediate_dim: channels inside each feed-forward; None is 4 x `hidden_dim`.
        max_length: most tokens of a sequence, those of images included.
        layer_scale: starting value of LayerScale; None for none.
        drop_path: stochastic depth rate of the last block.
        remat: whether blocks are recomputed in the backward pass to save memory.
        name: name of the model.
        dtype: dtype or dtype policy of all layers.

    Source: ours; the paper's decoders are Llama 3 and Qwen 2.5 (section 5).

    Example:
        >>> decoder = SmallDecoder(600, hidden_dim=32, num_layers=2, num_heads=4)
        >>> hidden = decoder.run(decoder.embed(np.array([[5, 7, 599]])))
        >>> tuple(decoder.logits(hidden).shape)
        (1, 3, 600)
    """

    modality = "text"

    def __init__(
        self,
        vocabulary_size: int,
        hidden_dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 4,
        intermediate_dim: int | None = None,
        max_length: int = 512,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        remat: bool = False,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        check_sizes(hidden_dim=hidden_dim)
        wide = 4 * hidden_dim
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            intermediate_dim=wide if intermediate_dim is None else intermediate_dim,
            layer_scale=layer_scale,
            drop_path=drop_path,
            causal=True,
            remat=remat,
            name=name or "small_decoder",
            dtype=dtype,
        )
        check_sizes(vocabulary_size=vocabulary_size, max_length=max_length)
        if self.head_dim % 2:
            raise ValueError(
                f"Rotary positions turn pairs of channels: hidden_dim / num_heads must "
                f"be even, got {hidden_dim} / {num_heads}."
            )
        self.vocabulary_size, self.max_length = vocabulary_size, max_length
        self.rotary = position_table(max_length, self.head_dim)
        self.token_embedding = keras.layers.Embedding(
            vocabulary_size,
            hidden_dim,
            embeddings_initializer=RandomNormal(stddev=0.02),
            dtype=self.dtype_policy,
            name="token_embedding",
        )
        self.norm = keras.layers.LayerNormalization(
            epsilon=NORM_EPSILON, dtype=self.dtype_policy, name="norm"
        )
        self.build((None, None, hidden_dim))

    def build(self, embeddings_shape: Any) -> None:
        if getattr(self, "built", False):  # loading a model builds it again
            return
        self.token_embedding.build((None, None))
        self.build_blocks()
        self.norm.build((None, None, self.hidden_dim))
        self.built = True

    # === What a Decoder gives ===
    def embed(self, token_ids: Any) -> Any:
        """Returns `(batch, tokens, hidden_dim)`, of ids `(batch, tokens)`."""
        check_ids(self, token_ids)
        return self.token_embedding(token_ids)

    def run(
        self,
        embeddings: Any,  # (batch, tokens, hidden_dim)
        *,
        positions: Any = None,  # (batch, tokens) int32
        documents: Any = None,  # (batch, tokens) int32
        training: bool | None = None,
    ) -> Any:
        """Returns what stands behind the last norm; see `Decoder.run`."""
        return self(
            embeddings, positions=positions, documents=documents, training=training
        )

    def call(
        self,
        embeddings: Any,  # (batch, tokens, hidden_dim)
        positions: Any = None,  # (batch, tokens) int32
        documents: Any = None,  # (batch, tokens) int32
        drop_path_factors: Any = None,
        training: bool | None = None,
    ) -> Any:
        tokens = checked_tokens(self, embeddings.shape)
        check_places(self, embeddings.shape, positions=positions, documents=documents)
        rotary = tuple(table[:tokens] for table in self.rotary)
        if positions is not None:
            rotary = tuple(
                ops.take(ops.convert_to_tensor(table), positions, axis=0)
                for table in self.rotary
            )  # each (batch, tokens, head_dim // 2)
        mask = None if documents is None else same_document(documents)
        x = ops.cast(embeddings, self.compute_dtype)
        factors = drop_path_factors
        if factors is None and training:
            factors = self.draw_drop_path(ops.shape(x)[0])
        for number, block in enumerate(self.blocks):
            drop_path = None if factors is None else factors[number]
            x = self._run_block(block, x, rotary, drop_path, mask)
        return self.norm(x)

    def run_cached(
        self, embeddings: Any, caches: Caches, index: Any
    ) -> tuple[Any, Caches]:
        """Returns `run`'s result for new tokens, and the caches with them in."""
        tokens = checked_tokens(self, embeddings.shape)
        check_place(index, tokens, caches[0][0].shape[1])
        pairs = self.head_dim // 2
        rotary = tuple(
            ops.slice(ops.convert_to_tensor(table), (index, 0), (tokens, pairs))
            for table in self.rotary
        )
        x = ops.cast(embeddings, self.compute_dtype)
        found = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block(x, rotary=rotary, cache=cache, index=index)
            found.append(cache)
        return self.norm(x), found

    def new_caches(self, batch: int, length: int) -> Caches:
        """Returns empty caches for sequences of at most `length` tokens.

        Raises:
            ValueError: if that is more than `max_length`.
        """
        check_length(self, length, "in a cache")
        shape = (batch, length, self.num_heads, self.head_dim)
        return [
            (ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype))
            for _ in self.blocks
        ]

    def logits(self, hidden: Any) -> Any:  # (..., hidden_dim)
        """Returns `(..., vocabulary_size)` float32, of what `run` returns."""
        matrix = ops.cast(self.token_embedding.embeddings, hidden.dtype)
        return ops.cast(ops.matmul(hidden, ops.transpose(matrix)), "float32")

    # === Config ===
    def compute_output_shape(self, embeddings_shape: Any, **shapes: Any) -> Any:
        return embeddings_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **self.tower_config(),
            "vocabulary_size": self.vocabulary_size,
            "max_length": self.max_length,
        }


def position_table(length: int, head_dim: int) -> RotaryTable:
    """Returns cosines and sines `(length, head_dim // 2)` of the places of tokens.

    Source: Su et al. 2021, "RoFormer".
    """
    exponents = np.arange(0, head_dim, 2, dtype="float32") / np.float32(head_dim)
    places = np.arange(length, dtype="float32")[:, None]
    angles = places / np.float32(THETA) ** exponents
    return np.cos(angles), np.sin(angles)
