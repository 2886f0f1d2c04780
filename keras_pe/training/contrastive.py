"""The contrastive stage as a `keras.Model`: `compile` and `fit` do the rest."""

import math
from typing import Any

import keras
from keras import ops

from keras_pe.losses.contrastive import softmax_contrastive_loss
from keras_pe.models.core import PECore


class ContrastiveTrainer(keras.Model):
    """Trains a `PECore` on picture-caption pairs.

    Args:
        model: the dual encoder; trained in place.
        max_logit_scale: the learned factor of the cosines is clamped here.

    Source: Perception Encoder, table 18.

    Example:
        >>> trainer = ContrastiveTrainer(model)                       # doctest: +SKIP
        >>> trainer.compile(keras.optimizers.AdamW(1e-3))             # doctest: +SKIP
        >>> trainer.fit(images_and_token_ids)                         # doctest: +SKIP
    """

    def __init__(
        self, model: PECore, max_logit_scale: float = 100.0, name: str | None = None
    ) -> None:
        super().__init__(name=name or "contrastive_trainer", autocast=False)
        if max_logit_scale <= 1.0:
            raise ValueError(f"max_logit_scale must be above 1, got {max_logit_scale}.")
        self.model = model
        self.max_log_scale = math.log(max_logit_scale)
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        return self.model(inputs, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        # The clamp is part of the graph: at the limit the gradient is zero, and an
        # optimiser step can overshoot it only until the next clamp.
        scale = ops.exp(
            ops.minimum(
                ops.convert_to_tensor(self.model.logit_scale), self.max_log_scale
            )
        )
        return softmax_contrastive_loss(
            y_pred["image_embeddings"], y_pred["text_embeddings"], scale
        )
