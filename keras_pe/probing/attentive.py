"""Attentive probe: one cross-attention block and a linear head."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_pe.layers.transformer import NORM_EPSILON, AttentionPooling
from keras_pe.probing.feature_store import Samples
from keras_pe.probing.head_training import HeadProbe, TrainedHead
from keras_pe.probing.layer_outputs import Reading
from keras_pe.probing.probe import ClassificationProbe, FittedProbe, count_labels


class Attentive(HeadProbe, ClassificationProbe):
    """A learned probe asks all tokens of a layer; a linear head names the class.

    Learning rate and number of epochs are chosen on the validation images.

    Args:
        learning_rates: peaks to choose from.
        epochs: most passes over the training images.
        batch_size: images in a step.
        weight_decay: of AdamW.
        head_dim: channels of an attention head, about.

    Source: Perception Encoder, section 3 and table 8 ("as in AIMv2"; the settings of
    its optimiser are not given).

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int64")
        >>> probe = Attentive(epochs=1)
        >>> result = sweep(encoder, (images, labels), probe=probe, layers=[2],
        ...     progress=False)
        >>> result.metric
        'accuracy'
    """

    name: ClassVar[str] = "attentive"
    readings: ClassVar[tuple[Reading, ...]] = ("tokens",)

    def __init__(
        self,
        learning_rates: Sequence[float] = (1e-3,),
        epochs: int = 20,
        batch_size: int = 64,
        weight_decay: float = 0.05,
        head_dim: int = 64,
    ) -> None:
        super().__init__(learning_rates, epochs, batch_size, weight_decay)
        self.head_dim = head_dim

    def fit(self, train: Samples, validation: Samples, seed: int) -> "FittedAttentive":
        num_classes = count_labels(train).num_classes
        trainer = self.trainer(
            num_classes,
            lambda shape: attentive_head(shape, num_classes, self.head_dim),
            cross_entropy,
            lambda logits: ops.argmax(logits, axis=-1),
        )
        head, setting = trainer.choose(
            train,
            self.learning_rates,
            seed,
            lambda head: float(FittedAttentive(head).statistics(validation).mean()),
        )
        return FittedAttentive(head, setting)


class FittedAttentive(FittedProbe):
    """A trained head and how it was trained."""

    def __init__(
        self, head: TrainedHead, setting: dict[str, Any] | None = None
    ) -> None:
        self.head, self.setting = head, setting or {}

    def statistics(self, samples: Samples) -> np.ndarray:
        return np.concatenate(
            [
                (answers == targets).astype("float64")[:, None]
                for answers, targets in self.head.answers(samples)
            ]
        )


def attentive_head(
    shape: tuple[int, ...], num_classes: int, head_dim: int
) -> keras.Model:
    """Returns a head of tokens `(tokens, channels)`, to logits."""
    channels = shape[-1]
    heads = max(1, channels // head_dim)
    while channels % heads:
        heads -= 1
    tokens = keras.Input(shape)
    x = keras.layers.LayerNormalization(epsilon=NORM_EPSILON)(tokens)
    x = AttentionPooling(channels, heads)(x)
    return keras.Model(tokens, keras.layers.Dense(num_classes)(x))


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Returns the mean cross-entropy of labels `(batch,)`."""
    return ops.mean(
        keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    )
