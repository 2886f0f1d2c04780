"""Attention pooling: one learned probe asks all tokens."""

from typing import Any

import keras
from keras import ops

from keras_pe.layers.dense import Dense
from keras_pe.layers.dot_product import attend
from keras_pe.layers.initializers import RandomNormal
from keras_pe.layers.layer_state import LayerOfLayers
from keras_pe.layers.sizes import check_sizes
from keras_pe.layers.transformer import NORM_EPSILON, FeedForward


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
