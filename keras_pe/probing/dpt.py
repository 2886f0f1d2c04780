"""The dense prediction head of DPT, on one layer."""

from typing import Any

import keras


def dpt_map(features: Any, channels: int) -> Any:
    """Returns a map at four times the resolution of the features.

    The layer is read at four scales (4, 2, 1 and 1/2 times its grid), which are fused
    from coarse to fine: each is added to what came before, refined by two residual
    convolutions, and resized to the next.

    Args:
        features: Keras tensor `(batch, rows, columns, hidden_dim)`.
        channels: width of the head.

    Returns:
        Keras tensor `(batch, 4 x rows, 4 x columns, channels)`.

    Source: Ranftl et al. 2021, "Vision Transformers for Dense Prediction"; the paper
    feeds all four scales from a single layer.
    """
    x = keras.layers.LayerNormalization(epsilon=1e-6)(features)
    levels = [  # coarse to fine
        keras.layers.Conv2D(channels, 3, strides=2, padding="same", name="half")(x),
        keras.layers.Conv2D(channels, 1, name="same")(x),
        keras.layers.Conv2DTranspose(channels, 2, strides=2, name="double")(x),
        keras.layers.Conv2DTranspose(channels, 4, strides=4, name="quadruple")(x),
    ]
    fused = None
    for level in levels:
        level = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False)(level)
        if fused is not None:
            size = level.shape[1:3]
            fused = keras.layers.Resizing(*size, interpolation="bilinear")(fused)
            level = keras.layers.Add()([fused, residual(level)])
        fused = residual(level)
    fused = keras.layers.Conv2D(channels, 3, padding="same")(fused)
    return keras.layers.Activation("relu")(fused)


def residual(x: Any) -> Any:
    """Returns x plus two 3 x 3 convolutions of it."""
    y = keras.layers.Activation("relu")(x)
    y = keras.layers.Conv2D(x.shape[-1], 3, padding="same")(y)
    y = keras.layers.Activation("relu")(y)
    y = keras.layers.Conv2D(x.shape[-1], 3, padding="same")(y)
    return keras.layers.Add()([x, y])
