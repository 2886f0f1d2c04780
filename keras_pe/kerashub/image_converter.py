"""Images to arrays in KerasHub's pipelines, by our own converter."""

import os
import sys
from collections.abc import Collection, Sequence
from typing import Any, Self

import keras
import keras_hub
import numpy as np
from keras import ops

from keras_pe.kerashub.backbone import PEBackbone
from keras_pe.kerashub.encoder_backbone import PACKAGE, hub_preset
from keras_pe.kerashub.pyramid_backbone import PEPyramidBackbone
from keras_pe.preprocessing import image as ours
from keras_pe.preprocessing.converter_configs import check_changes, narrowed
from keras_pe.preprocessing.image_decoding import (
    DEFAULT_FORMATS,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_SIDE,
)
from keras_pe.preprocessing.image_errors import ImageError

KERAS_NAMES = {"lanczos": "lanczos3"}  # of interpolations that Keras calls otherwise


@keras.saving.register_keras_serializable(PACKAGE)
class PEImageConverter(keras_hub.layers.ImageConverter):
    """`keras_pe.PEImageConverter` as a layer of KerasHub: the same numbers.

    It resizes with Pillow, on the CPU, also within `tf.data` and grain: Keras' resize
    is not what the models saw in training. Called on one image it returns one, on a
    batch or a list a batch. Arrays are uint8, or floats in [0, 1]: KerasHub's floats
    from 0 to 255 are refused. Outside of `tf.data` it takes whatever
    `keras_pe.PEImageConverter` does: paths, PIL images, ...

    Args: those of `keras_pe.PEImageConverter` but for `on_error`, since labels would
        not line up with what is left; `name` and `dtype`. Numbers are always float32.

    Attributes:
        converter: the converter of ours that does the work.
        image_size: (height, width) of the output; may be set.

    Raises:
        ValueError: as `keras_pe.PEImageConverter`.

    Example:
        >>> converter = PEImageConverter.from_preset("pe_core_emoji_patch8_64")
        >>> tuple(converter(np.zeros((2, 100, 80, 3), "uint8")).shape)
        (2, 64, 64, 3)
    """

    backbone_cls: type = PEBackbone

    def __init__(
        self,
        image_size: int | Sequence[int] = 224,
        resize_mode: str = "squash",
        interpolation: str = "bilinear",
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        max_pixels: int = DEFAULT_MAX_PIXELS,
        formats: Collection[str] = DEFAULT_FORMATS,
        background: Sequence[int] | None = None,
        max_side: int = DEFAULT_MAX_SIDE,
        **options: Any,
    ) -> None:
        converter = ours.PEImageConverter(
            image_size=image_size,
            resize_mode=resize_mode,
            interpolation=interpolation,
            mean=mean,
            std=std,
            max_pixels=max_pixels,
            formats=formats,
            background=background,
            max_side=max_side,
        )
        # What KerasHub says of its own converters; nothing is computed by it.
        super().__init__(
            image_size=converter.image_size,
            scale=[1 / (255 * x) for x in converter.std],
            offset=[-m / s for m, s in zip(converter.mean, converter.std, strict=True)],
            crop_to_aspect_ratio=resize_mode == "center_crop",
            interpolation=KERAS_NAMES.get(interpolation, interpolation),
            antialias=True,
            data_format="channels_last",
            **options,
        )
        self.converter = converter

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the output, in pixels."""
        return self.converter.image_size

    @image_size.setter
    def image_size(self, value: int | Sequence[int]) -> None:
        config = {**self.converter.get_config(), "image_size": value}
        self.converter = ours.PEImageConverter(**config)
        self.resizing.height, self.resizing.width = self.converter.image_size

    def call(self, inputs: Any) -> Any:
        """Returns float32 `([images, ]height, width, 3)`.

        Args:
            inputs: one image or several; see the class.

        Raises:
            ImageError: naming the first image that can't be used.
            TypeError: if there are bounding boxes, which would have to move along.
        """
        if isinstance(inputs, dict):
            raise TypeError(
                f"PEImageConverter takes images alone, got a dictionary of "
                f"{', '.join(map(str, inputs))}. It moves no bounding boxes: convert "
                f"images and boxes beforehand, and give the detector preprocessor=None."
            )
        tensorflow = sys.modules.get("tensorflow")  # there if its graph is traced
        if tensorflow is not None and not tensorflow.executing_eagerly():
            return self._in_graph(inputs, tensorflow)
        try:
            rows = self._rows(_on_host(inputs))
        except ImageError as error:
            # Or Keras makes a RuntimeError of it that prints all pixels (3.15).
            error._keras_call_info_injected = True  # type: ignore[attr-defined]
            raise
        return rows if in_grain() else ops.convert_to_tensor(rows)

    def _in_graph(self, images: Any, tensorflow: Any) -> Any:
        images = tensorflow.convert_to_tensor(images)
        if images.shape.rank not in (3, 4):
            raise ValueError(
                f"Expected images (height, width, channels) or a batch of them, got a "
                f"tensor of shape {images.shape}."
            )
        rows = tensorflow.numpy_function(self._rows, [images], tensorflow.float32)
        batch = images.shape[:1] if images.shape.rank == 4 else []
        rows.set_shape([*batch, *self.image_size, 3])
        return rows

    def _rows(self, images: Any) -> np.ndarray:
        """Returns what our converter makes of images, or of one."""
        several = isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4
        return self.converter(images) if several else self.converter.convert(images)

    # === Config ===
    def get_config(self) -> dict[str, Any]:
        config = keras.layers.Layer.get_config(self)
        config.update(self.converter.get_config())
        del config["on_error"]
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        # It may come from somebody else's file, which may ask for less, not for more.
        return cls(**narrowed(config, "the configuration of a PEImageConverter"))

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **changes: Any) -> Self:
        """Loads the converter of a preset, of keras_pe or one that KerasHub wrote.

        Args:
            preset: as of `keras_pe.PEImageConverter.from_preset`, or of KerasHub's.
            changes: arguments of this class that are to differ.

        Raises:
            CheckpointError: if there is no such preset, or it has no converter.
            TypeError: if there is no such argument.
        """
        inner = {key: x for key, x in changes.items() if key not in ("name", "dtype")}
        check_changes(cls, inner)
        written = hub_preset(preset)
        if written is not None:
            found: Self = super().from_preset(written)
            return cls(**{**found.get_config(), **changes}) if changes else found
        config = ours.PEImageConverter.from_preset(preset).get_config()
        del config["on_error"]
        return cls(**{**config, **changes})


@keras.saving.register_keras_serializable(PACKAGE)
class PEPyramidImageConverter(PEImageConverter):
    """By this KerasHub knows that a `PEPyramidBackbone`'s preset has a converter.

    What it loads is of the class that its file names, a `PEImageConverter`.
    """

    backbone_cls: type = PEPyramidBackbone


def in_grain() -> bool:
    """Whether grain asks, which sends arrays of NumPy between its processes."""
    try:
        from keras.src.utils.backend_utils import in_grain_data_pipeline
    except ImportError:  # a private place of Keras 3.15
        return False
    return bool(in_grain_data_pipeline())


def _on_host(images: Any) -> Any:
    """Returns tensors of any library as arrays; leaves what else there is."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(images, tensorflow.Tensor):
        return images.numpy()
    return ops.convert_to_numpy(images) if ops.is_tensor(images) else images
