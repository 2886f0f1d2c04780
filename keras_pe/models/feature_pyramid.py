"""The simple feature pyramid: maps of several strides from one layer of an encoder."""

import math
from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_pe.layers.fine_tuning import flags_config, restore_trainable_flags
from keras_pe.models.checked_model import Check, CheckedModel
from keras_pe.models.tower import resolve_layers
from keras_pe.models.vision_arguments import check_parts
from keras_pe.models.vision_encoder import PEVisionEncoder

SCALES = (4.0, 2.0, 1.0, 0.5)
NORM_EPSILON = 1e-6  # detectron2's; the encoder's own is 1e-5


class PyramidLevel(keras.layers.Layer):
    """Resizes a map, then 1x1 and 3x3 convolutions, each with a layer norm.

    Args:
        hidden_dim: channels in.
        scale: 4, 2 (transposed convolutions), 1, or 0.5 (the maximum of 2x2).
        channels: channels out.
    """

    def __init__(
        self, hidden_dim: int, scale: float, channels: int, **kwargs: Any
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.hidden_dim = hidden_dim
        self.scale = scale
        policy = self.dtype_policy

        def norm(name: str) -> keras.layers.Layer:
            return keras.layers.LayerNormalization(
                epsilon=NORM_EPSILON, dtype=policy, name=name
            )

        def enlarge(filters: int, name: str) -> keras.layers.Layer:
            return keras.layers.Conv2DTranspose(
                filters,
                2,
                strides=2,
                data_format="channels_last",
                dtype=policy,
                name=name,
            )

        def convolve(size: int, name: str) -> keras.layers.Layer:
            return keras.layers.Conv2D(
                channels,
                size,
                padding="same",
                use_bias=False,  # the norm that follows has one
                data_format="channels_last",
                dtype=policy,
                name=name,
            )

        self.steps: list[keras.layers.Layer] = []
        if scale == 4.0:
            self.steps = [
                enlarge(hidden_dim // 2, "enlarge_1"),
                norm("enlarge_norm"),
                keras.layers.Activation("gelu", dtype=policy, name="gelu"),
                enlarge(hidden_dim // 4, "enlarge_2"),
            ]
        elif scale == 2.0:
            self.steps = [enlarge(hidden_dim // 2, "enlarge")]
        self.steps += [
            convolve(1, "project"),
            norm("project_norm"),
            convolve(3, "smooth"),
            norm("smooth_norm"),
        ]

    def build(self, x_shape: Any) -> None:
        shape = (None, None, None, self.hidden_dim)
        for step in self.steps:
            step.build(shape)
            shape = step.compute_output_shape(shape)

    def call(self, x: Any) -> Any:  # (batch, rows, columns, hidden_dim)
        if self.scale == 0.5:
            # "same": an odd side is rounded up, as strides of anchors are.
            x = ops.max_pool(x, 2, 2, padding="same", data_format="channels_last")
        for step in self.steps:
            x = step(x)
        return x  # (batch, scale * rows, scale * columns, channels)


@keras.saving.register_keras_serializable("keras_pe")
class FeaturePyramid(CheckedModel):
    """Maps at several strides for a detector, made from one layer of an encoder.

    Gradients reach the encoder; to train the pyramid alone, set
    `encoder.trainable = False` first. Layers past the one that is read would take
    memory and no part: hand over `encoder.truncate(layer)`, which leaves them out.

    Args:
        encoder: a `PEVisionEncoder` whose patch size is a power of two; see
            `PEVisionEncoder.convert`.
        layer: layer that is read, as in `PEVisionEncoder.features`; -1 is the last.
        norm: whether the encoder's final norm is applied to it.
        scales: sizes of the maps relative to the grid of patches, of 4, 2, 1, 0.5.
        channels: channels of every map.
        top_level: whether the coarsest map comes again at double its stride, every
            second point of it (detectron2's `LastLevelMaxPool`).
        name: name of the model.
        dtype: dtype or policy of the pyramid; None is that of the encoder.

    Raises:
        ValueError: if patch size, layer, norm or scales do not fit.

    Source: Li et al. 2022, "Exploring Plain Vision Transformer Backbones for Object
    Detection"; detectron2's `SimpleFeaturePyramid`.

    Example:
        >>> import numpy as np
        >>> encoder = PEVisionEncoder(image_size=32, patch_size=8, hidden_dim=32,
        ...     num_layers=2, num_heads=4, intermediate_dim=64, output_dim=None)
        >>> maps = FeaturePyramid(encoder, channels=16)(np.zeros((1, 32, 64, 3)))
        >>> {name: tuple(x.shape) for name, x in maps.items()}
        {'P1': (1, 16, 32, 16), 'P2': (1, 8, 16, 16), 'P3': (1, 4, 8, 16), 'P4': (1, 2, 4, 16)}
    """  # noqa: E501

    def __init__(
        self,
        encoder: PEVisionEncoder,
        layer: int = -1,
        norm: bool = False,
        scales: Sequence[float] = SCALES,
        channels: int = 256,
        top_level: bool = False,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            name=name or "feature_pyramid",
            dtype=dtype or encoder.dtype_policy,
            autocast=False,
        )
        (self.layer,) = resolve_layers(layer, encoder.num_layers)
        check_parts(encoder, norm, class_token=False)
        self.encoder = encoder
        self.norm = norm
        self.scales = _checked_scales(scales, encoder.patch_size)
        self.channels = channels
        self.top_level = top_level
        self.levels = [
            PyramidLevel(
                encoder.hidden_dim,
                scale,
                channels,
                dtype=self.dtype_policy,
                name=f"level_{self._level_name(scale).lower()}",
            )
            for scale in self.scales
        ]
        self.build(None)

    def _level_name(self, scale: float) -> str:
        return f"P{round(math.log2(self.encoder.patch_size / scale))}"

    @property
    def strides(self) -> dict[str, int]:
        """Stride in pixels of each map, finest first."""
        strides = {
            self._level_name(scale): round(self.encoder.patch_size / scale)
            for scale in self.scales
        }
        if self.top_level:
            top = 2 * max(strides.values())
            strides[f"P{round(math.log2(top))}"] = top
        return strides

    def build(self, images_shape: Any) -> None:
        if getattr(self, "built", False):  # loading a model builds it again
            return
        for level in self.levels:
            level.build((None, None, None, self.encoder.hidden_dim))
        self.built = True

    def call(  # images: (batch, height, width, 3) in [-1, 1]
        self, images: Any, training: bool | None = None
    ) -> dict[str, Any]:
        """Returns the maps, `(batch, height / stride, width / stride, channels)`.

        Keys are "P" and the logarithm of the stride: "P2" has a stride of 4 pixels.
        """
        x = self.encoder.feature_map(
            images, layer=self.layer, norm=self.norm, training=training
        )
        maps = [level(x) for level in self.levels]
        if self.top_level:
            maps.append(maps[-1][:, ::2, ::2])
        return dict(zip(self.strides, maps, strict=True))

    def input_check(self, training: bool) -> Check:
        return self.encoder.input_check(training)

    def compute_output_shape(
        self, images_shape: Any, **shapes: Any
    ) -> dict[str, tuple[int | None, ...]]:
        rows, columns = self.encoder.patch_embedding.grid(images_shape)
        levels: dict[str, tuple[int | None, ...]] = {}
        for name, stride in self.strides.items():
            scale = self.encoder.patch_size / stride
            size = (math.ceil(rows * scale), math.ceil(columns * scale))
            levels[name] = (images_shape[0], *size, self.channels)
        return levels

    # === Config ===
    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "layer": self.layer,
            "norm": self.norm,
            "scales": list(self.scales),
            "channels": self.channels,
            "top_level": self.top_level,
            **flags_config(self),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        config = dict(config)
        config["encoder"] = keras.saving.deserialize_keras_object(config["encoder"])
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = keras.dtype_policies.deserialize(config["dtype"])
        flags = config.pop("trainable_flags", {})
        pyramid = cls(**config)
        if flags:
            restore_trainable_flags(pyramid, flags)
        return pyramid


def _checked_scales(scales: Sequence[float], patch_size: int) -> tuple[float, ...]:
    """Returns the scales, finest first, or says why they make no pyramid."""
    checked = tuple(sorted({float(scale) for scale in scales}, reverse=True))
    if not checked or not set(checked) <= set(SCALES) or len(checked) != len(scales):
        raise ValueError(
            f"scales must be some of 4, 2, 1 and 0.5, each once, got {tuple(scales)}."
        )
    if patch_size & (patch_size - 1) or patch_size < checked[0]:
        raise ValueError(
            f"A pyramid needs strides that are powers of two, got patches of "
            f"{patch_size} pixels and scales {checked}. Use "
            f"encoder.convert(patch_size=16)."
        )
    return checked
