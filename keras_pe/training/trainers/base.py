"""What all trainers share: the look at batches, the loss, what is saved."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

import keras
from keras import ops

from keras_pe.arrays import check_sizes
from keras_pe.models.checked_model import CheckedModel
from keras_pe.models.core import l2_normalize
from keras_pe.training.devices.distribution import (
    num_replicas,
    replica_loss_scale,
    scope_of,
)
from keras_pe.training.optimizers.averages import constrain
from keras_pe.training.trainers.batch_checks import (
    BatchCheck,
    FurtherCheck,
    check_arrays,
    check_names,
    check_negatives,
    check_unlabelled,
    refuse_weights,
    warn_of_unknown_length,
    with_checked_batches,
)
from keras_pe.training.trainers.chunks import (
    map_chunks,
    merge_rows,
    num_chunks,
)

LOW_PRECISION = ("float16", "bfloat16")


class Term(NamedTuple):
    """One number of a training step.

    Attributes:
        metric: shows it in the logs.
        value: a scalar.
        weight: its factor in the loss; None shows it and no more.
    """

    metric: "Latest"
    value: Any
    weight: float | None


class BaseTrainer(CheckedModel):
    """The base of all trainers, each a `keras.Model` of a model.

    `compile` takes an optimizer alone and `fit` does the rest. A trainer says which
    arrays a batch has (`known_arrays`, `vocabularies`), what it computes of them
    (`call`) and what it minimises (`terms`); the towers run in chunks by `in_chunks`.

    Args:
        model: what is trained, in place.
        name: name of the trainer.
        chunk_sizes: rows that go through a part at once, over all devices, by the name
            of the option; None for all of them.

    Raises:
        ValueError: if a chunk size is no whole number of at least 1.
    """

    known_arrays: tuple[str, ...]
    needed_arrays: tuple[str, ...] = ("images",)
    logged_terms: tuple[str, ...] = (
        "contrastive_loss",
        "mask_loss",
        "logit_scale",
    )  # by their metrics' names
    one_row_is_nothing = False  # whether one row alone has no loss

    def __init__(
        self, model: keras.Model, name: str, **chunk_sizes: int | None
    ) -> None:
        # The towers' policy: Keras scales the loss of a float16 model by its name.
        super().__init__(name=name, autocast=False, dtype=training_policy(model))
        for option, size in chunk_sizes.items():
            if size is not None:
                check_sizes("None takes all rows.", **{option: size})
            setattr(self, option, size)
        self.chunk_options = tuple(chunk_sizes)
        self.model = model

    def build(self, inputs_shape: Any = None) -> None:
        """Does nothing: all weights are made when the trainer is."""

    # === What a trainer says of itself ===
    def vocabularies(self) -> dict[str, int]:
        """Returns for each array of token ids how many ids there are."""
        return {}

    def further_check(self) -> FurtherCheck | None:
        """Returns what else refuses a batch, before a step; it can be pickled."""
        return None

    @property
    def teachers(self) -> tuple[keras.Model, ...]:
        """The frozen models, which a run's checkpoint leaves out."""
        return ()

    @property
    def loss_weights(self) -> dict[str, float]:
        """The factors of the terms that a step minimises, by their metrics' names."""
        return {"contrastive_loss": 1.0}

    def terms(self, x: Mapping[str, Any], y_pred: Any) -> Iterable[Term]:
        """Yields what a step minimises, and what else its logs show.

        Args:
            x: the batch, arrays by name.
            y_pred: what `call` returned.
        """
        raise NotImplementedError

    # === The look at batches ===
    def fit(self, x: Any = None, *arguments: Any, **options: Any) -> Any:
        """Trains as `keras.Model.fit` does, after a look at every batch."""
        self._check_compiled()
        history = super().fit(x, *arguments, **options)
        if getattr(self._own_optimizer(), "use_ema", False):
            constrain(self.trainable_variables)  # the average took the weights' place
        return history

    def train_on_batch(self, x: Any, *arguments: Any, **options: Any) -> Any:
        """Takes one step as `keras.Model.train_on_batch` does, after a look at it."""
        self._assert_compile_called("train_on_batch")
        self._build_optimizer()
        return super().train_on_batch(x, *arguments, **options)

    def check_arguments(self, given: Mapping[str, Any]) -> None:
        refuse_weights(given)

    def prepare_fit(self, x: Any, given: Mapping[str, Any]) -> None:
        check_arrays(
            given["x"],
            given.get("batch_size"),
            given.get("validation_split") or 0.0,
            self.one_row_is_nothing,
        )
        if not given.get("steps_per_epoch"):
            warn_of_unknown_length(x)
        self._build_optimizer()
        self._check_known_to_optimizer()

    def _build_optimizer(self) -> None:
        """Makes the optimizer's variables, which Keras makes on TensorFlow in a step.

        There a step is traced twice, and `fit` loses a generator's first batch.
        """
        if not self.optimizer.built:
            with scope_of(self):
                self.optimizer.build(self.trainable_variables)

    def look(self, batch: Any) -> Any:
        """Returns a batch, after a look at names, rows and token ids.

        Raises:
            ValueError: if it can't be trained on.
        """
        return BatchCheck(self.vocabularies(), further=self.further_check())(batch)

    def _checked(self, x: Any, training: bool = False) -> Any:
        needs_negatives = training and self.one_row_is_nothing
        return with_checked_batches(
            x,
            self.vocabularies(),
            needs_negatives,
            self.copies_batches,
            self.further_check(),
        )

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Refuses a batch with an array that nothing reads, or without one it needs."""
        check_names(inputs, self.known_arrays, self.needed_arrays)

    def _check_compiled(self) -> None:
        if self._compile_loss is not None or self._compile_metrics is not None:
            raise ValueError(
                f"{self.name} has a loss and metrics of its own; those given to "
                f"compile would not be used. Compile with an optimizer alone."
            )

    def _own_optimizer(self) -> Any:
        """Returns the optimizer without the one around it that scales the loss."""
        return getattr(self.optimizer, "inner_optimizer", self.optimizer)

    def _check_known_to_optimizer(self) -> None:
        """Refuses weights that were made or thawed after the optimizer was built."""
        optimizer = self._own_optimizer()
        known = {id(v) for v in getattr(optimizer, "_trainable_variables", ())}
        new = [v.path for v in self.trainable_variables if id(v) not in known]
        if known and new:
            raise ValueError(
                f"{len(new)} weights are trained that the optimizer does not know, "
                f"such as {new[0]}: they came, by LoRA or by thawing, after it had "
                f"begun. Compile again, with a new optimizer."
            )

    # === Forward ===
    def in_chunks(
        self,
        function: Any,
        rows: dict[str, Any],
        chunk_size: int | None,
        training: bool | None,
        tower: Any = None,
        samples_of_row: int = 1,
    ) -> Any:
        """Runs a function over a batch, chunk by chunk if it is larger than a chunk.

        Args:
            function: from arrays by name to a nest of arrays with the same rows, or
                with one row a chunk. Of each chunk it takes the stochastic depth by
                `take_drop_path`.
            rows: arrays by name, cut along their first axis.
            chunk_size: rows of a chunk, over all devices; None for all.
            training: as of `call`.
            tower: whose stochastic depth is drawn; None for none.
            samples_of_row: how many samples of a row the tower reads.

        Returns:
            What the function returns for all rows.
        """
        first = next(iter(rows.values()))
        chunks = 1
        # A KerasTensor: Keras looks at shapes alone.
        if chunk_size is not None and not isinstance(first, keras.KerasTensor):
            known = first.shape[0]
            chunks = num_chunks(known, chunk_size, num_replicas(), bool(training))
        if chunks == 1:
            return function(rows)
        if training and tower is not None:
            add_drop_path(rows, tower, first.shape[0] * samples_of_row)
        results = map_chunks(function, rows, chunks)
        return keras.tree.map_structure(merge_rows, results)

    def embed(
        self,
        tower: Any,
        rows: dict[str, Any],
        chunk_size: int | None,
        training: bool | None,
    ) -> Any:
        """Returns a tower's embeddings of unit length `(batch, channels)`, float32.

        Args:
            tower: a vision or a text encoder.
            rows: `images` or `token_ids`; with images also `kept_patches`.
            chunk_size: as of `in_chunks`.
            training: as of `call`.
        """

        def encode(chunk: dict[str, Any]) -> Any:
            factors = take_drop_path(chunk)
            first, *rest = (chunk[name] for name in rows)
            options = {"drop_path_factors": factors, "training": training}
            return l2_normalize(tower(first, *rest, **options))

        return self.in_chunks(encode, dict(rows), chunk_size, training, tower)

    # === Loss ===
    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        self._check_compiled()
        check_unlabelled(y, sample_weight)
        if training:
            check_precision(self.trainable_variables)
            if self.one_row_is_nothing:
                check_negatives(x["images"].shape[0])
        rows = ops.shape(x["images"])[0]
        total: Any = 0.0
        for term in self.terms(x, y_pred):
            term.metric.record(term.value, rows, training)
            if term.weight is not None:
                total = total + term.weight * term.value
        for added in self.losses:  # by `add_loss`, or of a regulariser
            total = total + ops.sum(ops.cast(added, total.dtype))
        return total * replica_loss_scale()

    # === Saving ===
    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": keras.saving.serialize_keras_object(self.model),
            **{option: getattr(self, option) for option in self.chunk_options},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        config = {
            key: keras.saving.deserialize_keras_object(value)
            if isinstance(value, dict) and "registered_name" in value
            else value
            for key, value in config.items()
        }
        return cls(**config)


def add_drop_path(rows: dict[str, Any], tower: Any, batch: int) -> None:
    """Adds a tower's stochastic-depth factors to arrays that are cut by rows."""
    factors = tower.draw_drop_path(batch)  # (blocks, 2, batch, 1, 1)
    if factors is not None:
        rows["drop_path"] = ops.transpose(factors, (2, 0, 1, 3, 4))


def take_drop_path(chunk: dict[str, Any]) -> Any:
    """Returns a chunk's stochastic-depth factors in the blocks' layout, or None."""
    factors = chunk.get("drop_path")
    return None if factors is None else ops.transpose(factors, (1, 2, 0, 3, 4))


def loss_rows(chunk_size: int) -> int:
    """Returns the rows of a loss matrix that this replica holds at once."""
    return max(chunk_size // num_replicas(), 1)


def training_policy(model: keras.Model) -> str:
    """Returns the name of the dtype policy that a model is trained under."""
    names = [tower.dtype_policy.name for tower in model.towers().values()]
    return "mixed_float16" if "mixed_float16" in names else names[0]


def check_precision(weights: Iterable[Any]) -> None:
    """Refuses to train weights that would lose most updates to rounding."""
    low = {v.path: v.dtype for v in weights if v.dtype in LOW_PRECISION}
    if low:
        first = min(low)
        raise ValueError(
            f"Weights in {low[first]} can't be trained: {len(low)} of them, such "
            f"as {first}, would lose most updates, which are smaller than their "
            f'last digit. Build or load the model with dtype="mixed_bfloat16".'
        )


# === Metrics ===
class Latest(keras.metrics.Metric):
    """Holds the last value it was given, or the mean of the values of an evaluation.

    A training step changes the model, so the last value is what describes it. In an
    evaluation all batches describe one model, and each counts with its rows.

    Args:
        name: name in the logs.

    Example:
        >>> metric = Latest("logit_scale")
        >>> metric.update_state(3.0); metric.update_state(4.0); float(metric.result())
        4.0
        >>> metric.reset_state()
        >>> metric.add(3.0, rows=30); metric.add(4.0, rows=10); float(metric.result())
        3.25
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        # Not "sum", Keras' default: replicas of TensorFlow assign old value + new, and
        # the sum over replicas of that counts the old value several times.
        self.total, self.count = (
            self.add_variable(
                shape=(), initializer="zeros", aggregation="mean", name=name
            )
            for name in ("total", "count")
        )

    def update_state(self, value: Any, sample_weight: Any = None) -> None:
        """Takes the value of a training step in place of those before."""
        value = ops.convert_to_tensor(value, self.total.dtype)
        self.total.assign(ops.stop_gradient(value))
        self.count.assign(ops.ones_like(value))

    def add(self, value: Any, rows: Any) -> None:
        """Adds the value of an evaluation's batch, which counts with its rows."""
        value = ops.convert_to_tensor(value, self.total.dtype)
        rows = ops.cast(rows, self.total.dtype)
        self.total.assign_add(ops.stop_gradient(value) * rows)
        self.count.assign_add(rows)

    def record(self, value: Any, rows: Any, training: bool) -> None:
        """Takes a training step's value, or adds that of an evaluation's batch."""
        if training:
            self.update_state(value)
        else:
            self.add(value, rows)

    def result(self) -> Any:
        count = ops.convert_to_tensor(self.count)
        return ops.convert_to_tensor(self.total) / ops.maximum(count, 1.0)
