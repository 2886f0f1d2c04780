"""Segmentation probe: batch norm and a linear layer on every patch."""

from collections.abc import Iterable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_pe.probing.feature_store import Samples
from keras_pe.probing.head_training import HeadProbe, TrainedHead
from keras_pe.probing.layer_outputs import Reading
from keras_pe.probing.probe import FittedProbe

IGNORE = 255


class Segmentation(HeadProbe):
    """Names the class of every pixel from its patch; scored by the mean IoU.

    Targets are masks, uint8 `(samples, height, width)`; 255 is left out of loss and
    score. The mean is over the classes that the test masks hold or the head names; one
    that training never showed is among them, with an IoU of 0. The logits of the
    patches are resized to the masks, bilinearly.

    Args:
        learning_rates: peaks to choose from, on the validation images. With little
            data the paper's 1e-3 leaves the head undertrained, which favours early
            layers.
        epochs: most passes over the training images; their number is chosen too.
        batch_size: images in a step.
        weight_decay: of AdamW.

    Source: Perception Encoder, section 5 and NeurIPS appendix ("batch norm + linear" on
    a single layer, AdamW 1e-3; iterations and batch size are not given).

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> masks = np.zeros((30, 16, 16), "uint8")
        >>> masks[:, 8:] = 1    # what lies below
        >>> probe = Segmentation(epochs=1)
        >>> result = sweep(encoder, (images, masks), probe=probe, layers=[2],
        ...     progress=False)
        >>> result.metric
        'mIoU'
    """

    name: ClassVar[str] = "segmentation"
    metric: ClassVar[str] = "mIoU"
    bounds = (0.0, 1.0)
    readings: ClassVar[tuple[Reading, ...]] = ("map",)

    def fit(
        self, train: Samples, validation: Samples, seed: int
    ) -> "FittedSegmentation":
        num_classes, size = mask_classes(train)
        trainer = self.trainer(
            (num_classes, *size),
            lambda shape: segmentation_head(shape, num_classes, size),
            masked_cross_entropy,
            lambda logits: ops.argmax(logits, axis=-1),
        )

        def judge(head: TrainedHead) -> float:
            found = FittedSegmentation(head, num_classes).statistics(validation)
            return float(self.score(found.mean(axis=0)))

        head, setting = trainer.choose(train, self.learning_rates, seed, judge)
        return FittedSegmentation(head, num_classes, setting)

    def baseline(self, train: Samples, test: Samples) -> np.ndarray:
        """Returns the overlaps of the most frequent class, everywhere."""
        num_classes, _ = mask_classes(train)
        counts = sum(
            np.bincount(mask.ravel(), minlength=256)[:num_classes]
            for masks in train.targets(256)
            for mask in masks
        )
        guess = int(np.argmax(counts))
        return overlaps(
            ((np.full_like(masks, guess), masks) for masks in test.targets(256)),
            num_classes,
        )

    def score(self, means: np.ndarray) -> np.ndarray:
        """Returns the mean IoU over the classes that are there or were named."""
        intersection, union = means[..., 0::2], means[..., 1::2]
        seen = union > 0
        iou = np.where(seen, intersection / np.where(seen, union, 1.0), 0.0)
        return np.asarray(iou.sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1))

    def target_protocol(self, train: Samples, test: Samples) -> dict[str, Any]:
        trained, tested = classes_shown(train), classes_shown(test)
        return {
            "trained_classes": len(trained),
            "test_classes": len(tested),
            "test_classes_not_trained": sorted(tested - trained),  # IoU 0, counted
        }


class FittedSegmentation(FittedProbe):
    """A trained head and how it was trained."""

    def __init__(
        self,
        head: TrainedHead,
        num_classes: int,
        setting: dict[str, Any] | None = None,
    ) -> None:
        self.head, self.num_classes = head, num_classes
        self.setting = setting or {}

    def statistics(self, samples: Samples) -> np.ndarray:
        return overlaps(self.head.answers(samples), self.num_classes)


def overlaps(  # pairs of (batch, height, width)
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int
) -> np.ndarray:
    """Returns intersections and unions in pixels, `(samples, 2 x classes)`.

    They take turns: both of class 0, both of class 1, ... There are more than
    `num_classes` classes if the masks hold more; these have no intersection.

    Args:
        pairs: (predicted classes, masks), batch by batch.
        num_classes: number of classes that can be predicted.
    """
    rows = []
    for predicted, masks in pairs:
        for guess, mask in zip(predicted, masks, strict=True):
            inside = mask != IGNORE
            theirs, ours = mask[inside].astype("int64"), guess[inside].astype("int64")
            size = max(num_classes, int(theirs.max(initial=0)) + 1)
            hits = np.bincount(theirs[theirs == ours], minlength=size)
            there = np.bincount(theirs, minlength=size)
            named = np.bincount(ours, minlength=size)
            rows.append(np.stack([hits, there + named - hits], axis=1).ravel())
    width = max(map(len, rows))
    return np.array([np.pad(row, (0, width - len(row))) for row in rows], "float64")


def mask_classes(samples: Samples) -> tuple[int, tuple[int, int]]:
    """Returns the number of classes of masks, and their height and width.

    Raises:
        ValueError: if the targets are no masks, or all pixels are to be ignored.
    """
    largest, size = -1, None
    for masks in samples.targets(256):
        if masks.dtype != np.uint8 or masks.ndim != 3:
            raise ValueError(
                f"Segmentation needs uint8 masks (height, width) as targets, 255 for "
                f"pixels to ignore; got {masks.dtype} {masks.shape[1:]} each."
            )
        kept = masks[masks != IGNORE]
        largest = max(largest, int(kept.max()) if len(kept) else -1)
        size = masks.shape[1:3]
    if largest < 0 or size is None:
        raise ValueError("Every pixel of every mask is to be ignored (255).")
    return largest + 1, (size[0], size[1])


def classes_shown(samples: Samples) -> set[int]:
    """Returns the classes that have a pixel in the masks."""
    counts = np.zeros(256, "int64")
    for masks in samples.targets(256):
        counts += np.bincount(masks.ravel(), minlength=256)
    return set(np.flatnonzero(counts[:IGNORE]).tolist())


def segmentation_head(
    shape: tuple[int, ...], num_classes: int, size: tuple[int, int]
) -> keras.Model:
    """Returns a head of maps `(rows, columns, channels)`, to logits of all pixels."""
    features = keras.Input(shape)
    # Few steps: the running moments must follow fast.
    x = keras.layers.BatchNormalization(momentum=0.9)(features)
    x = keras.layers.Dense(num_classes)(x)
    x = keras.layers.Resizing(*size, interpolation="bilinear")(x)
    return keras.Model(features, x)


def masked_cross_entropy(masks: Any, logits: Any) -> Any:
    """Returns the mean cross-entropy of the pixels that count.

    Args:
        masks: `(batch, height, width)` integers.
        logits: `(batch, height, width, classes)` float32.
    """
    masks = ops.cast(masks, "int32")
    counted = ops.cast(masks != IGNORE, "float32")
    labels = ops.where(masks == IGNORE, 0, masks)
    # Keras' own makes one-hot labels on PyTorch: as large as the logits once more.
    named = ops.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    losses = ops.logsumexp(logits, axis=-1) - named
    return ops.sum(losses * counted) / ops.maximum(ops.sum(counted), 1.0)
