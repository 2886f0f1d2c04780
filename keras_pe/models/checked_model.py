"""Models that look at their inputs in `predict` and `evaluate`, and at ids in `fit`."""

import contextlib
import gc
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_pe.layers.adaptable import FLOAT8_AND_LORA
from keras_pe.models.checked_batches import Check, checked_batches
from keras_pe.models.live_state import values_kept


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
        if isinstance(x, list | tuple):
            raise ValueError(
                f"{type(self).__name__} reads an array, or a dictionary of arrays, got "
                f"a {type(x).__name__} of {len(x)}. Give the array itself; np.stack "
                f"makes one of arrays of one size."
            )
        return checked_batches(x, self.input_check(training))

    def check_arguments(self, given: Mapping[str, Any]) -> None:
        """Refuses arguments of a method, by name, that would be misunderstood."""

    def prepare_fit(self, x: Any, given: Mapping[str, Any]) -> None:
        """Does what comes between the look at the data and the training.

        Args:
            x: what `fit` was given.
            given: all arguments by name, with data that are looked at.
        """

    def predict(self, x: Any, *arguments: Any, **options: Any) -> Any:
        """Predicts as `keras.Model.predict` does, after a look at the inputs.

        Raises:
            ValueError: if a picture or a token id can't be right, naming the first.
        """
        given = self._looked_at("predict", x, *arguments, **options)
        with values_kept(self):
            return super().predict(**given)

    def predict_on_batch(self, x: Any) -> Any:
        """Predicts one batch, after a look at it; raises as `predict`."""
        return super().predict_on_batch(**self._looked_at("predict_on_batch", x))

    def evaluate(self, x: Any = None, *arguments: Any, **options: Any) -> Any:
        """Evaluates as `keras.Model.evaluate` does; raises as `predict`."""
        given = self._looked_at("evaluate", x, *arguments, **options)
        with values_kept(self):
            return super().evaluate(**given)

    def test_on_batch(self, x: Any, *arguments: Any, **options: Any) -> Any:
        """Evaluates one batch, after a look at it; raises as `predict`."""
        given = self._looked_at("test_on_batch", x, *arguments, **options)
        return super().test_on_batch(**given)

    def fit(self, x: Any = None, *arguments: Any, **options: Any) -> Any:
        """Trains as `keras.Model.fit` does, after a look at token ids.

        Raises:
            ValueError: if an id is not in the vocabulary, naming the first; of
                validation data as `predict`.
        """
        given = self._looked_at("fit", x, *arguments, **options)
        validation = given.get("validation_data")
        if isinstance(validation, list | tuple) and validation:
            inputs = self._checked(validation[0])
            given["validation_data"] = (inputs, *validation[1:])
        elif validation is not None:
            given["validation_data"] = self._checked(validation)
        self.prepare_fit(x, given)
        with values_kept(self):
            return super().fit(**given)

    def train_on_batch(self, x: Any, *arguments: Any, **options: Any) -> Any:
        """Takes one step, after a look at token ids; raises as `fit`."""
        given = self._looked_at("train_on_batch", x, *arguments, **options)
        return super().train_on_batch(**given)

    def quantize(self, mode: Any = None, *arguments: Any, **options: Any) -> None:
        """Quantises as `keras.Model.quantize` does.

        Raises:
            ValueError: if it is "float8" and a layer has LoRA; nothing is changed.
        """
        kinds = (mode, getattr(options.get("config"), "mode", None))
        for layer in self._flatten_layers():
            if "float8" in kinds and getattr(layer, "lora_enabled", False):
                raise ValueError(FLOAT8_AND_LORA.format(name=layer.path))
        with _little_to_collect():
            super().quantize(mode, *arguments, **options)

    def _looked_at(self, method: str, *given: Any, **options: Any) -> dict[str, Any]:
        """Returns a method's arguments by name, with inputs that are looked at."""
        found = named_arguments(method, *given, **options)
        self.check_arguments(found)
        if not options.get("_use_cached_eval_dataset"):  # `fit` has looked at it
            self._refuse_no_rows(found.get("x"))
            training = method in ("fit", "train_on_batch")
            found["x"] = self._checked(found.get("x"), training)
        return found

    def _refuse_no_rows(self, x: Any) -> None:
        """Refuses arrays without rows, of which Keras predicts nothing at all."""
        for part in x.values() if isinstance(x, Mapping) else (x,):
            shape = getattr(part, "shape", None)
            if shape is not None and len(shape) and shape[0] == 0:
                raise ValueError(
                    f"{type(self).__name__} got an array of no rows, {tuple(shape)}. "
                    f"Expected at least one."
                )


@contextlib.contextmanager
def _little_to_collect() -> Iterator[None]:
    """Keeps the garbage collector to what is made inside.

    Keras collects all of it for each layer that it quantises, a hundred times for a
    large encoder, to free weights that their last reference has freed already.
    """
    if gc.get_freeze_count():  # somebody else's, whom `unfreeze` would undo
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def named_arguments(method: str, *given: Any, **options: Any) -> dict[str, Any]:
    """Returns what a method of `keras.Model` was given, all by name.

    Args:
        method: its name, such as "fit".
        given: what was given by position.
        options: what was given by name.
    """
    signature = inspect.signature(getattr(keras.Model, method))
    found = dict(signature.bind(None, *given, **options).arguments)
    del found["self"]
    return {**found.pop("kwargs", {}), **found}
