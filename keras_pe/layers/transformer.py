"""The pre-norm transformer block and its parts; pooling by one learned probe."""

from typing import Any

import keras
from keras import ops

from keras_pe.arrays import check_sizes
from keras_pe.layers.attention import Cache, RotaryTable, SelfAttention, attend
from keras_pe.layers.fine_tuning import Dense, LayerOfLayers
from keras_pe.layers.initializers import RandomNormal

NORM_EPSILON = 1e-5  # upstream's LayerNorm default, everywhere in the model


@keras.saving.register_keras_serializable("keras_pe")
class FeedForward(LayerOfLayers):
    """Two `Dense` layers with an exact GELU between them.

    Args:
        hidden_dim: channels in and out.
        intermediate_dim: channels in between.

    Example:
        >>> layer = FeedForward(hidden_dim=8, intermediate_dim=32)
        >>> tuple(layer(ops.ones((2, 5, 8))).shape)
        (2, 5, 8)
    """

    def __init__(self, hidden_dim: int, intermediate_dim: int, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        check_sizes(hidden_dim=hidden_dim, intermediate_dim=intermediate_dim)
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.expand = Dense(intermediate_dim, dtype=self.dtype_policy, name="expand")
        self.contract = Dense(hidden_dim, dtype=self.dtype_policy, name="contract")

    def build(self, x_shape: Any) -> None:
        self.expand.build((None, None, self.hidden_dim))
        self.contract.build((None, None, self.intermediate_dim))
        self.restore_when_built()

    def call(self, x: Any) -> Any:  # (batch, tokens, hidden_dim)
        return self.contract(ops.gelu(self.expand(x), approximate=False))

    def compute_output_shape(self, x_shape: Any) -> Any:
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "intermediate_dim": self.intermediate_dim,
        }


@keras.saving.register_keras_serializable("keras_pe")
class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a learned factor.

    Args:
        hidden_dim: channels.
        initial_value: starting factor; the paper's spatial alignment uses 0.1.

    Example:
        >>> scaled = LayerScale(hidden_dim=8, initial_value=0.1)(ops.ones((1, 5, 8)))
        >>> round(float(ops.max(scaled)), 6)
        0.1
    """

    def __init__(self, hidden_dim: int, initial_value: float, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.hidden_dim = hidden_dim
        self.initial_value = initial_value

    def build(self, x_shape: Any) -> None:
        self.scale = self.add_weight(
            shape=(self.hidden_dim,),
            initializer=keras.initializers.Constant(self.initial_value),
            name="scale",
        )

    def call(self, x: Any) -> Any:  # (batch, tokens, hidden_dim)
        return x * ops.cast(self.scale, x.dtype)

    def compute_output_shape(self, x_shape: Any) -> Any:
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "initial_value": self.initial_value,
        }


def drop_path_factors(
    batch: Any, rates: list[float], seed_generator: keras.random.SeedGenerator
) -> Any:
    """Draws the stochastic-depth factors of a whole stack of blocks at once.

    They are drawn here, outside the blocks, and handed in as an ordinary array: a
    random draw inside a rematerialised function fails on JAX and may be drawn anew
    for the backward pass on TensorFlow.

    Args:
        batch: number of samples; may be symbolic.
        rates: drop rate of each block, in [0, 1).
        seed_generator: where the randomness comes from.

    Returns:
        float32 `(blocks, 2, batch, 1, 1)`: 0 where a sample skips the branch, else
        1 / (1 - rate), so that the expected value is 1.

    Source: Huang et al. 2016, "Deep Networks with Stochastic Depth".
    """
    keep = ops.reshape(
        ops.convert_to_tensor([1.0 - rate for rate in rates], "float32"),
        (-1, 1, 1, 1, 1),
    )
    uniform = keras.random.uniform((len(rates), 2, batch, 1, 1), seed=seed_generator)
    return ops.floor(uniform + keep) / keep


@keras.saving.register_keras_serializable("keras_pe")
class TransformerBlock(LayerOfLayers):
    """Pre-norm attention and feed-forward, each with a residual connection.

    Args:
        hidden_dim: channels of a token.
        num_heads: heads of the attention.
        intermediate_dim: channels inside the feed-forward.
        layer_scale: starting value of LayerScale, or None for none.
        causal: whether attention is causal (the text tower).

    Source: Perception Encoder, appendix B.1; upstream `ResidualAttentionBlock`.

    Example:
        >>> import numpy as np
        >>> tuple(TransformerBlock(32, 4, 64)(np.zeros((2, 5, 32), "float32")).shape)
        (2, 5, 32)
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        layer_scale: float | None = None,
        causal: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.layer_scale = layer_scale
        self.causal = causal

        policy = self.dtype_policy
        self.attention_norm = keras.layers.LayerNormalization(
            epsilon=NORM_EPSILON, dtype=policy, name="attention_norm"
        )
        self.attention = SelfAttention(
            hidden_dim, num_heads, causal=causal, dtype=policy, name="attention"
        )
        self.feed_forward_norm = keras.layers.LayerNormalization(
            epsilon=NORM_EPSILON, dtype=policy, name="feed_forward_norm"
        )
        self.feed_forward = FeedForward(
            hidden_dim, intermediate_dim, dtype=policy, name="feed_forward"
        )
        self.attention_scale: LayerScale | None = None
        self.feed_forward_scale: LayerScale | None = None
        if layer_scale is not None:
            self.attention_scale = LayerScale(
                hidden_dim, layer_scale, dtype=policy, name="attention_scale"
            )
            self.feed_forward_scale = LayerScale(
                hidden_dim, layer_scale, dtype=policy, name="feed_forward_scale"
            )

    # No property: Keras would find these layers under its name, in files too.
    def dense_layers(self) -> tuple[Dense, ...]:
        """Returns the matrices that LoRA adapts."""
        return (
            self.attention.qkv,
            self.attention.output_projection,
            self.feed_forward.expand,
            self.feed_forward.contract,
        )

    def build(self, x_shape: Any) -> None:
        shape = (None, None, self.hidden_dim)
        self.attention_norm.build(shape)
        self.attention.build(shape)
        self.feed_forward_norm.build(shape)
        self.feed_forward.build(shape)
        if self.attention_scale is not None and self.feed_forward_scale is not None:
            self.attention_scale.build(shape)
            self.feed_forward_scale.build(shape)
        self.restore_when_built()

    def call(  # x: (batch, tokens, hidden_dim)
        self,
        x: Any,
        rotary: RotaryTable | None = None,
        drop_path: Any = None,  # (2, batch, 1, 1), from drop_path_factors
        pooled_token: Any = None,  # (batch, 1, 1) int32: the one token that goes on
        attention_mask: Any = None,  # bool, to (batch, heads, tokens, keys)
        cache: Cache | None = None,  # with it the result is (x, cache)
        index: Any = None,  # () int32, the place of the first token in the cache
    ) -> Any:
        x = ops.cast(x, self.compute_dtype)  # without autocast, a no-op in a tower
        branch = self.attention(
            self.attention_norm(x),
            rotary=rotary,
            pooled_token=pooled_token,
            attention_mask=attention_mask,
            cache=cache,
            index=index,
        )
        if cache is not None:
            branch, cache = branch
        if pooled_token is not None:
            x = ops.take_along_axis(x, pooled_token, axis=1)  # (batch, 1, hidden_dim)
        if self.attention_scale is not None:
            branch = self.attention_scale(branch)
        if drop_path is not None:
            branch = branch * ops.cast(drop_path[0], branch.dtype)
        x = x + branch
        branch = self.feed_forward(self.feed_forward_norm(x))
        if self.feed_forward_scale is not None:
            branch = self.feed_forward_scale(branch)
        if drop_path is not None:
            branch = branch * ops.cast(drop_path[1], branch.dtype)
        return x + branch if cache is None else (x + branch, cache)

    def compute_output_shape(self, x_shape: Any, **shapes: Any) -> Any:
        if shapes.get("pooled_token_shape") is None:
            return x_shape
        return (x_shape[0], 1, x_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "layer_scale": self.layer_scale,
            "causal": self.causal,
        }


@keras.saving.register_keras_serializable("keras_pe")
class AttentionPooling(LayerOfLayers):
    """Pools tokens into one vector by cross-attention from a learned probe.

    There is no residual connection around the attention, only around the
    feed-forward that follows; the class token, if any, is one of the tokens asked.

    Args:
        hidden_dim: channels of a token.
        num_heads: heads; 8 in every published model.
        intermediate_dim: channels inside the feed-forward; None is 4 x `hidden_dim`.

    Source: Perception Encoder, appendix B.1.1; upstream `AttentionPooling`.

    Example:
        >>> import numpy as np
        >>> tuple(AttentionPooling(32, 8)(np.zeros((2, 5, 32), "float32")).shape)
        (2, 32)
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int = 8,
        intermediate_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        check_sizes(hidden_dim=hidden_dim, pooling_heads=num_heads)
        if hidden_dim % num_heads:
            raise ValueError(
                f"pooling_heads must divide hidden_dim, got hidden_dim={hidden_dim} "
                f"and pooling_heads={num_heads}."
            )
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.head_dim = hidden_dim // num_heads
        self.intermediate_dim = intermediate_dim or 4 * hidden_dim
        policy = self.dtype_policy
        self.query = Dense(hidden_dim, dtype=policy, name="query")
        self.key_value = Dense(2 * hidden_dim, dtype=policy, name="key_value")
        self.output_projection = Dense(hidden_dim, dtype=policy, name="output")
        self.norm = keras.layers.LayerNormalization(
            epsilon=NORM_EPSILON, dtype=policy, name="norm"
        )
        self.feed_forward = FeedForward(
            hidden_dim, self.intermediate_dim, dtype=policy, name="feed_forward"
        )

    def build(self, x_shape: Any) -> None:
        shape = (None, None, self.hidden_dim)
        self.probe = self.add_weight(
            shape=(self.hidden_dim,),
            initializer=RandomNormal(stddev=1.0),
            name="probe",
        )
        self.query.build(shape)
        self.key_value.build(shape)
        self.output_projection.build(shape)
        self.norm.build(shape)
        self.feed_forward.build(shape)
        self.restore_when_built()

    def call(self, x: Any) -> Any:  # (batch, tokens, hidden_dim)
        tokens = x.shape[1]
        heads, head_dim = self.num_heads, self.head_dim
        # The probe is the same for every sample: project it once, then repeat it.
        query = ops.reshape(self.query(self.probe[None, None]), (1, 1, heads, head_dim))
        query = ops.broadcast_to(query, (ops.shape(x)[0], 1, heads, head_dim))
        key_value = ops.reshape(self.key_value(x), (-1, tokens, 2, heads, head_dim))
        pooled = attend(query, key_value[:, :, 0], key_value[:, :, 1])
        pooled = ops.reshape(pooled, (-1, 1, self.hidden_dim))
        pooled = self.output_projection(pooled)
        pooled = pooled + self.feed_forward(self.norm(pooled))
        return ops.squeeze(pooled, 1)  # (batch, hidden_dim)

    def compute_output_shape(self, x_shape: Any) -> Any:
        return (x_shape[0], self.hidden_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
        }
