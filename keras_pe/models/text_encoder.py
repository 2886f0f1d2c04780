"""The text tower of Perception Encoder, and what the ids that it reads must be."""

import functools
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import check_sizes, host_array
from keras_pe.layers.fine_tuning import Dense
from keras_pe.layers.initializers import RandomNormal
from keras_pe.layers.transformer import NORM_EPSILON
from keras_pe.models.checked_model import Check
from keras_pe.models.compiled import run_compiled
from keras_pe.models.tower import Tower


@keras.saving.register_keras_serializable("keras_pe")
class PETextEncoder(Tower):
    """Causal transformer over token ids, pooled at the end-of-text token.

    The end-of-text token is the one with the largest id, as in CLIP. Texts may be
    shorter than the context length, in tokens; what comes after the end-of-text token
    has no influence.

    Args:
        vocabulary_size: number of token ids.
        context_length: most tokens that a text can have.
        hidden_dim: channels of a token.
        num_layers: transformer blocks.
        num_heads: attention heads.
        intermediate_dim: channels inside each feed-forward.
        output_dim: channels of the embedding.
        layer_scale: starting value of LayerScale; None for none.
        drop_path: stochastic depth rate of the last block.
        remat: whether blocks are recomputed in the backward pass to save memory.
        name: name of the model.
        dtype: dtype or dtype policy of all layers.

    Source: Perception Encoder, table 17; upstream `TextTransformer`.

    Example:
        >>> import numpy as np
        >>> encoder = PETextEncoder(vocabulary_size=600, context_length=8,
        ...     hidden_dim=32, num_layers=2, num_heads=4, intermediate_dim=64,
        ...     output_dim=16)
        >>> tuple(encoder(np.array([[598, 5, 599, 0]], "int32")).shape)
        (1, 16)
    """

    modality = "text"

    def __init__(
        self,
        vocabulary_size: int = 49408,
        context_length: int = 32,
        hidden_dim: int = 1024,
        num_layers: int = 24,
        num_heads: int = 16,
        intermediate_dim: int = 4096,
        output_dim: int = 1024,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        remat: bool = False,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            intermediate_dim=intermediate_dim,
            layer_scale=layer_scale,
            drop_path=drop_path,
            causal=True,
            remat=remat,
            name=name or "pe_text_encoder",
            dtype=dtype,
        )
        check_sizes(
            vocabulary_size=vocabulary_size,
            context_length=context_length,
            output_dim=output_dim,
        )
        self.vocabulary_size = vocabulary_size
        self.context_length = context_length
        self.output_dim = output_dim

        # === Layers ===
        policy = self.dtype_policy
        self.token_embedding = keras.layers.Embedding(
            vocabulary_size,
            hidden_dim,
            embeddings_initializer=RandomNormal(stddev=0.02),
            dtype=policy,
            name="token_embedding",
        )
        self.norm = keras.layers.LayerNormalization(
            epsilon=NORM_EPSILON, dtype=policy, name="norm"
        )
        self.projection = Dense(
            output_dim,
            use_bias=False,
            kernel_initializer=RandomNormal(stddev=hidden_dim**-0.5),
            dtype=policy,
            name="projection",
        )
        self.build((None, context_length))

    def build(self, token_ids_shape: Any) -> None:
        if getattr(self, "built", False):  # loading a model builds it again
            return
        self.token_embedding.build((None, None))
        self.position_embedding = self.add_weight(
            shape=(self.context_length, self.hidden_dim),
            initializer=RandomNormal(stddev=0.01),
            name="position_embedding",
        )
        self.build_blocks()
        self.norm.build((None, None, self.hidden_dim))
        self.projection.build((None, self.hidden_dim))
        self.built = True

    # === Functional model ===
    def call(  # token_ids: (batch, tokens) int32
        self,
        token_ids: Any,
        drop_path_factors: Any = None,  # from draw_drop_path; None draws them here
        training: bool | None = None,
    ) -> Any:
        tokens = self._check_length(token_ids.shape)
        self._check_ids(token_ids)
        token_ids = ops.cast(token_ids, "int32")
        # Where values can't be checked, backends differ on ids that do not exist: they
        # wrap, read zeros or stop the device. Such a text becomes NaN on all of them.
        known = ops.clip(token_ids, 0, self.vocabulary_size - 1)
        wrong = ops.any(known != token_ids, axis=-1)[:, None, None]
        x = self.token_embedding(known)  # (batch, tokens, hidden_dim)
        x = ops.where(wrong, ops.cast(float("nan"), x.dtype), x)
        x = x + ops.cast(self.position_embedding[:tokens], x.dtype)
        (pooled,) = self.run_blocks(  # (batch, 1, hidden_dim)
            x,
            [self.num_layers],
            pooled_token=ops.argmax(token_ids, axis=-1)[:, None, None],
            drop_path_factors=drop_path_factors,
            training=training,
        )
        return self.projection(ops.squeeze(self.norm(pooled), 1))

    def _check_length(self, shape: Any) -> int:
        if len(shape) != 2 or shape[1] is None or shape[1] > self.context_length:
            raise ValueError(
                f"Expected token ids of shape (batch, tokens) with at most "
                f"{self.context_length} tokens, got {tuple(shape)}. Make them with "
                f"{tokenizer_of(self.vocabulary_size, self.context_length)}."
            )
        return int(shape[1])

    def compute_output_shape(self, token_ids_shape: Any, **shapes: Any) -> Any:
        return (token_ids_shape[0], self.output_dim)

    def encode(self, token_ids: Any, *, gradient: bool = False) -> Any:
        """Returns the tower's output, compiled: the inference twin of calling it.

        Args:
            token_ids: `(batch, tokens)` int32, from `PETokenizer`.
            gradient: whether gradients flow from the result; by default it holds no
                graph and is read by `np.asarray`.
        """
        token_ids = self.checked_ids(token_ids)
        return run_compiled(self, "encode", self._encode, token_ids, gradient=gradient)

    def _encode(self, token_ids: Any) -> Any:
        return self(token_ids, training=False)

    def checked_ids(self, token_ids: Any) -> Any:
        """Returns token ids as an int32 tensor, or says what is wrong with them."""
        if not hasattr(token_ids, "dtype"):
            token_ids = np.asarray(token_ids)
        self._check_ids(token_ids)
        self._check_length(token_ids.shape)
        if isinstance(token_ids, keras.KerasTensor):
            return token_ids
        return ops.convert_to_tensor(token_ids, dtype="int32")

    def _check_ids(self, token_ids: Any) -> None:
        check_token_ids(token_ids, self.vocabulary_size, self.context_length)

    def input_check(self, training: bool) -> Check:
        return functools.partial(
            check_token_ids,
            vocabulary_size=self.vocabulary_size,
            context_length=self.context_length,
        )

    # === Config ===
    def get_config(self) -> dict[str, Any]:
        return {
            **self.tower_config(),
            "vocabulary_size": self.vocabulary_size,
            "context_length": self.context_length,
            "output_dim": self.output_dim,
        }


# === Token ids ===
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
