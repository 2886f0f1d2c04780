"""An encoder with a linear head, as a Keras model from images to logits."""

import types
from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import check_finite, check_sizes
from keras_pe.finetuning.class_features import class_features, feature_channels
from keras_pe.models.checked_model import Check, CheckedModel
from keras_pe.models.compiled import padded_batch, run_compiled
from keras_pe.models.vision_encoder import PEVisionEncoder

MOMENTUM = 0.9  # of the moving average: Keras' 0.99 needs hundreds of steps to settle


@keras.saving.register_keras_serializable("keras_pe")
class ClassificationHead(keras.layers.Layer):
    """A linear map of standardised features, in float32 whatever the encoder's dtype.

    Features share a large constant part: a small change of it would drown all else. So
    while the encoder is trained, the mean is that of the batch, and the head's own
    follows it as a moving average. Deviations stay as they were measured. Channels are
    alike, and a head reads their differences: deviations of a batch, each a tenth off
    in another direction, would drown those.

    Args:
        num_classes: of which it gives the logits.
        name: of the layer.
    """

    def __init__(self, num_classes: int, name: str = "head") -> None:
        super().__init__(name=name, dtype="float32", autocast=False)
        check_sizes(num_classes=num_classes)
        self.num_classes = num_classes

    def build(self, features_shape: Any) -> None:
        channels = features_shape[-1]

        def fixed(name: str, value: str) -> Any:
            return self.add_weight(
                shape=(channels,), initializer=value, trainable=False, name=name
            )

        self.mean, self.deviation = fixed("mean", "zeros"), fixed("deviation", "ones")
        # At zero all classes are equally likely: the first loss is that of a guess.
        self.kernel = self.add_weight(
            shape=(channels, self.num_classes), initializer="zeros", name="kernel"
        )
        self.bias = self.add_weight(
            shape=(self.num_classes,), initializer="zeros", name="bias"
        )
        self.built = True

    def call(  # features: (batch, channels) -> (batch, classes)
        self, features: Any, training: bool | None = None
    ) -> Any:
        features = ops.cast(features, "float32")
        mean = self.mean
        if training and features.shape[0] != 1:
            mean = ops.mean(features, axis=0)
            change = ops.stop_gradient(mean) - self.mean
            self.mean.assign(self.mean + (1 - MOMENTUM) * change)
        standardised = (features - mean) / self.deviation
        return ops.matmul(standardised, self.kernel) + self.bias

    def compute_output_shape(self, features_shape: Any) -> Any:
        return (*features_shape[:-1], self.num_classes)

    def assign(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets the weights that `arrays` gives."""
        for name, value in arrays.items():
            getattr(self, name).assign(value)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the weights by name."""
        names = ("mean", "deviation", "kernel", "bias")
        return {n: np.array(ops.convert_to_numpy(getattr(self, n))) for n in names}

    def get_config(self) -> dict[str, Any]:
        return {"num_classes": self.num_classes, "name": self.name}


@keras.saving.register_keras_serializable("keras_pe")
class ClassifierModel(CheckedModel):
    """Gives the logits of classes; what an `ImageClassifier` trains.

    Args:
        encoder: a vision encoder.
        head: a `ClassificationHead`; built here if it is not.
        name: of the model.

    Example:
        >>> encoder = PEVisionEncoder.from_preset("pe_core_emoji_small_patch8_64")
        >>> model = ClassifierModel(encoder, ClassificationHead(3))
        >>> tuple(model(np.zeros((2, 64, 64, 3), "float32")).shape)
        (2, 3)
    """

    def __init__(
        self,
        encoder: PEVisionEncoder,
        head: ClassificationHead,
        name: str = "image_classifier",
    ) -> None:
        super().__init__(name=name, dtype=encoder.dtype_policy, autocast=False)
        self.encoder, self.head = encoder, head
        if not head.built:
            head.build((None, feature_channels(encoder)))
        self.built = True

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Returns logits, float32 `(batch, classes)`.

        Args:
            images: `(batch, height, width, 3)` in [-1, 1].
            training: whether stochastic depth is active.
        """
        features = class_features(self.encoder, images, training)
        return self.head(features, training=training)

    def features(self, images: Any) -> Any:
        """Returns what the head reads of images, as it is outside of training."""
        return class_features(self.encoder, images, training=False)

    def inference(self, images: Any) -> Any:
        """Returns the logits of images, as they are outside of training."""
        return self(images, training=False)

    def logits(
        self, prepared: np.ndarray, rows: np.ndarray, batch_size: int
    ) -> np.ndarray:
        """Returns the logits of a batch, compiled: float32 `(images, classes)`.

        Args:
            prepared: `(images, height, width, 3)` in [-1, 1], at most `batch_size`.
            rows: which these are among all that were given, to name one.
            batch_size: to which the batch is padded.

        Raises:
            NonFiniteError: naming the first image whose logits are not finite.
        """
        images = self.encoder.checked_images(padded_batch(prepared, batch_size))
        method = types.MethodType(ClassifierModel.inference, self)
        found = run_compiled(self, "classes", method, images)
        logits = ops.convert_to_numpy(found)[: len(rows)]
        names = [f"number {row} of those given" for row in rows]
        return check_finite(logits, "logits", "image", names)

    def compute_output_shape(self, images_shape: Any) -> Any:
        return (images_shape[0], self.head.num_classes)

    def input_check(self, training: bool) -> Check:
        return self.encoder.input_check(training)

    def get_config(self) -> dict[str, Any]:
        return {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "head": keras.saving.serialize_keras_object(self.head),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        config = dict(config)
        for part in ("encoder", "head"):
            config[part] = keras.saving.deserialize_keras_object(config[part])
        return cls(**config)
