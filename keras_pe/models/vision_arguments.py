"""Checks what a vision encoder is built from, called with and asked for."""

import os
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import check_finite, check_sizes, host_array
from keras_pe.layers.patch_embedding import check_floating, check_pixels
from keras_pe.models.tower import resolve_layers

Pooling = Literal["attention", "token", "average"] | None
PIECE = 2**26  # bytes of images that are looked at together


def check_vision_arguments(
    image_size: int,
    patch_size: int,
    hidden_dim: int,
    num_heads: int,
    output_dim: int | None,
    pooling: Pooling,
    pooling_heads: int,
    class_token: bool,
    rope: bool,
    rope_reference_grid: int | None,
) -> None:
    """Raises ValueError for arguments of `PEVisionEncoder` that make no model."""
    check_sizes(image_size=image_size, patch_size=patch_size)
    if output_dim is not None:
        check_sizes(output_dim=output_dim)
    if pooling == "attention":
        check_sizes(pooling_heads=pooling_heads)
    if rope_reference_grid is not None:
        check_sizes(rope_reference_grid=rope_reference_grid)
    if image_size % patch_size:
        raise ValueError(
            f"image_size must be a positive multiple of patch_size, got "
            f"image_size={image_size} and patch_size={patch_size}."
        )
    if pooling not in ("attention", "token", "average", None):
        raise ValueError(
            f'pooling must be "attention", "token", "average" or None, got {pooling!r}.'
        )
    if pooling == "token" and not class_token:
        raise ValueError(
            'pooling="token" needs class_token=True: without a class token there '
            'is nothing to pool. Use "attention" or "average".'
        )
    if rope and (hidden_dim // num_heads) % 4:
        raise ValueError(
            f"2D RoPE needs hidden_dim / num_heads to be a multiple of 4, got "
            f"{hidden_dim} / {num_heads} = {hidden_dim / num_heads:g}."
        )


def check_windows(
    window_size: int | None,
    global_blocks: Sequence[int],
    tiled_positions: bool,
    num_layers: int,
    native_side: int,
) -> tuple[int, ...]:
    """Returns the global blocks counted from 1, in order.

    Args:
        window_size: side of a window in patches, or None.
        global_blocks: blocks that are not windowed; negatives count from the end.
        tiled_positions: whether the position embedding is repeated over the windows.
        num_layers: blocks of the encoder.
        native_side: side in patches of the position embedding.

    Raises:
        ValueError: if they do not fit together, or a block does not exist.
    """
    if window_size is None:
        if global_blocks or tiled_positions:
            raise ValueError(
                f"global_blocks and tiled_positions need a window_size, got "
                f"global_blocks={tuple(global_blocks)}, tiled_positions="
                f"{tiled_positions} and window_size=None. Without windows every block "
                f"is global."
            )
        return ()
    if window_size < 1:
        raise ValueError(
            f"window_size is the side of a window in patches, at least 1, got "
            f"{window_size}. Use None for no windows."
        )
    if tiled_positions and window_size != native_side:
        raise ValueError(
            f"tiled_positions=True puts the position embedding of {native_side}x"
            f"{native_side} patches on every window, so window_size must be "
            f"{native_side}, got {window_size}. Use that, or "
            f"convert(image_size=window_size * patch_size) first."
        )
    blocks = resolve_layers(tuple(global_blocks), num_layers)
    if 0 in blocks:
        raise ValueError(
            f"global_blocks are numbered from 1 to {num_layers}, got 0. Upstream's "
            f"detection code counts from 0: add 1 to its numbers."
        )
    return tuple(sorted(set(blocks)))


def check_parts(encoder: Any, norm: bool, class_token: bool) -> None:
    """Raises ValueError if features are asked for that an encoder does not have."""
    if norm and encoder.norm is None:
        raise ValueError(
            "norm=True was asked of an encoder without a final norm "
            "(final_norm=False; no PE lang or PE spatial model has one). "
            "Ask for norm=False."
        )
    if class_token and not encoder.class_token:
        raise ValueError(
            "class_token=True was asked of an encoder without a class token "
            "(the published G models have none). Ask for class_token=False."
        )


def float_images(images: Any) -> Any:
    """Returns images as a float tensor, or says what is wrong with them."""
    if not hasattr(images, "dtype"):
        images = _listed_images(images)
    if isinstance(images, keras.KerasTensor):
        check_pixels(images)
        return images
    check_images(images)
    dtype = keras.backend.standardize_dtype(images.dtype)
    return ops.convert_to_tensor(
        images, dtype="float32" if dtype == "float64" else dtype
    )


def check_images(images: Any) -> None:
    """Refuses images that can't be right, for inference: `check_pixels`, and NaN.

    Called on arrays, a layer passes NaN on: what watches a training run looks for it
    in the loss.

    Raises:
        NonFiniteError: naming the first image that holds NaN or infinity.
        ValueError: as `check_pixels`.
    """
    check_floating(images)
    values = host_array(images)
    if values is not None and values.ndim:
        # By pieces: what is found out takes a quarter of the memory of the images.
        rows = max(1, PIECE // max(1, values[:1].nbytes))
        pieces = range(0, len(values), rows)
        if not all(np.isfinite(values[i : i + rows]).all() for i in pieces):
            hint = "Look at how they are made."
            check_finite(values, "images", "image", hint=hint)
    check_pixels(images)


def check_frames(shape: tuple[int, ...]) -> None:
    """Raises ValueError unless this is the shape of videos with frames."""
    if len(shape) != 5:
        raise ValueError(
            f"Expected frames of shape (batch, frames, height, width, 3), got "
            f"{tuple(shape)}. For one video add an axis: frames[None]."
        )
    if shape[1] == 0:
        raise ValueError(
            f"A video of no frames has no average, got frames of shape "
            f"{tuple(shape)}. Leave such videos out."
        )


def _listed_images(images: Any) -> np.ndarray:
    """Returns lists of arrays as one array; says what to use for files."""
    first = images[0] if isinstance(images, list | tuple) and images else images
    if isinstance(first, str | bytes | os.PathLike) or hasattr(first, "read"):
        raise TypeError(
            f"Models read arrays (batch, height, width, 3) in [-1, 1], got "
            f"{_shown(first)}. Make them with PEImageConverter.from_preset(...)"
            f"(images); `keras-pe embed` embeds a folder."
        )
    if not isinstance(first, list | tuple) and not hasattr(
        first, "__array_interface__"
    ):
        if not hasattr(first, "dtype"):
            raise TypeError(
                f"Models read arrays (batch, height, width, 3) in [-1, 1], got "
                f"{_shown(first)}. PEImageConverter makes them."
            )
        images = [ops.convert_to_numpy(image) for image in images]
    try:
        return np.asarray(images)
    except ValueError as error:
        raise ValueError(
            f"Images of one batch must have one size ({error}). PEImageConverter "
            f"resizes them."
        ) from error


def _shown(item: Any) -> str:
    return f"{item!r:.80} ({type(item).__name__})"
