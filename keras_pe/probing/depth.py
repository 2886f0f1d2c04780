"""Depth probes: a linear head over bins, and a DPT head, on a single layer."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_pe.probing.feature_store import Samples
from keras_pe.probing.head_training import HeadProbe, TrainedHead
from keras_pe.probing.layer_outputs import Reading
from keras_pe.probing.probe import FittedProbe

NUM_BINS = 256


class Depth(HeadProbe):
    """Tells the depth of every pixel from its patch; scored by the RMSE.

    Targets are float32 `(samples, height, width)` in metres, or any unit; values that
    are not above 0 are unknown and left out. The head chooses among 256 depths between
    the smallest and the largest of the training images; the expectation is its
    answer, resized to the targets, bilinearly.

    Args:
        learning_rates: peaks to choose from, on the validation images.
        epochs: most passes over the training images; their number is chosen too, by
            the lowest validation error, as in the paper.
        batch_size: images in a step.
        weight_decay: of AdamW.

    Source: DINOv2, section 7.4 (linear head); Perception Encoder, section 3 (DPT).

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> depths = np.ones((30, 16, 16), "float32")
        >>> depths[:, 8:] = 2.0    # farther below
        >>> probe = Depth(epochs=1)
        >>> result = sweep(encoder, (images, depths), probe=probe, layers=[2],
        ...     progress=False)
        >>> result.metric
        'RMSE'
    """

    name: ClassVar[str] = "depth"
    metric: ClassVar[str] = "RMSE"
    higher_is_better: ClassVar[bool] = False
    readings: ClassVar[tuple[Reading, ...]] = ("map",)

    def map(self, features: Any) -> Any:
        """Returns what the bins are read from: of the linear head the features."""
        return keras.layers.BatchNormalization(momentum=0.9)(features)

    def fit(self, train: Samples, validation: Samples, seed: int) -> "FittedDepth":
        limits, size = depth_range(train)
        trainer = self.trainer(
            (limits, size),
            lambda shape: self._head(shape, limits, size),
            depth_loss,
            lambda depth: depth,
        )

        def judge(head: TrainedHead) -> float:
            found = FittedDepth(head).statistics(validation)
            return -float(self.score(found.mean(axis=0)))

        head, setting = trainer.choose(train, self.learning_rates, seed, judge)
        return FittedDepth(head, setting)

    def _head(
        self,
        shape: tuple[int, ...],
        limits: tuple[float, float],
        size: tuple[int, int],
    ) -> keras.Model:
        features = keras.Input(shape)
        logits = keras.layers.Dense(NUM_BINS)(self.map(features))
        depth = Expectation(*limits)(logits)  # (batch, rows, columns, 1)
        depth = keras.layers.Resizing(*size, interpolation="bilinear")(depth)
        return keras.Model(features, keras.layers.Reshape(size)(depth))

    def baseline(self, train: Samples, test: Samples) -> np.ndarray:
        """Returns the errors of the mean training depth, everywhere."""
        total = known = 0.0
        for depths in train.targets(256):
            total += float(depths[depths > 0].sum(dtype="float64"))
            known += float((depths > 0).sum())
        return squared_errors(
            (np.full_like(depths, total / known), depths)
            for depths in test.targets(256)
        )

    def score(self, means: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(means[..., 0] / np.maximum(means[..., 1], 1e-300)))


class DPTDepth(Depth):
    """The same with a DPT head: four scales of one layer, fused by convolutions.

    Args:
        channels: width of the head; None takes a quarter of the encoder's, at least 32.
        learning_rates: as of `Depth`, and so are the others.
        epochs: passes over the training images.
        batch_size: images in a step.
        weight_decay: of AdamW.

    Source: Perception Encoder, appendix B (DPT on a single layer, width scaled with the
    encoder, 20 epochs, lowest validation loss).

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> depths = np.ones((30, 16, 16), "float32")
        >>> depths[:, 8:] = 2.0    # farther below
        >>> probe = DPTDepth(channels=8, epochs=1)
        >>> result = sweep(encoder, (images, depths), probe=probe, layers=[2],
        ...     progress=False)
        >>> result.metric
        'RMSE'
    """

    name: ClassVar[str] = "dpt_depth"

    def __init__(
        self,
        channels: int | None = None,
        learning_rates: Sequence[float] = (1e-3, 1e-2),
        epochs: int = 20,
        batch_size: int = 16,
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__(learning_rates, epochs, batch_size, weight_decay)
        self.channels = channels

    def map(self, features: Any) -> Any:
        return dpt_map(features, self.channels or max(32, features.shape[-1] // 4))


class FittedDepth(FittedProbe):
    """A trained head and how it was trained."""

    def __init__(
        self, head: TrainedHead, setting: dict[str, Any] | None = None
    ) -> None:
        self.head, self.setting = head, setting or {}

    def statistics(self, samples: Samples) -> np.ndarray:
        return squared_errors(self.head.answers(samples))


@keras.saving.register_keras_serializable("keras_pe")
class Expectation(keras.layers.Layer):
    """Turns logits of depth bins into the expected depth.

    Args:
        nearest: depth of the first bin.
        farthest: depth of the last bin.
    """

    def __init__(self, nearest: float, farthest: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nearest, self.farthest = nearest, farthest

    def call(self, logits: Any) -> Any:  # (batch, rows, columns, bins)
        depths = ops.linspace(self.nearest, self.farthest, logits.shape[-1])
        share = ops.softmax(ops.cast(logits, "float32"), axis=-1)
        return ops.sum(share * ops.cast(depths, "float32"), axis=-1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        limits = {"nearest": self.nearest, "farthest": self.farthest}
        return {**super().get_config(), **limits}


def squared_errors(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Returns the sum of squared errors and the known pixels, `(samples, 2)`."""
    rows = []
    for predicted, depths in pairs:
        known = depths > 0
        error = np.square(predicted.astype("float64") - depths) * known
        rows.append(np.stack([error.sum(axis=(1, 2)), known.sum(axis=(1, 2))], axis=1))
    return np.concatenate(rows).astype("float64")


def depth_range(samples: Samples) -> tuple[tuple[float, float], tuple[int, int]]:
    """Returns the smallest and largest known depth, and the targets' size.

    Raises:
        ValueError: if the targets are no depth maps, or nothing is known.
    """
    nearest, farthest, size = np.inf, 0.0, None
    for depths in samples.targets(256):
        if depths.dtype.kind != "f" or depths.ndim != 3:
            raise ValueError(
                f"Depth needs float maps (height, width) as targets, 0 where unknown; "
                f"got {depths.dtype} {depths.shape[1:]} each."
            )
        known = depths[depths > 0]
        if len(known):
            nearest = min(nearest, float(known.min()))
            farthest = max(farthest, float(known.max()))
        size = depths.shape[1:3]
    if size is None or farthest == 0.0:
        raise ValueError("No depth is known: all targets are 0 or below.")
    return (nearest, farthest), (size[0], size[1])


def depth_loss(depths: Any, predicted: Any) -> Any:
    """Returns the mean squared error of known pixels, over the mean square depth.

    The quotient makes the loss independent of the unit.
    """
    depths = ops.cast(depths, "float32")
    known = ops.cast(depths > 0, "float32")
    scale = ops.sum(ops.square(depths) * known)
    return ops.sum(ops.square(predicted - depths) * known) / ops.maximum(scale, 1e-6)


# === The head of DPT ===
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
