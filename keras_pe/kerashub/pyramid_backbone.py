"""A Perception Encoder as a backbone of KerasHub's detectors: several maps."""

import os
from typing import Any, Self

import keras
import keras_hub

from keras_pe.kerashub.encoder_backbone import (
    PACKAGE,
    EncoderBackbone,
    checked_shape,
    hub_preset,
    read_part,
    refuse_changes,
    vision_encoder_of,
)
from keras_pe.models.feature_pyramid import FeaturePyramid
from keras_pe.models.vision_encoder import PEVisionEncoder


@keras.saving.register_keras_serializable(PACKAGE)
class PEPyramidBackbone(EncoderBackbone, keras_hub.models.FeaturePyramidBackbone):
    """A `FeaturePyramid` as the backbone of KerasHub's detectors.

    It takes the place of `RetinaNetBackbone`: the maps already have what KerasHub's
    feature pyramid network would add to those of a convolutional network. `enable_lora`
    adapts the encoder and leaves the pyramid trained: it is as new as the heads.

    Args:
        pyramid: maps of contiguous levels.
        image_shape: (height, width, 3) of the images, in whole patches; None is the
            encoder's own size. A functional model has one size.
        name: name of the model.
        trainable: False freezes all of it; None leaves the parts as they are.

    Attributes:
        pyramid: the pyramid.
        pyramid_outputs: its maps by level, "P3" with a stride of 8 pixels.
        min_level, max_level: numbers of the finest and the coarsest level.

    Raises:
        TypeError: if it is no `FeaturePyramid`.
        ValueError: if a level is missing between others, or the shape does not fit.

    Example:
        >>> backbone = PEPyramidBackbone.from_preset("pe_spatial_emoji_patch8_64",
        ...     image_shape=(128, 128, 3), scales=(1, 0.5))
        >>> {name: x.shape[1:] for name, x in backbone.pyramid_outputs.items()}
        {'P3': (16, 16, 256), 'P4': (8, 8, 256)}
    """

    def __init__(
        self,
        pyramid: FeaturePyramid,
        image_shape: Any = None,
        name: str | None = None,
        trainable: bool | None = None,
    ) -> None:
        if not isinstance(pyramid, FeaturePyramid):
            raise TypeError(
                f"PEPyramidBackbone needs a FeaturePyramid, got "
                f"{type(pyramid).__name__}. Of an encoder make one by "
                f"PEPyramidBackbone.from_encoder(encoder)."
            )
        levels = sorted(int(level[1:]) for level in pyramid.strides)
        if levels != list(range(levels[0], levels[-1] + 1)):
            raise ValueError(
                f"A detector's levels follow one another, got those of strides "
                f"{pyramid.strides}. Give scales without a gap, such as (1, 0.5)."
            )
        shape = checked_shape(pyramid.encoder, image_shape)
        images = keras.Input(shape, name="images")
        maps = pyramid(images)
        options = {} if trainable is None else {"trainable": trainable}
        super().__init__(
            inputs=images,
            outputs=maps,
            dtype=pyramid.dtype_policy,
            name=name or "pe_pyramid_backbone",
            **options,
        )
        self.pyramid = pyramid
        self.pyramid_outputs = maps
        self.min_level, self.max_level = levels[0], levels[-1]
        self._keep(pyramid.encoder, shape)

    # === From models and presets ===
    @classmethod
    def from_encoder(
        cls,
        encoder: Any,
        layers: int = -1,
        norm: bool = False,
        image_shape: Any = None,
        **pyramid: Any,
    ) -> Self:
        """Returns a backbone of a copy of an encoder, with a new pyramid.

        Args:
            encoder: a vision encoder, or a `PECore`, whose vision tower is taken. Its
                patch size is a power of two: see `PEVisionEncoder.convert`.
            layers: block that is read; those behind it are left out.
            norm: whether the encoder's final norm is applied.
            image_shape: (height, width, 3); None is the encoder's own size.
            pyramid: what else `FeaturePyramid` takes: `scales`, `channels`,
                `top_level`.

        Raises:
            TypeError: if it is no encoder of ours.
            ValueError: as `FeaturePyramid`.
        """
        tower = vision_encoder_of(encoder).truncate(layers, norm=norm)
        return cls(FeaturePyramid(tower, norm=norm, **pyramid), image_shape)

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
        """Loads a preset: an encoder of keras_pe, or a backbone that KerasHub wrote.

        Args:
            preset: as of `PEBackbone.from_preset`.
            load_weights: whether its weights are loaded. The pyramid of an encoder is
                new.
            layers: block that is read; None is the last.
            norm: whether the encoder's final norm is applied; None is no.
            image_shape: (height, width, 3); None is the preset's own size.
            dtype: dtype or policy; None is the preset's own.
            options: of an encoder's preset what else `FeaturePyramid` takes; of
                KerasHub's what it takes, `name` and `trainable`.

        Raises:
            CheckpointError: as `PEVisionEncoder.from_preset`.
            ValueError: as `FeaturePyramid`; or if KerasHub wrote the preset and
                `layers` or `norm` was given.
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
        return cls.from_encoder(encoder, last, bool(norm), image_shape, **options)

    # === Config ===
    def get_config(self) -> dict[str, Any]:
        pyramid = keras.saving.serialize_keras_object(self.pyramid)
        return {**super().get_config(), "pyramid": pyramid}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        config = dict(config)
        dtype = config.pop("dtype", None)
        config["pyramid"] = read_part(config, "pyramid", dtype, "encoder")
        return cls(**config)
