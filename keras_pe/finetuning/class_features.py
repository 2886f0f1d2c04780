"""What a classifier reads of an encoder: one vector an image, of a layer.

Of the last layer that is the encoder's own output, where it pools; of any other the
average of the patches. Heads are trained on these vectors standardised: they share a
large constant part.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_pe.models.tower import resolve_layers
from keras_pe.models.vision_encoder import PEVisionEncoder


def class_features(
    encoder: PEVisionEncoder, images: Any, training: bool | None = None
) -> Any:
    """Returns what a classifier reads of an encoder's last layer.

    Args:
        encoder: a vision encoder.
        images: `(batch, height, width, 3)` in [-1, 1].
        training: whether stochastic depth is active.

    Returns:
        float32 `(batch, channels)`.
    """
    (tokens,) = encoder.layer_tokens(images, [-1], training=training)
    return last_features(encoder, tokens)


def last_features(encoder: PEVisionEncoder, tokens: Any) -> Any:
    """Returns the embedding of the last layer's tokens, or their patches' average."""
    if encoder.pooling is not None:
        return ops.cast(encoder.head(tokens), "float32")
    return patch_average(encoder, tokens)


def patch_average(encoder: PEVisionEncoder, tokens: Any) -> Any:
    """Returns the average over the patches, float32 `(batch, hidden_dim)`."""
    patches = ops.cast(tokens[:, encoder.prefix_tokens :], "float32")
    return ops.mean(patches, axis=1)


def feature_channels(encoder: PEVisionEncoder) -> int:
    """Returns how many numbers `class_features` gives an image."""
    if encoder.pooling is None:
        return int(encoder.hidden_dim)
    return int(encoder.output_dim or encoder.hidden_dim)


def cut_encoder(encoder: PEVisionEncoder, layer: int) -> PEVisionEncoder:
    """Returns the encoder that ends with a layer; itself for the last one.

    Raises:
        ValueError: if there is no such layer.
    """
    (number,) = resolve_layers(layer, encoder.num_layers)
    return encoder if number == encoder.num_layers else encoder.truncate(number)


class LayerFeatures(keras.Model):
    """Gives what a classifier could read of several layers, as a sweep takes it.

    Args:
        encoder: a vision encoder.
        layers: their numbers, ascending; see `PEVisionEncoder.features`.
    """

    def __init__(self, encoder: PEVisionEncoder, layers: Sequence[int]) -> None:
        super().__init__(
            name="layer_features", dtype=encoder.dtype_policy, autocast=False
        )
        self.encoder = encoder
        self.numbers = resolve_layers(tuple(layers), encoder.num_layers)
        self.built = True

    def call(self, images: Any, training: bool | None = None) -> dict[int, Any]:
        tokens = self.encoder.layer_tokens(images, self.numbers, training=training)
        last = self.encoder.num_layers
        return {
            number: (last_features if number == last else patch_average)(
                self.encoder, found
            )
            for number, found in zip(self.numbers, tokens, strict=True)
        }
