"""Scaled dot-product attention: the backend's own, or written out where that pays."""

from typing import Any

import keras
from keras import ops

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
