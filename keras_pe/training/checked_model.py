"""A model of pairs whose methods look at every batch before Keras has it."""

from typing import Any

import keras

from keras_pe.models.checked_batches import inputs_of
from keras_pe.models.checked_model import named_arguments
from keras_pe.models.live_state import values_kept
from keras_pe.training.checked_batches import (
    BatchCheck,
    warn_of_unknown_length,
    with_checked_batches,
)
from keras_pe.training.constraints import constrain
from keras_pe.training.distribution import scope_of
from keras_pe.training.pair_batches import check_arrays, refuse_weights


class CheckedModel(keras.Model):
    """A `keras.Model` of picture-text pairs that refuses what it would misunderstand.

    A subclass says with `vocabularies` which arrays hold token ids, and with
    `loss_kind` whether a pair alone has a loss.
    """

    loss_kind: str

    def vocabularies(self) -> dict[str, int]:
        """Returns for each array of token ids how many ids there are."""
        raise NotImplementedError

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: Any = None,
        *rest: Any,
        **options: Any,
    ) -> Any:
        """Trains as `keras.Model.fit` does, after a look at every batch."""
        self._check_compiled()
        given = self._looked_at("fit", x, y, batch_size, *rest, **options)
        check_arrays(
            given["x"],
            batch_size,
            given.get("validation_split") or 0.0,
            self.loss_kind == "softmax",
        )
        if not given.get("steps_per_epoch"):
            warn_of_unknown_length(x)
        validation = given.get("validation_data")
        if isinstance(validation, list | tuple):
            found = with_checked_batches(inputs_of(validation), self.vocabularies())
            given["validation_data"] = (found, *validation[1:])
        elif validation is not None:
            vocabularies = self.vocabularies()
            given["validation_data"] = with_checked_batches(validation, vocabularies)
        # Else TensorFlow's `fit` builds it with a generator's first batch, then lost.
        if not self.optimizer.built:
            with scope_of(self):
                self.optimizer.build(self.trainable_variables)
        with values_kept(self):
            history = super().fit(**given)
        constrain(self.trainable_variables)  # after an average of the weights
        return history

    def train_on_batch(self, x: Any, *rest: Any, **options: Any) -> Any:
        """Takes one step as `keras.Model.train_on_batch` does, after a look at it."""
        return super().train_on_batch(
            **self._looked_at("train_on_batch", x, *rest, **options)
        )

    def evaluate(self, x: Any = None, *rest: Any, **options: Any) -> Any:
        """Evaluates as `keras.Model.evaluate` does, after a look at every batch."""
        given = self._looked_at("evaluate", x, *rest, **options)
        with values_kept(self):
            return super().evaluate(**given)

    def test_on_batch(self, x: Any, *rest: Any, **options: Any) -> Any:
        """Evaluates a batch as `keras.Model.test_on_batch` does, after a look at it."""
        return super().test_on_batch(
            **self._looked_at("test_on_batch", x, *rest, **options)
        )

    def predict(self, x: Any, *rest: Any, **options: Any) -> Any:
        """Embeds as `keras.Model.predict` does, after a look at every batch."""
        given = self._looked_at("predict", x, *rest, **options)
        with values_kept(self):
            return super().predict(**given)

    def predict_on_batch(self, x: Any) -> Any:
        """Embeds a batch as `keras.Model.predict_on_batch` does, after a look at it."""
        return super().predict_on_batch(**self._looked_at("predict_on_batch", x))

    def _looked_at(self, method: str, *given: Any, **options: Any) -> dict[str, Any]:
        """Returns a method's arguments by name, with batches that are looked at."""
        found = named_arguments(method, *given, **options)
        refuse_weights(found)
        if not options.get("_use_cached_eval_dataset"):  # `fit` has looked at it
            trains = method in ("fit", "train_on_batch")
            found["x"] = with_checked_batches(
                found.get("x"),
                self.vocabularies(),
                needs_negatives=trains and self.loss_kind == "softmax",
            )
        return found

    def look(self, batch: Any) -> Any:
        """Returns a batch, after a look at names, rows and token ids.

        Raises:
            ValueError: if it can't be trained on.
        """
        return BatchCheck(self.vocabularies())(batch)

    def _check_compiled(self) -> None:
        if self._compile_loss is not None or self._compile_metrics is not None:
            raise ValueError(
                f"{self.name} has a loss and metrics of its own; those given to "
                f"compile would not be used. Compile with an optimizer alone."
            )
