"""A Perception Encoder as a backbone of KerasHub: images to one map of patches."""

import os
from typing import Any, Self

import keras
import keras_hub
from keras import ops

from keras_pe.kerashub.encoder_backbone import (
    PACKAGE,
    EncoderBackbone,
    checked_shape,
    hub_preset,
    read_part,
    refuse_changes,
    vision_encoder_of,
)
from keras_pe.models.tower import resolve_layers
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.models.vision_forward import VisionForward


@keras.saving.register_keras_serializable(PACKAGE)
class PEBackbone(EncoderBackbone, keras_hub.models.Backbone):
    """A vision encoder as a backbone of KerasHub, for its image classifiers and yours.

    A functional model: images `(batch, height, width, 3)` in [-1, 1] to the patches of
    the encoder's last layer as a map, `(batch, rows, columns, hidden_dim)`, without the
    class token.

    Args:
        encoder: a `PEVisionEncoder` that returns tokens, such as `encoder.truncate(-1)`
            makes. It is used, not copied; `from_encoder` takes any and copies.
        image_shape: (height, width, 3) of the images, in whole patches; None is the
            encoder's own size. A functional model has one size.
        name: name of the model.
        trainable: False freezes all of it; None leaves the encoder as it is.

    Attributes:
        encoder: the encoder.
        image_shape: (height, width, 3).

    Raises:
        TypeError: if the encoder is none of ours.
        ValueError: if it returns no tokens, or the shape is not in whole patches.

    Example:
        >>> import numpy as np
        >>> backbone = PEBackbone.from_preset("pe_core_emoji_patch8_64")
        >>> tuple(backbone(np.zeros((1, 64, 64, 3), "float32")).shape)
        (1, 8, 8, 192)
    """

    def __init__(
        self,
        encoder: VisionForward,
        image_shape: Any = None,
        name: str | None = None,
        trainable: bool | None = None,
    ) -> None:
        vision_encoder_of(encoder)
        if not isinstance(encoder, VisionForward) or (
            encoder.pooling is not None or encoder.projection is not None
        ):
            raise ValueError(
                "A backbone's encoder must return tokens, got one that pools or "
                "projects them. Use PEBackbone.from_encoder(encoder)."
            )
        shape = checked_shape(encoder, image_shape)
        # === Functional model ===
        images = keras.Input(shape, name="images")
        tokens = encoder(images)  # (batch, tokens, hidden_dim)
        patches = tokens[:, encoder.prefix_tokens :]
        grid = encoder.grid((None, *shape))
        maps = ops.reshape(patches, (-1, *grid, encoder.hidden_dim))
        options = {} if trainable is None else {"trainable": trainable}
        super().__init__(
            inputs=images,
            outputs=maps,
            dtype=encoder.dtype_policy,
            name=name or "pe_backbone",
            **options,
        )
        self._keep(encoder, shape)

    # === From models and presets ===
    @classmethod
    def from_encoder(
        cls,
        encoder: Any,
        layers: int = -1,
        norm: bool | None = None,
        image_shape: Any = None,
    ) -> Self:
        """Returns a backbone of a copy of an encoder, cut off behind a layer.

        Args:
            encoder: a vision encoder, or a `PECore`, whose vision tower is taken.
            layers: last block that stays; negatives count from the end.
            norm: whether the encoder's final norm is applied; None is yes behind the
                last block of an encoder that has one, and no elsewhere.
            image_shape: (height, width, 3); None is the encoder's own size.

        Raises:
            TypeError: if it is no encoder of ours.
            ValueError: if there is no such layer or no norm, or the shape is not in
                whole patches.

        Example:
            >>> from keras_pe import PESpatial
            >>> encoder = PESpatial.from_preset("pe_spatial_emoji_patch8_64")
            >>> PEBackbone.from_encoder(encoder, layers=2).num_layers
            2
        """
        tower = vision_encoder_of(encoder)
        (number,) = resolve_layers(layers, tower.num_layers)
        if norm is None:
            norm = tower.norm is not None and number == tower.num_layers
        return cls(tower.truncate(layers, norm=norm), image_shape)

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        load_weights: bool = True,
        layers: int | None = None,
        norm: bool | None = None,
        image_shape: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> Self:
        """Loads a preset: one of keras_pe, or a backbone that KerasHub wrote.

        Args:
            preset: as of `PEVisionEncoder.from_preset`: the encoder of any family, of
                dual encoders the vision tower. Or what `save_to_preset` of this class,
                or of a task with it, wrote.
            load_weights: whether its weights are loaded; else they are drawn.
            layers: as of `from_encoder`; None is -1.
            norm: as of `from_encoder`.
            image_shape: (height, width, 3); None is the preset's own size.
            dtype: dtype or policy; None is the preset's own.
            options: what else KerasHub gives `from_preset`: `name`, `trainable`.

        Raises:
            CheckpointError: as `PEVisionEncoder.from_preset`.
            ValueError: if there is no such layer or no norm, or KerasHub wrote the
                preset and `layers` or `norm` was given.

        Example:
            >>> backbone = PEBackbone.from_preset("PE-Spatial-T16-512",
            ...     load_weights=False, image_shape=(256, 256, 3))
            >>> backbone.output.shape
            (None, 16, 16, 192)
        """
        written = hub_preset(preset)
        if written is not None:
            refuse_changes(preset, {"layers": layers, "norm": norm})
            if image_shape is not None:
                options["image_shape"] = image_shape
            return super().from_preset(written, load_weights, dtype=dtype, **options)
        encoder = PEVisionEncoder.from_preset(
            preset, dtype=dtype, load_weights=load_weights
        )
        last = -1 if layers is None else layers
        made = cls.from_encoder(encoder, last, norm, image_shape)
        return cls(made.encoder, made.image_shape, **options) if options else made

    # === Config ===
    def get_config(self) -> dict[str, Any]:
        encoder = keras.saving.serialize_keras_object(self.encoder)
        return {**super().get_config(), "encoder": encoder}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        config = dict(config)
        config["encoder"] = read_part(config, "encoder", config.pop("dtype", None))
        return cls(**config)
