"""Multi-head self-attention with a fused projection and optional 2D RoPE."""

from typing import Any

import keras
from keras import ops

from keras_pe.layers.dense import Dense
from keras_pe.layers.dot_product import attend
from keras_pe.layers.layer_state import LayerOfLayers
from keras_pe.layers.rope import RotaryTable, rotate
from keras_pe.layers.sizes import check_sizes


@keras.saving.register_keras_serializable("keras_pe")
class SelfAttention(LayerOfLayers):
    """Self-attention whose queries, keys and values come from one `Dense`.

    One `Dense` rather than a raw matrix, so that LoRA and int8 quantisation reach it.

    Args:
        hidden_dim: channels of a token.
        num_heads: number of heads; divides `hidden_dim`.
        causal: whether a token sees only itself and the tokens before it.

    Source: upstream `core/vision_encoder/pe.py`, `SelfAttention`.

    Example:
        >>> import numpy as np
        >>> tuple(SelfAttention(32, 4)(np.zeros((2, 5, 32), "float32")).shape)
        (2, 5, 32)
    """

    def __init__(
        self, hidden_dim: int, num_heads: int, causal: bool = False, **kwargs: Any
    ) -> None:
        # Without autocast Keras would hand the float32 rotary tables over in bfloat16.
        super().__init__(autocast=False, **kwargs)
        check_sizes(hidden_dim=hidden_dim, num_heads=num_heads)
        if hidden_dim % num_heads:
            raise ValueError(
                f"num_heads must divide hidden_dim, got hidden_dim={hidden_dim} and "
                f"num_heads={num_heads}."
            )
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.head_dim = hidden_dim // num_heads
        self.causal = causal
        self.qkv = Dense(3 * hidden_dim, dtype=self.dtype_policy, name="qkv")
        self.output_projection = Dense(
            hidden_dim, dtype=self.dtype_policy, name="output"
        )

    def build(self, x_shape: Any) -> None:
        self.qkv.build((None, None, self.hidden_dim))
        self.output_projection.build((None, None, self.hidden_dim))
        self.restore_when_built()

    def call(  # x: (batch, tokens, hidden_dim)
        self,
        x: Any,
        rotary: RotaryTable | None = None,
        pooled_token: Any = None,  # (batch, 1, 1) int32: the one token that goes on
        attention_mask: Any = None,  # bool (batch, 1, 1, tokens): false is not seen
    ) -> Any:
        tokens = x.shape[1]
        qkv = ops.reshape(self.qkv(x), (-1, tokens, 3, self.num_heads, self.head_dim))
        query, key, value = ops.unstack(qkv, 3, axis=2)
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        x = attend(query, key, value, mask=attention_mask, causal=self.causal)
        x = ops.reshape(x, (-1, tokens, self.hidden_dim))
        if pooled_token is not None:
            x = ops.take_along_axis(x, pooled_token, axis=1)  # (batch, 1, hidden_dim)
        return self.output_projection(x)

    def compute_output_shape(self, x_shape: Any, **shapes: Any) -> Any:
        if shapes.get("pooled_token_shape") is None:
            return x_shape
        return (x_shape[0], 1, x_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "causal": self.causal,
        }
