"""Checks that the arguments of a vision encoder fit together."""

from typing import Literal

Pooling = Literal["attention", "token", "average"] | None


def check_vision_arguments(
    image_size: int,
    patch_size: int,
    hidden_dim: int,
    num_heads: int,
    pooling: Pooling,
    class_token: bool,
    rope: bool,
) -> None:
    """Raises ValueError for arguments of `PEVisionEncoder` that make no model."""
    if image_size <= 0 or image_size % patch_size:
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
