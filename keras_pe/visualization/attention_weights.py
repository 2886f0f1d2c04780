"""Where the model looks: the attention weights of its blocks and of its pooling.

The layers run a fused attention that never holds the weights. Here they are computed
again, one block at a time, from the layers' own projections, in float32.
"""

import functools
import types
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_pe.layers.attention import attention_weights, rotate
from keras_pe.layers.transformer import AttentionPooling
from keras_pe.models.compiled import no_gradient, run_compiled
from keras_pe.models.features import Features
from keras_pe.models.tower import resolve_layers
from keras_pe.models.vision_encoder import PEVisionEncoder


class PoolingAttention(NamedTuple):
    """How the attention pooling divides its attention.

    Attributes:
        patches: float32 `(batch, heads, rows, columns)`.
        class_token: float32 `(batch, heads)`; None without a class token. Together
            with the patches it sums to 1 for each head.

    Example:
        >>> from keras_pe import PEVisionEncoder
        >>> encoder = PEVisionEncoder.from_preset("pe_core_emoji_small_patch8_64")
        >>> images = np.zeros((1, 64, 64, 3), "float32")
        >>> found: PoolingAttention = pooling_attention(encoder, images)
        >>> total = found.patches.sum((2, 3)) + found.class_token
        >>> bool(np.allclose(total, 1, atol=1e-4))
        True
    """

    patches: np.ndarray
    class_token: np.ndarray | None


def attention_maps(
    encoder: PEVisionEncoder, images: Any, layer: int = -1
) -> np.ndarray:
    """Returns the attention weights of one block.

    Args:
        encoder: a vision encoder.
        images: `(batch, height, width, 3)` in [-1, 1].
        layer: number of the block, from 1; negatives count from the end.

    Returns:
        float32 `(batch, heads, tokens, tokens)`: row i holds the weights, which sum to
        1, with which token i reads the others. The class token, if any, is token 0;
        patches follow row by row. It is large: 64 MiB an image for 16 heads and
        1,024 tokens.

    Raises:
        ValueError: if there is no such block, it attends in windows, or the images
            do not fit.

    Source: upstream `core/vision_encoder/pe.py`, `SelfAttention`.

    Example:
        >>> encoder = PEVisionEncoder(image_size=32, patch_size=8, hidden_dim=32,
        ...     num_layers=2, num_heads=4, intermediate_dim=64)
        >>> attention_maps(encoder, np.zeros((1, 32, 32, 3), "float32")).shape
        (1, 4, 17, 17)
    """
    (number,) = resolve_layers([layer], encoder.num_layers)
    if number == 0:
        raise ValueError(
            f"Layer 0 is the input of the first block and has no attention. Ask for a "
            f"block from 1 to {encoder.num_layers}."
        )
    method = functools.partial(
        types.MethodType(_block_attention, encoder), layer=number
    )
    key = ("attention_maps", number)
    with no_gradient():
        images = encoder.checked_images(images)
        _refuse_windows(encoder, number, encoder.patch_embedding.grid(images.shape))
        return ops.convert_to_numpy(run_compiled(encoder, key, method, images))


def _refuse_windows(
    encoder: PEVisionEncoder, layer: int, grid: tuple[int, int]
) -> None:
    side = encoder.window_size
    if side is not None and max(grid) > side and layer not in encoder.global_blocks:
        raise ValueError(
            f"Block {layer} attends in windows of {side} patches, so there is no map "
            f"over the whole image of {grid[0]} x {grid[1]}. Ask for one of the "
            f"global blocks {tuple(encoder.global_blocks)}, or for an image of one "
            f"window."
        )


def _block_attention(encoder: PEVisionEncoder, images: Any, layer: int) -> Any:
    features = all_tokens(encoder, images, layer - 1)
    block = encoder.blocks[layer - 1]
    attention = block.attention
    x = block.attention_norm(features.values)  # (batch, tokens, hidden_dim)
    shape = (-1, x.shape[1], 3, attention.num_heads, attention.head_dim)
    query, key, _ = ops.unstack(ops.reshape(attention.qkv(x), shape), 3, axis=2)
    rotary = encoder.rotary(features.grid)
    if rotary is not None:
        query, key = rotate(query, rotary), rotate(key, rotary)
    return attention_weights(ops.cast(query, "float32"), ops.cast(key, "float32"))


def pooling_attention(encoder: PEVisionEncoder, images: Any) -> PoolingAttention:
    """Returns what the attention pooling looks at.

    Args:
        encoder: a vision encoder with `pooling="attention"`.
        images: `(batch, height, width, 3)` in [-1, 1].

    Returns:
        `PoolingAttention`.

    Raises:
        ValueError: if the encoder pools in another way, or the images do not fit.

    Source: upstream `core/vision_encoder/pe.py`, `AttentionPooling`.

    Example:
        >>> encoder = PEVisionEncoder(image_size=32, patch_size=8, hidden_dim=32,
        ...     num_layers=2, num_heads=4, intermediate_dim=64)
        >>> pooling_attention(encoder, np.zeros((1, 32, 48, 3), "float32"))[0].shape
        (1, 8, 4, 6)
    """
    attention_pool(encoder)
    method = types.MethodType(_pooling_attention, encoder)
    with no_gradient():
        images = encoder.checked_images(images)
        grid = encoder.patch_embedding.grid(images.shape)
        found = run_compiled(encoder, "pooling_attention", method, images)
        weights = ops.convert_to_numpy(found)  # (batch, heads, tokens)
    first = int(encoder.class_token)
    patches = weights[..., first:].reshape(*weights.shape[:2], *grid)
    return PoolingAttention(patches, weights[..., 0] if first else None)


def _pooling_attention(encoder: PEVisionEncoder, images: Any) -> Any:
    return pooling_parts(attention_pool(encoder), pooled_tokens(encoder, images))[0]


def attention_pool(encoder: PEVisionEncoder) -> AttentionPooling:
    """Returns the encoder's pooling, or raises ValueError if it has none."""
    if encoder.attention_pooling is None:
        raise ValueError(
            f"This needs an encoder that pools by attention, as all PE core models "
            f"do; this one has pooling={encoder.pooling!r}. PE lang and PE spatial "
            f"models have no pooling: look at attention_maps(encoder, images, layer)."
        )
    return encoder.attention_pooling


def pooled_tokens(encoder: PEVisionEncoder, images: Any) -> Any:
    """Returns the tokens that the pooling reads, `(batch, tokens, hidden_dim)`."""
    return all_tokens(encoder, images, -1, norm=encoder.final_norm).values


def all_tokens(
    encoder: PEVisionEncoder, images: Any, layer: int, norm: bool = False
) -> Features:
    """Returns a layer with its class token, if the encoder has one."""
    tokens = encoder.features(images, layer, norm, class_token=encoder.class_token)
    assert isinstance(tokens, Features)  # one layer, not a list
    return tokens


def pooling_parts(pool: AttentionPooling, tokens: Any) -> tuple[Any, Any]:
    """Returns the pooling's weights and the values that they weigh.

    Args:
        pool: the pooling layer.
        tokens: `(batch, tokens, hidden_dim)`, as the layer is called.

    Returns:
        float32 `(batch, heads, tokens)` and `(batch, tokens, heads, head_dim)`.
    """
    heads, head_dim = pool.num_heads, pool.head_dim
    query = ops.reshape(pool.query(pool.probe[None, None]), (1, 1, heads, head_dim))
    shape = (-1, tokens.shape[1], 2, heads, head_dim)
    key, value = ops.unstack(ops.reshape(pool.key_value(tokens), shape), 2, axis=2)
    query, key = ops.cast(query, "float32"), ops.cast(key, "float32")
    weights = attention_weights(query, key)  # the probe is one for all images
    return weights[:, :, 0], ops.cast(value, "float32")
