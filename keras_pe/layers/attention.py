"""Multi-head self-attention: 2D rotary positions, dot products, fused projection."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import check_sizes
from keras_pe.layers.fine_tuning import Dense, LayerOfLayers

# Keys and values of the tokens so far, each (batch, length, heads, head_dim).
Cache = tuple[Any, Any]

# === Rotary position embedding ===
# (cos, sin), each (tokens, head_dim // 2) or (batch, tokens, head_dim // 2), float32.
RotaryTable = tuple[Any, Any]


def rotary_table(
    grid: tuple[int, int],
    head_dim: int,
    *,
    class_token: bool,
    theta: float = 10_000.0,
    reference_grid: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cosines and sines that turn the channel pairs of each token.

    The first half of the channel pairs turns with the column (x), the second half
    with the row (y). Positions are integers, whatever the resolution: a larger
    image simply has larger positions. With a class token the patches count from 1
    and the class token keeps angle 0, so it is not rotated; without one they count
    from 0.

    Args:
        grid: (rows, columns) of patches.
        head_dim: channels a head; a multiple of 4.
        class_token: whether the first token is the class token.
        theta: base of the geometric series of frequencies.
        reference_grid: None for the integer positions of the paper and of upstream.
            A side in patches scales positions by `reference_grid / grid` along each
            axis, as timm does away from a model's native size.

    Returns:
        `(cos, sin)`, float32, each `(tokens, head_dim // 2)`: one angle a pair.

    Raises:
        ValueError: if `head_dim` is not a multiple of 4.

    Source: Perception Encoder, section 2.1; upstream `core/vision_encoder/rope.py`.

    Example:
        >>> cos, sin = rotary_table((2, 3), head_dim=8, class_token=True)
        >>> cos.shape
        (7, 4)
    """
    if head_dim % 4:
        raise ValueError(
            f"2D RoPE needs a head_dim that is a multiple of 4 (two axes of channel "
            f"pairs), got {head_dim}. Choose hidden_dim and num_heads so that "
            f"hidden_dim / num_heads is a multiple of 4."
        )
    rows, columns = grid
    axis_dim = head_dim // 2
    exponents = np.arange(0, axis_dim, 2, dtype=np.float32) / np.float32(axis_dim)
    frequencies = (1.0 / np.float32(theta) ** exponents).astype(np.float32)
    first = 1 if class_token else 0
    x = np.arange(first, first + columns, dtype=np.float32)
    y = np.arange(first, first + rows, dtype=np.float32)
    if reference_grid is not None:
        x = x / np.float32(columns) * np.float32(reference_grid)
        y = y / np.float32(rows) * np.float32(reference_grid)
    pairs_per_axis = frequencies.size
    angles = np.empty((rows, columns, 2, pairs_per_axis), dtype=np.float32)
    angles[:, :, 0] = x[None, :, None] * frequencies
    angles[:, :, 1] = y[:, None, None] * frequencies
    table = angles.reshape(rows * columns, 2 * pairs_per_axis)
    if class_token:
        table = np.concatenate([np.zeros_like(table[:1]), table])
    return np.cos(table), np.sin(table)


def rotate(x: Any, table: RotaryTable) -> Any:  # x: (batch, tokens, heads, head_dim)
    """Turns each interleaved channel pair of `x` by its token's angle.

    The rotation runs in float32 whatever the dtype of `x`: bfloat16 has 8 bits of
    mantissa, too few for the angles of a large grid.

    Args:
        x: queries or keys, `(batch, tokens, heads, head_dim)`.
        table: `(cos, sin)` from `rotary_table`; a leading batch axis is allowed,
            for images that keep different patches.

    Returns:
        The rotated tensor, of the shape and dtype of `x`.

    Example:
        >>> from keras_pe.layers import rotary_table
        >>> table = rotary_table((2, 3), head_dim=8, class_token=False)
        >>> x = ops.ones((1, 6, 2, 8))    # six patches, two heads
        >>> tuple(rotate(x, table).shape)
        (1, 6, 2, 8)
    """
    cos, sin = (ops.expand_dims(ops.cast(t, "float32"), -2) for t in table)
    _, tokens, heads, head_dim = x.shape
    # -1 for the batch alone: every other size is known when the graph is traced.
    pairs = ops.reshape(ops.cast(x, "float32"), (-1, tokens, heads, head_dim // 2, 2))
    # Not pairs[..., 0]: PyTorch fills a whole zero tensor for each gradient of those.
    even, odd = ops.unstack(pairs, 2, axis=-1)
    turned = ops.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    return ops.cast(ops.reshape(turned, (-1, tokens, heads, head_dim)), x.dtype)


# === Scaled dot products: the backend's own, or written out where that pays ===
# Below so many tokens PyTorch's bfloat16 kernel for CPUs takes five times as long, in
# the backward pass, as the products written out; at 200 they are even.
FEW_TOKENS = 128


def attend(  # query: (batch, queries, heads, head_dim)
    query: Any, key: Any, value: Any, mask: Any = None, causal: bool = False
) -> Any:
    """Returns the values that each query asks for.

    Args:
        query: `(batch, queries, heads, head_dim)`.
        key: `(batch, tokens, heads, head_dim)`.
        value: `(batch, tokens, heads, head_dim)`.
        mask: bool, broadcast to `(batch, heads, queries, tokens)`; false is not seen.
        causal: whether a query sees only the tokens up to its own place.

    Returns:
        `(batch, queries, heads, head_dim)`.

    Example:
        >>> import numpy as np
        >>> x = np.zeros((2, 5, 4, 8), "float32")
        >>> tuple(attend(x, x, x).shape)
        (2, 5, 4, 8)
    """
    if kernel_is_slow(query, key):
        return attend_written_out(query, key, value, mask, causal)
    dtype = query.dtype
    if kernel_is_missing(query):
        query, key, value = (ops.cast(x, "float32") for x in (query, key, value))
    found = ops.dot_product_attention(query, key, value, mask=mask, is_causal=causal)
    return ops.cast(found, dtype)


def attend_written_out(
    query: Any, key: Any, value: Any, mask: Any = None, causal: bool = False
) -> Any:
    """Returns what `attend` does, as two products and a softmax in float32."""
    weights = ops.cast(attention_weights(query, key, mask, causal), value.dtype)
    value = ops.transpose(value, (0, 2, 1, 3))  # (batch, heads, tokens, head_dim)
    return ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))


def attention_weights(
    query: Any, key: Any, mask: Any = None, causal: bool = False
) -> Any:
    """Returns how values are weighed: float32 `(batch, heads, queries, tokens)`.

    The product is in the dtype of its factors, the softmax in float32.
    """
    query = ops.transpose(query, (0, 2, 1, 3))
    query = query * ops.cast(query.shape[-1] ** -0.5, query.dtype)
    logits = ops.matmul(query, ops.transpose(key, (0, 2, 3, 1)))
    logits = ops.cast(logits, "float32")
    if causal:
        past = ops.tril(ops.ones(logits.shape[-2:], dtype="bool"))
        mask = past if mask is None else ops.logical_and(mask, past)
    if mask is not None:
        logits = ops.where(mask, logits, -1e9)
    return ops.softmax(logits, axis=-1)


def kernel_is_slow(query: Any, key: Any) -> bool:
    """Returns whether the backend's kernel would take longer, backward pass included.

    Measured by `benchmarks/train_cpu.py`: PyTorch 2.13, CPU, bfloat16.
    """
    return (
        keras.backend.backend() == "torch"
        and keras.backend.standardize_dtype(query.dtype) == "bfloat16"
        and key.shape[1] <= FEW_TOKENS
        and bool(getattr(query, "is_cpu", False))
        and bool(query.requires_grad or key.requires_grad)
    )


def kernel_is_missing(query: Any) -> bool:
    """Returns whether the backend can't compute attention in the dtype of its factors.

    JAX 0.10 compiles no product of float16 that is summed in float32 for CPUs, which
    its attention asks for: a stock `MultiHeadAttention` can't be trained there either.
    """
    return (
        keras.backend.backend() == "jax"
        and keras.backend.standardize_dtype(query.dtype) == "float16"
        and all(name.startswith("cpu") for name in keras.distribution.list_devices())
    )


# === A cache of keys and values, for tokens that come one after another ===
def cached(cache: Cache, key: Any, value: Any, index: Any) -> Cache:
    """Returns a cache with the keys and values of new tokens at their places.

    Args:
        cache: keys and values, each `(batch, length, heads, head_dim)`.
        key: `(batch, tokens, heads, head_dim)`.
        value: likewise.
        index: place of the first of them; they must fit in.
    """
    start = (0, index, 0, 0)
    if not isinstance(index, int):
        start = ops.stack([ops.cast(place, "int32") for place in start])
    keys, values = (
        ops.slice_update(old, start, ops.cast(new, old.dtype))
        for old, new in zip(cache, (key, value), strict=True)
    )
    return keys, values


def seen_in_cache(tokens: int, length: int, index: Any) -> Any:
    """Returns which places of a cache each new token sees: its own and those before.

    Returns:
        bool `(1, 1, tokens, length)`.

    Example:
        >>> ops.convert_to_numpy(seen_in_cache(1, 4, 2))[0, 0, 0].tolist()
        [True, True, True, False]
    """
    places = ops.arange(length, dtype="int32")[None]
    last = ops.arange(tokens, dtype="int32")[:, None] + ops.cast(index, "int32")
    return (places <= last)[None, None]


# === The layer ===
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
        attention_mask: Any = None,  # bool, to (batch, heads, tokens, keys)
        cache: Cache | None = None,  # with it the result is (x, cache)
        index: Any = None,  # () int32, the place of the first token in the cache
    ) -> Any:
        tokens = x.shape[1]
        qkv = ops.reshape(self.qkv(x), (-1, tokens, 3, self.num_heads, self.head_dim))
        query, key, value = ops.unstack(qkv, 3, axis=2)
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        causal = self.causal
        if cache is not None:
            cache = key, value = cached(cache, key, value, index)
            seen = seen_in_cache(tokens, key.shape[1], index)
            if attention_mask is not None:
                seen = ops.logical_and(attention_mask, seen)
            attention_mask = seen
            causal = False
        x = attend(query, key, value, mask=attention_mask, causal=causal)
        x = ops.reshape(x, (-1, tokens, self.hidden_dim))
        if cache is not None:
            return self.output_projection(x), cache
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
