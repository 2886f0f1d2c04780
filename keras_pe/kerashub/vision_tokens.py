"""A Perception Encoder as the vision encoder of KerasHub's Gemma 3."""

import math
from typing import Any, Self

import keras
from keras import ops

from keras_pe.kerashub.encoder_backbone import (
    PACKAGE,
    read_part,
    vision_encoder_of,
)
from keras_pe.layers.projector import VisionProjector, check_grid
from keras_pe.models.vision_forward import VisionForward


@keras.saving.register_keras_serializable(PACKAGE)
class PEVisionTokens(keras.Model):
    """An encoder and a projector, as `vision_encoder` of KerasHub's `Gemma3Backbone`.

    Images `(batch, images, side, side, 3)` in [-1, 1] become
    `(batch * images, num_vision_tokens_per_image, output_dim)`, the embeddings that
    take the place of image tokens.

    Args:
        encoder: a vision encoder that returns tokens: a `PELang`, or
            `encoder.truncate(layer)`. It is used, not copied.
        output_dim: channels of the language model's embeddings, its `hidden_dim`.
        pooling: side of the squares of patches that become one token.
        image_size: side of the images, pixels; None is the encoder's own.
        projector: a `VisionProjector` that was trained; None makes a new one.
        name: name of the model.

    Attributes:
        num_vision_tokens_per_image: tokens that an image becomes.

    Raises:
        TypeError: if the encoder is none of ours.
        ValueError: if it returns no tokens, or squares do not fill the grid.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> encoder = PEVisionEncoder.from_preset("pe_core_emoji_patch8_64")
        >>> tokens = PEVisionTokens(encoder.truncate(-2), output_dim=32, pooling=2)
        >>> tuple(tokens(np.zeros((1, 3, 64, 64, 3), "float32")).shape)
        (3, 16, 32)
    """

    def __init__(
        self,
        encoder: VisionForward,
        output_dim: int,
        pooling: int = 1,
        image_size: int | None = None,
        projector: VisionProjector | None = None,
        name: str | None = None,
    ) -> None:
        checked = vision_encoder_of(encoder)
        if checked is not encoder or checked.pooling is not None:
            raise ValueError(
                "PEVisionTokens needs an encoder that returns tokens, got one that "
                "pools them. Use encoder.truncate(layer)."
            )
        super().__init__(
            name=name or "pe_vision_tokens", dtype=encoder.dtype_policy, autocast=False
        )
        side = int(image_size or encoder.image_size)
        wanted = (encoder.hidden_dim, output_dim, pooling)
        found = projector and (
            projector.input_dim,
            projector.output_dim,
            projector.pooling,
        )
        if found not in (None, wanted):
            raise ValueError(
                f"The projector's input_dim, output_dim and pooling must be {wanted}, "
                f"got {found}."
            )
        self.grid = encoder.grid((None, side, side, 3))
        check_grid(math.prod(self.grid), self.grid, pooling)
        self.encoder = encoder
        self.image_size = side
        self.output_dim = output_dim
        self.pool_size = pooling
        self.projector = projector or VisionProjector(
            encoder.hidden_dim, output_dim, pooling, dtype=self.dtype_policy
        )
        self.num_vision_tokens_per_image = math.prod(self.grid) // pooling**2
        self.built = True

    def call(  # images: (batch, images, side, side, 3) in [-1, 1]
        self, images: Any, training: bool | None = None
    ) -> Any:
        flat = ops.reshape(images, (-1, self.image_size, self.image_size, 3))
        tokens = self.encoder(flat, training=training)
        patches = tokens[:, self.encoder.prefix_tokens :]
        return self.projector(patches, grid=self.grid)

    def compute_output_shape(self, images_shape: Any) -> Any:
        batch, images = images_shape[:2]
        rows = None if batch is None or images is None else batch * images
        return (rows, self.num_vision_tokens_per_image, self.output_dim)

    # === Config ===
    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "projector": keras.saving.serialize_keras_object(self.projector),
            "output_dim": self.output_dim,
            "pooling": self.pool_size,
            "image_size": self.image_size,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        config = dict(config)
        dtype = config.pop("dtype", None)
        for part in ("encoder", "projector"):
            config[part] = read_part(config, part, dtype)
        return cls(**config)
