"""Trains a small Keras head on stored features."""

import math
import types
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import NonFiniteError, check_finite, check_sizes
from keras_pe.models.compiled import no_gradient, run_compiled
from keras_pe.probing.feature_store import Samples
from keras_pe.probing.probe import Probe
from keras_pe.probing.training_settings import check_weight_decay, checked_rates

# From (targets, outputs of the head) to the mean loss of a batch.
Loss = Callable[[Any, Any], Any]


class HeadModel(keras.Model):
    """A head with its loss.

    Args:
        head: from features to outputs; built.
        loss: of a batch.
        predict: what is asked of the outputs after training, such as the arg max; runs
            on the device.
    """

    def __init__(
        self, head: keras.Model, loss: Loss, predict: Callable[[Any], Any]
    ) -> None:
        super().__init__(name="probe")
        self.head, self.head_loss, self.head_predict = head, loss, predict
        self.built = True

    def call(self, features: Any, training: bool | None = None) -> Any:
        return self.head(features, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        return self.head_loss(y, ops.cast(y_pred, "float32"))

    def answer(self, features: Any) -> tuple[Any, Any]:
        """Returns what `predict` makes of the outputs, and the outputs' sums.

        An arg max of NaN looks like any other; a sum does not.
        """
        outputs = ops.cast(self.head(features, training=False), "float32")
        sums = ops.sum(ops.reshape(outputs, (outputs.shape[0], -1)), axis=-1)
        return self.head_predict(outputs), sums


class HeadTrainer:
    """Fits heads of one shape, one after the other: they compile once.

    Args:
        build: makes a head from the shape of the features of a sample; the initial
            weights depend on Keras' random seed.
        loss: of a batch.
        predict: see `HeadModel`.
        epochs: passes over the training samples.
        batch_size: samples in a step.
        weight_decay: of AdamW, on matrices and kernels.
    """

    def __init__(
        self,
        build: Callable[[tuple[int, ...]], keras.Model],
        loss: Loss,
        predict: Callable[[Any], Any],
        epochs: int,
        batch_size: int,
        weight_decay: float,
    ) -> None:
        self.build, self.loss, self.predict = build, loss, predict
        self.epochs, self.batch_size = epochs, batch_size
        self.weight_decay = weight_decay
        self._models: dict[tuple[Any, ...], tuple[HeadModel, list[np.ndarray]]] = {}

    def choose(
        self,
        train: Samples,
        learning_rates: Sequence[float],
        seed: int,
        judge: Callable[["TrainedHead"], float],
    ) -> tuple["TrainedHead", dict[str, Any]]:
        """Fits a head at each learning rate; returns the best, and how it was made.

        Args:
            train: the training samples.
            learning_rates: peaks to choose from.
            seed: of the first weights and the order of samples.
            judge: what is better; asked after every epoch.

        Raises:
            NonFiniteError: if training ends in NaN at every one of them.
        """
        best: tuple[float, TrainedHead, dict[str, Any]] | None = None
        diverged: list[float] = []
        for rate in learning_rates:
            try:
                head, epoch, value = self.fit(train, rate, seed, judge)
            except NonFiniteError:
                diverged.append(rate)
                if len(diverged) == len(learning_rates):
                    raise
                continue
            if best is None or value > best[0]:
                best = value, head, {"learning_rate": rate, "epochs": epoch}
        assert best is not None
        return best[1], best[2]

    def fit(
        self,
        train: Samples,
        learning_rate: float,
        seed: int,
        judge: Callable[["TrainedHead"], float],
    ) -> tuple["TrainedHead", int, float]:
        """Fits a head; returns it as it was after its best epoch.

        Args:
            train: the training samples.
            learning_rate: its peak; it decays to zero as a cosine.
            seed: of the first weights and the order of samples.
            judge: what is better; asked after every epoch.

        Returns:
            The head, the epoch (from 1), and what `judge` said of it.

        Raises:
            NonFiniteError: if the first epoch leaves no numbers. Later ones end the
                training, and the best epoch before counts.
        """
        shape = train.batch(np.array([0]))[0].shape[1:]
        batch_size = min(self.batch_size, len(train))
        steps = math.ceil(len(train) / batch_size)
        model = self._fresh_model(shape, learning_rate, steps, seed)
        rng = np.random.default_rng(seed)
        best: tuple[float, int, list[np.ndarray]] | None = None
        for epoch in range(1, self.epochs + 1):
            order = rng.permutation(len(train))
            model.fit(
                HeadBatches(train, np.resize(order, steps * batch_size), batch_size),
                shuffle=False,
                verbose=0,
            )
            weights = model.get_weights()
            try:
                for variable, weight in zip(model.weights, weights, strict=True):
                    check_finite(weight, f"{variable.path} after epoch {epoch}")
                value = float(
                    check_finite(
                        judge(TrainedHead(model, weights, self.batch_size)),
                        f"validation score after epoch {epoch}",
                    )
                )
            except NonFiniteError as error:
                if best is not None:
                    break
                raise NonFiniteError(
                    f"The head's training at learning rate {learning_rate:g} ended in "
                    f"NaN or infinity. Offer a smaller one. {error}"
                ) from error
            if best is None or value > best[0]:
                best = (value, epoch, weights)
        assert best is not None
        return TrainedHead(model, best[2], self.batch_size), best[1], best[0]

    def _fresh_model(
        self, shape: tuple[int, ...], learning_rate: float, steps: int, seed: int
    ) -> HeadModel:
        """Returns an untrained model; compiled before if there was one like it."""
        key = (shape, learning_rate, steps)
        keras.utils.set_random_seed(seed)
        head = self.build(shape)
        if key not in self._models:
            model = HeadModel(head, self.loss, self.predict)
            schedule = keras.optimizers.schedules.CosineDecay(
                learning_rate, steps * self.epochs
            )
            optimizer = keras.optimizers.AdamW(schedule, weight_decay=self.weight_decay)
            optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
            model.compile(optimizer)
            optimizer.build(model.trainable_variables)
            zeros = [ops.convert_to_numpy(v) for v in optimizer.variables]
            self._models[key] = model, zeros
        model, state = self._models[key]
        model.head.set_weights(head.get_weights())
        for variable, value in zip(model.optimizer.variables, state, strict=True):
            variable.assign(value)
        return model


class TrainedHead:
    """A head with its weights, whoever else uses its model.

    Args:
        model: the head and what it answers.
        weights: its own.
        batch_size: samples at once.
    """

    def __init__(
        self, model: HeadModel, weights: list[np.ndarray], batch_size: int
    ) -> None:
        self.model, self.weights, self.batch_size = model, weights, batch_size

    def answers(self, samples: Samples) -> Any:
        """Yields (answers, targets), batch by batch, in order."""
        self.model.set_weights(self.weights)
        for start in range(0, len(samples), self.batch_size):
            positions = np.arange(start, start + self.batch_size)
            inside = positions[positions < len(samples)]
            # The last batch is filled up: one shape, one compilation.
            features, targets = samples.batch(np.minimum(positions, len(samples) - 1))
            with no_gradient():
                found, sums = run_compiled(
                    self.model,
                    "answer",
                    types.MethodType(HeadModel.answer, self.model),
                    ops.convert_to_tensor(features, dtype="float32"),
                )
            kept = len(inside)
            check_finite(
                ops.convert_to_numpy(sums)[:kept],
                "outputs of the trained head",
                "row",
                [f"sample {samples.rows[place]}" for place in inside],
            )
            yield ops.convert_to_numpy(found)[:kept], targets[:kept]


class HeadBatches(keras.utils.PyDataset):
    """The batches of an epoch, read from disk.

    Args:
        samples: the training samples.
        order: positions, a whole number of batches.
        batch_size: samples in a batch.
    """

    def __init__(self, samples: Samples, order: np.ndarray, batch_size: int) -> None:
        super().__init__()
        self.samples, self.batch_size = samples, batch_size
        self.order = order

    def __len__(self) -> int:
        return len(self.order) // self.batch_size

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        start = number * self.batch_size
        features, targets = self.samples.batch(
            self.order[start : start + self.batch_size]
        )
        return features.astype("float32"), targets


# === Probes with such a head ===
class HeadProbe(Probe):
    """A probe that trains a head; it keeps one trainer for each shape of targets.

    Args:
        learning_rates: peaks to choose from, on the validation samples.
        epochs: most passes over the training samples; their number is chosen too.
        batch_size: samples in a step.
        weight_decay: of AdamW.

    Raises:
        ValueError: naming the setting that makes no sense.
    """

    def __init__(
        self,
        learning_rates: Sequence[float] = (1e-3, 1e-2),
        epochs: int = 20,
        batch_size: int = 16,
        weight_decay: float = 1e-4,
    ) -> None:
        check_sizes(epochs=epochs, batch_size=batch_size)
        check_weight_decay(weight_decay)
        self.learning_rates = checked_rates(learning_rates)
        self.epochs, self.batch_size = epochs, batch_size
        self.weight_decay = weight_decay
        self._trainers: dict[Any, HeadTrainer] = {}

    def trainer(
        self,
        targets: Any,
        build: Callable[[tuple[int, ...]], keras.Model],
        loss: Loss,
        predict: Callable[[Any], Any],
    ) -> HeadTrainer:
        """Returns the trainer of such targets; the rest as of `HeadTrainer`."""
        settings = (self.epochs, self.batch_size, self.weight_decay)
        return self._trainers.setdefault(
            targets, HeadTrainer(build, loss, predict, *settings)
        )
