"""KerasHub's tasks with a Perception Encoder: what finds them by their backbone.

KerasHub's `ImageClassifier` and `RetinaNetObjectDetector` take our backbones as they
are. The subclasses here are what `from_preset` looks for: it takes the class whose
`backbone_cls` is that of the preset.
"""

import os
from typing import Any, Self

import keras
import keras_hub

from keras_pe.kerashub.backbone import PEBackbone
from keras_pe.kerashub.encoder_backbone import PACKAGE, hub_preset
from keras_pe.kerashub.image_converter import PEImageConverter
from keras_pe.kerashub.pyramid_backbone import PEPyramidBackbone


@keras.saving.register_keras_serializable(PACKAGE)
class PEImageClassifierPreprocessor(keras_hub.models.ImageClassifierPreprocessor):
    """Images, and labels if any, to what a `PEImageClassifier` reads.

    Args:
        image_converter: a `PEImageConverter`.
        config_file: name of its file in presets.
        name: name of the layer.

    Example:
        >>> import numpy as np
        >>> preprocess = PEImageClassifierPreprocessor.from_preset(
        ...     "pe_core_emoji_patch8_64")
        >>> images, labels = preprocess(np.zeros((2, 9, 9, 3), "uint8"), y=np.ones(2))
        >>> tuple(images.shape)
        (2, 64, 64, 3)
    """

    backbone_cls = PEBackbone
    image_converter_cls = PEImageConverter

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        config_file: str = "preprocessor.json",
        **options: Any,
    ) -> Self:
        """Loads the preprocessing of a preset, of keras_pe or one that KerasHub wrote.

        Args:
            preset: as of `PEImageConverter.from_preset`.
            config_file: its file in a preset of KerasHub's.
            options: arguments of this class that are to differ.

        Raises:
            CheckpointError: if there is no such preset, or it has no converter.
        """
        written = hub_preset(preset)
        if written is not None:
            return super().from_preset(written, config_file, **options)
        return cls(PEImageConverter.from_preset(preset), **options)


@keras.saving.register_keras_serializable(PACKAGE)
class PEImageClassifier(keras_hub.models.ImageClassifier):
    """KerasHub's `ImageClassifier` on a Perception Encoder.

    Args: those of `keras_hub.models.ImageClassifier`; `backbone` is a `PEBackbone`,
        whose map is pooled before the classes.

    Example:
        >>> import numpy as np
        >>> classifier = PEImageClassifier.from_preset(
        ...     "pe_core_emoji_patch8_64", num_classes=2)
        >>> images = np.zeros((2, 32, 32, 3), "uint8")
        >>> classifier.predict(images, verbose=0).shape
        (2, 2)
    """

    backbone_cls = PEBackbone
    preprocessor_cls = PEImageClassifierPreprocessor

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        load_weights: bool = True,
        **options: Any,
    ) -> Self:
        """Loads a classifier, or makes one on the encoder of a preset.

        Args:
            preset: an encoder of keras_pe, as of `PEBackbone.from_preset`; or what
                `save_to_preset` of this class or of a `PEBackbone` wrote.
            load_weights: whether its weights are loaded. The classes of an encoder's
                preset are new.
            options: arguments of this class, of which a preset without classes needs
                `num_classes`; `dtype`; of an encoder's preset also `layers`, `norm` and
                `image_shape` of `PEBackbone.from_preset`.

        Raises:
            CheckpointError: as `PEBackbone.from_preset`; or if an encoder's preset has
                no image converter.
            TypeError: if `num_classes` is missing.
        """
        written = hub_preset(preset)
        if written is not None:
            return super().from_preset(written, load_weights, **options)
        if "backbone" not in options:
            names = ("layers", "norm", "image_shape", "dtype")
            given = {name: options.pop(name) for name in names if name in options}
            options["backbone"] = PEBackbone.from_preset(preset, load_weights, **given)
        if "preprocessor" not in options:
            converter = PEImageConverter.from_preset(
                preset, image_size=options["backbone"].image_shape[:2]
            )
            options["preprocessor"] = PEImageClassifierPreprocessor(converter)
        return cls(**options)


@keras.saving.register_keras_serializable(PACKAGE)
class PERetinaNetObjectDetector(keras_hub.models.RetinaNetObjectDetector):
    """KerasHub's RetinaNet on a Perception Encoder.

    Args: those of `keras_hub.models.RetinaNetObjectDetector`; `backbone` is a
        `PEPyramidBackbone`, and images come converted: `preprocessor` stays None.

    Example:
        >>> import numpy as np
        >>> from keras_pe.kerashub import PEPyramidBackbone
        >>> backbone = PEPyramidBackbone.from_preset("pe_spatial_emoji_patch8_64",
        ...     image_shape=(64, 64, 3), scales=(1, 0.5))
        >>> detector = PERetinaNetObjectDetector(backbone=backbone, num_classes=3,
        ...     bounding_box_format="xyxy", pre_logits_num_conv_layers=1)
        >>> images = np.zeros((1, 64, 64, 3), "float32")
        >>> found = detector.predict(images, verbose=0)
        >>> found["boxes"].shape[::2]
        (1, 4)
    """

    backbone_cls = PEPyramidBackbone
    preprocessor_cls = None
