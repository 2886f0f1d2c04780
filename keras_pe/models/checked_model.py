"""Models that look at their inputs in `predict` and `evaluate`, and at ids in `fit`.

Each batch is looked at before its step: inside a compiled one no value can be refused.
There an id that does not exist makes its text NaN, and one bad pixel its image.
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from types import GeneratorType
from typing import Any

import keras
import numpy as np

from keras_pe.arrays import torch_array
from keras_pe.layers.fine_tuning import FLOAT8_AND_LORA, little_to_collect

Check = Callable[[Any], Any]  # of what a model is called with; raises ValueError


class CheckedModel(keras.Model):
    """A model whose inputs are refused by place before they reach a compiled step."""

    def __dir__(self) -> list[str]:
        # Keras evaluates all that is named here, whenever it saves or loads weights.
        return [name for name in super().__dir__() if name != "presets"]

    def input_check(self, training: bool) -> Check:
        """Returns what looks at inputs.

        Args:
            training: whether they are trained on. There an image that is not finite
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
        return checked_batches(x, self.input_check(training), self.copies_batches)

    @property
    def copies_batches(self) -> bool:
        """Whether a batch must be a copy of its data: see `checked_batches`."""
        return getattr(self, "distribute_strategy", None) is not None

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
            ValueError: if an image or a token id can't be right, naming the first.
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
        with little_to_collect():
            super().quantize(mode, *arguments, **options)

    def _looked_at(self, method: str, *given: Any, **options: Any) -> dict[str, Any]:
        """Returns a method's arguments by name, with inputs that are looked at."""
        named = named_arguments(method, *given, **options)
        self.check_arguments(named)
        if not options.get("_use_cached_eval_dataset"):  # `fit` has looked at it
            self._refuse_no_rows(named.get("x"))
            training = method in ("fit", "train_on_batch")
            named["x"] = self._checked(named.get("x"), training)
        return named

    def _refuse_no_rows(self, x: Any) -> None:
        """Refuses arrays without rows, of which Keras predicts nothing at all."""
        for part in x.values() if isinstance(x, Mapping) else (x,):
            shape = getattr(part, "shape", None)
            if shape is not None and len(shape) and shape[0] == 0:
                raise ValueError(
                    f"{type(self).__name__} got an array of no rows, {tuple(shape)}. "
                    f"Expected at least one."
                )


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


# === The look at batches ===
def checked_batches(x: Any, check: Check, copies: bool = False) -> Any:
    """Returns what `fit` or `predict` reads, with each batch looked at before its use.

    Args:
        x: what they are given. Arrays are looked at here; generators, `PyDataset`,
            `tf.data`, PyTorch's `DataLoader` and grain's datasets and loader batch by
            batch; anything else is returned as it is. A generator and a `DataLoader`
            may give dictionaries alone, which Keras refuses.
        check: is called with the inputs alone, without labels. It must be a function
            that other processes can be sent, as a `PyDataset` may run in them.
        copies: whether batches are copies of their data. A step of TensorFlow on
            several CPU replicas writes into the arrays that a generator, a `PyDataset`
            or `from_generator` gave (2.21): the next epoch would read other images.

    Raises:
        ValueError: as `check`, naming the batch; by `tf.data` an
            `InvalidArgumentError` that says the same.

    Example:
        >>> def check(inputs):
        ...     if inputs.min() < 0:
        ...         raise ValueError("negative")
        >>> next(checked_batches((np.array([n]) for n in (-1, 1)), check))
        Traceback (most recent call last):
        ValueError: Batch 0: negative
    """
    look = functools.partial(_checked_batch, check=check, copies=copies)
    if isinstance(x, GeneratorType):
        return _checked_generator(x, look)
    if isinstance(x, keras.utils.PyDataset):
        return _CheckedDataset(x, look)
    # Who has made such a dataset has imported its library.
    tensorflow, torch, grain = map(sys.modules.get, ("tensorflow", "torch", "grain"))
    if tensorflow is not None and isinstance(x, tensorflow.data.Dataset):
        return _checked_tf_data(x, check, copies, tensorflow)
    if torch is not None and isinstance(x, torch.utils.data.DataLoader):
        return _checked_data_loader(x, check, copies, torch)
    if grain is not None and isinstance(x, grain.MapDataset | grain.IterDataset):
        return x.map(look)
    if grain is not None and isinstance(x, grain.DataLoader):
        return _checked_grain_loader(x, look, grain)
    if hasattr(x, "shape") or isinstance(x, Mapping):
        check(x)
    return x


def inputs_of(batch: Any) -> Any:
    """Returns what a model is called with, of `(inputs, labels, ...)`."""
    return batch[0] if isinstance(batch, list | tuple) and batch else batch


def _checked_batch(
    batch: Any, number: int | None = None, *, check: Check, copies: bool = False
) -> Any:
    try:
        check(inputs_of(batch))
    except (ValueError, TypeError) as error:
        place = "A batch" if number is None else f"Batch {number}"
        raise type(error)(f"{place}: {error}") from error
    return keras.tree.map_structure(_copy, batch) if copies else batch


def _copy(part: Any) -> Any:
    if hasattr(part, "detach"):  # of PyTorch, whose memory TensorFlow would share
        return part.clone()
    return part.copy() if isinstance(part, np.ndarray) else part


def _as_tuple(batch: Any) -> tuple[Any, ...]:
    # Of a dictionary Keras takes the keys on JAX and TensorFlow.
    return tuple(batch) if isinstance(batch, list | tuple) else (batch,)


def _checked_generator(
    batches: Generator[Any, None, None], look: Callable[..., Any]
) -> Generator[Any, None, None]:
    with contextlib.closing(batches):
        for number, batch in enumerate(batches):
            yield _as_tuple(look(batch, number))


class _CheckedDataset(keras.utils.PyDataset):
    """A `PyDataset` around another one."""

    def __init__(
        self, dataset: keras.utils.PyDataset, look: Callable[..., Any]
    ) -> None:
        super().__init__(
            dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size
        )
        self.dataset, self.look = dataset, look

    @property
    def num_batches(self) -> int | None:
        count: int | None = self.dataset.num_batches
        return count

    def __getitem__(self, index: int) -> Any:
        return self.look(self.dataset[index], index)

    def on_epoch_begin(self) -> None:
        self.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.dataset.on_epoch_end()


def _checked_tf_data(dataset: Any, check: Check, copies: bool, tf: Any) -> Any:
    def look(number: Any, parts: Any) -> Any:
        inputs = inputs_of(parts)

        def on_host(number: np.ndarray, *arrays: np.ndarray) -> Any:
            batch = tf.nest.pack_sequence_as(inputs, arrays)
            _checked_batch((batch,), int(number), check=check)
            return np.int32(0)

        def after(part: Any) -> Any:
            return tf.raw_ops.DeepCopy(x=part) if copies else tf.identity(part)

        looked = tf.numpy_function(on_host, [number, *tf.nest.flatten(inputs)], "int32")
        with tf.control_dependencies([looked]):
            return tf.nest.map_structure(after, parts, expand_composites=True)

    return dataset.enumerate().map(look)


def _checked_data_loader(loader: Any, check: Check, copies: bool, torch: Any) -> Any:
    class CheckedLoader(torch.utils.data.DataLoader):
        """A `DataLoader` around another one: Keras asks for its class."""

        def __init__(self) -> None:
            self.__dict__.update(vars(loader))

        def __iter__(self) -> Any:
            for number, batch in enumerate(loader):
                # PyTorch's tensors tell the arrays of another backend nothing.
                seen = keras.tree.map_structure(_on_host, inputs_of(batch))
                _checked_batch((seen,), number, check=check)
                whole = keras.tree.map_structure(_copy, batch) if copies else batch
                yield _as_tuple(whole)

        def __len__(self) -> int:
            return len(loader)

    return CheckedLoader()


def _on_host(tensor: Any) -> Any:
    return torch_array(tensor) if hasattr(tensor, "detach") else tensor


def _checked_grain_loader(loader: Any, look: Callable[..., Any], grain: Any) -> Any:
    class Look(grain.transforms.Map):
        def map(self, batch: Any) -> Any:
            return look(batch)

    processes = loader.multiprocessing_options
    return grain.DataLoader(  # one can't be changed; Keras' adapter makes a new one too
        data_source=loader._data_source,
        sampler=loader._sampler,
        operations=[*loader._operations, Look()],
        worker_count=processes.num_workers,
        worker_buffer_size=processes.per_worker_buffer_size,
        shard_options=loader._shard_options,
        read_options=loader._read_options,
        enable_profiling=processes.enable_profiling,
    )


# === Variables, which JAX keeps elsewhere in `fit` and `predict` ===
def sync_state(trainer: keras.Model) -> None:
    """Makes the variables of a model in `fit` current.

    On JAX the weights live in the training loop, and variables read in a callback are
    empty until they are fetched from there. Elsewhere nothing is to be done.
    """
    sync = getattr(trainer, "jax_state_sync", None)
    if sync is not None and getattr(trainer, "_jax_state", None) is not None:
        sync()


@contextlib.contextmanager
def values_kept(model: keras.Model) -> Iterator[None]:
    """Gives a model its values back if what is done inside fails.

    On JAX, Keras takes them out of the variables before it asks for the first batch,
    and only `fit` puts those of the last step back: an error of the data would leave a
    model without weights.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    variables = [*model.variables, *model.metrics_variables]
    if getattr(model, "optimizer", None) is not None:
        variables += model.optimizer.variables
    before = [(variable, variable._value) for variable in variables]
    try:
        yield
    except BaseException:
        sync_state(model)  # from the last step that was made
        for variable, value in before:
            if variable._value is None and not (value is None or value.is_deleted()):
                variable._value = value
        raise
