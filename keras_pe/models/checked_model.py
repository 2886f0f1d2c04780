"""Models that look at their inputs in `predict` and `evaluate`, and at ids in `fit`."""

from typing import Any

import keras

from keras_pe.models.checked_batches import Check, checked_batches


class CheckedModel(keras.Model):
    """A model whose inputs are refused by place before they reach a compiled step."""

    def input_check(self, training: bool) -> Check:
        """Returns what looks at inputs.

        Args:
            training: whether they are trained on. There a picture that is not finite
                is left to the loss: what watches a run names the step.
        """
        raise NotImplementedError

    def _checked(self, x: Any, training: bool = False) -> Any:
        return checked_batches(x, self.input_check(training))

    def predict(self, x: Any, *arguments: Any, **options: Any) -> Any:
        """Predicts as `keras.Model.predict` does, after a look at the inputs.

        Raises:
            ValueError: if a picture or a token id can't be right, naming the first.
        """
        return super().predict(self._checked(x), *arguments, **options)

    def predict_on_batch(self, x: Any) -> Any:
        """Predicts one batch, after a look at it; raises as `predict`."""
        return super().predict_on_batch(self._checked(x))

    def evaluate(self, x: Any = None, *arguments: Any, **options: Any) -> Any:
        """Evaluates as `keras.Model.evaluate` does; raises as `predict`."""
        in_fit = bool(options.get("_use_cached_eval_dataset"))  # it validates
        x = self._checked(x, training=in_fit)
        return super().evaluate(x, *arguments, **options)

    def test_on_batch(self, x: Any, *arguments: Any, **options: Any) -> Any:
        """Evaluates one batch, after a look at it; raises as `predict`."""
        return super().test_on_batch(self._checked(x), *arguments, **options)

    def fit(self, x: Any = None, *arguments: Any, **options: Any) -> Any:
        """Trains as `keras.Model.fit` does, after a look at token ids.

        Raises:
            ValueError: if an id is not in the vocabulary, naming the first.
        """
        x = self._checked(x, training=True)
        return super().fit(x, *arguments, **options)

    def train_on_batch(self, x: Any, *arguments: Any, **options: Any) -> Any:
        """Takes one step, after a look at token ids; raises as `fit`."""
        x = self._checked(x, training=True)
        return super().train_on_batch(x, *arguments, **options)
