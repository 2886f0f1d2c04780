"""A model of pairs whose methods look at every batch before Keras has it."""

from collections.abc import Mapping
from typing import Any

from keras_pe.models.checked_model import CheckedModel
from keras_pe.training.checked_batches import (
    BatchCheck,
    warn_of_unknown_length,
    with_checked_batches,
)
from keras_pe.training.constraints import constrain
from keras_pe.training.distribution import scope_of
from keras_pe.training.pair_batches import check_arrays, refuse_weights


class CheckedPairsModel(CheckedModel):
    """A `keras.Model` of picture-text pairs that refuses what it would misunderstand.

    A subclass says with `vocabularies` which arrays hold token ids, and with
    `loss_kind` whether a pair alone has a loss.
    """

    loss_kind: str

    def vocabularies(self) -> dict[str, int]:
        """Returns for each array of token ids how many ids there are."""
        raise NotImplementedError

    def fit(self, x: Any = None, *arguments: Any, **options: Any) -> Any:
        """Trains as `keras.Model.fit` does, after a look at every batch."""
        self._check_compiled()
        history = super().fit(x, *arguments, **options)
        constrain(self.trainable_variables)  # after an average of the weights
        return history

    def check_arguments(self, given: Mapping[str, Any]) -> None:
        refuse_weights(given)

    def prepare_fit(self, x: Any, given: Mapping[str, Any]) -> None:
        check_arrays(
            given["x"],
            given.get("batch_size"),
            given.get("validation_split") or 0.0,
            self.loss_kind == "softmax",
        )
        if not given.get("steps_per_epoch"):
            warn_of_unknown_length(x)
        # Else TensorFlow's `fit` builds it with a generator's first batch, then lost.
        if not self.optimizer.built:
            with scope_of(self):
                self.optimizer.build(self.trainable_variables)
        self._check_known_to_optimizer()

    def look(self, batch: Any) -> Any:
        """Returns a batch, after a look at names, rows and token ids.

        Raises:
            ValueError: if it can't be trained on.
        """
        return BatchCheck(self.vocabularies())(batch)

    def _checked(self, x: Any, training: bool = False) -> Any:
        needs_negatives = training and self.loss_kind == "softmax"
        return with_checked_batches(x, self.vocabularies(), needs_negatives)

    def _check_known_to_optimizer(self) -> None:
        """Refuses weights that were made or thawed after the optimizer was built."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        known = {id(v) for v in getattr(optimizer, "_trainable_variables", ())}
        new = [v.path for v in self.trainable_variables if id(v) not in known]
        if known and new:
            raise ValueError(
                f"{len(new)} weights are trained that the optimizer does not know, "
                f"such as {new[0]}: they came, by LoRA or by thawing, after it had "
                f"begun. Compile again, with a new optimizer."
            )

    def _check_compiled(self) -> None:
        if self._compile_loss is not None or self._compile_metrics is not None:
            raise ValueError(
                f"{self.name} has a loss and metrics of its own; those given to "
                f"compile would not be used. Compile with an optimizer alone."
            )
