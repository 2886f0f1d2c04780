"""Trains a classifier on images, up to the epoch that is best."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import NonFiniteError
from keras_pe.finetuning.given_data import GivenData, ImageList
from keras_pe.models.checked_model import sync_state
from keras_pe.models.compiled import padded_batch
from keras_pe.preprocessing.image import PEImageConverter

THREADS = 4


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how fast is trained.

    Attributes:
        epochs: at most so many.
        learning_rate: its peak; it rises for a tenth of the steps of an epoch and falls
            to zero as a cosine.
        weight_decay: of AdamW, on matrices.
        patience: epochs without a better validation loss after which training ends.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    patience: int


class BestEpoch(keras.callbacks.Callback):
    """Keeps the trained weights of the epoch of least validation loss; stops early.

    Keras' `EarlyStopping` would copy the frozen ones too.

    Args:
        patience: epochs without a better one after which training ends.
        judged: whether there are validation data; without, the last epoch counts.
        loss_before: validation loss before the first epoch, which counts as epoch 0.
    """

    def __init__(
        self, patience: int, judged: bool, loss_before: float | None = None
    ) -> None:
        super().__init__()
        self.patience, self.judged = patience, judged
        self.best = 0
        self.best_loss = math.inf if loss_before is None else loss_before
        self.weights: list[np.ndarray] = []
        self.logs: list[dict[str, float]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self._keep()

    def _keep(self) -> None:
        sync_state(self.model)
        changing = _changing(self.model)
        self.weights = [np.array(ops.convert_to_numpy(v)) for v in changing]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        found = {name: float(value) for name, value in (logs or {}).items()}
        found.pop("learning_rate", None)
        self.logs.append(found)
        bad = [name for name, value in found.items() if not math.isfinite(value)]
        if bad:
            raise NonFiniteError(
                f"{bad[0]} of epoch {epoch + 1} is {found[bad[0]]}. Train with a "
                f"smaller learning_rate, and look for images that are all of one value."
            )
        loss = found["val_loss"] if self.judged else -epoch
        if loss < self.best_loss:
            self.best, self.best_loss = epoch + 1, loss
            self._keep()
        elif epoch + 1 - self.best >= self.patience:
            self.model.stop_training = True

    def restore(self, model: keras.Model) -> None:
        """Gives a model the weights of the best epoch, after `fit`."""
        for variable, value in zip(_changing(model), self.weights, strict=True):
            variable.assign(value)


def _changing(model: keras.Model) -> list[Any]:
    """Returns what a training changes: weights, and the head's moving averages."""
    head = getattr(model, "head", None)
    followed = [] if head is None else head.non_trainable_variables
    return [*model.trainable_variables, *followed]


def train(
    model: keras.Model,
    batches: Any,
    steps: int,
    validation: Any,
    schedule: Schedule,
    progress: bool,
    callbacks: Sequence[Any] = (),
    loss_before: float | None = None,
    **options: Any,
) -> BestEpoch:
    """Trains until the validation loss falls no more; keeps the best epoch.

    Args:
        model: from inputs to logits.
        batches: (inputs, class numbers).
        steps: batches an epoch.
        validation: as well; None has the last epoch count.
        schedule: how long and how fast.
        progress: whether Keras' bars are shown.
        callbacks: further ones of Keras.
        loss_before: validation loss before training.
        options: of `fit`.

    Returns:
        What `BestEpoch` saw.

    Raises:
        NonFiniteError: if a loss is none; the model has the best weights until then.
    """
    total = schedule.epochs * steps
    warmup = min(steps, max(1, total // 10))
    rate = keras.optimizers.schedules.CosineDecay(
        schedule.learning_rate / warmup,
        max(total - warmup, 1),
        warmup_target=schedule.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=schedule.weight_decay, global_clipnorm=1.0
    )
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "beta", "gamma", "embedding", "token", "scale", "query"]
    )
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    best = BestEpoch(schedule.patience, validation is not None, loss_before)
    try:
        model.fit(
            batches,
            validation_data=validation,
            epochs=schedule.epochs,
            verbose="auto" if progress else 0,
            callbacks=[best, *callbacks],
            **options,
        )
    finally:  # also where a loss is none, or the user stops it: weights stay sound
        if best.weights:
            best.restore(model)
    return best


class Rows(keras.utils.PyDataset):
    """Batches of rows that are read when they are needed, in a new order each epoch.

    Args:
        read: gives inputs and class numbers of some rows.
        count: how many rows there are.
        batch_size: rows in a batch.
        seed: of the order; None keeps the rows' own, with a short batch at the end.
            Else the last batch is filled up: one shape, one compilation.
        workers: threads that read ahead.
    """

    def __init__(
        self,
        read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
        count: int,
        batch_size: int,
        seed: int | None,
        workers: int = 1,
    ) -> None:
        super().__init__(workers=workers)
        self.read, self.count = read, count
        self.batch_size = min(batch_size, count)
        self.rng = None if seed is None else np.random.default_rng(seed)
        self.order = np.arange(count)
        self._shuffle()

    def _shuffle(self) -> None:
        if self.rng is not None:
            order = self.rng.permutation(self.count)
            self.order = np.resize(order, len(self) * self.batch_size)

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch_size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        start = number * self.batch_size
        return self.read(self.order[start : start + self.batch_size])

    def on_epoch_end(self) -> None:
        self._shuffle()


def image_batches(
    data: GivenData,
    converter: PEImageConverter,
    batch_size: int,
    seed: int | None,
) -> Any:
    """Returns batches of images for `fit`, of a stream without end.

    Args:
        data: what there is.
        converter: prepares the images.
        batch_size: images in a batch.
        seed: of the order, of a list alone; None keeps it.
    """
    if isinstance(data, ImageList):

        def read(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            with ThreadPoolExecutor(THREADS) as pool:
                images = list(
                    pool.map(converter.convert, (data.images[row] for row in rows))
                )
            return np.stack(images), data.labels[rows]

        return Rows(read, len(data.images), batch_size, seed, workers=2)

    def forever() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            yield from data.batches(converter, batch_size)

    return forever()


def some_images(
    data: GivenData, converter: PEImageConverter, batch_size: int
) -> Iterator[np.ndarray]:
    """Yields batches of images of one size, those of a list from all over it."""
    if isinstance(data, ImageList):
        order = np.random.default_rng(0).permutation(len(data.images))
        data = data.rows(order)
    for images, _ in data.batches(converter, batch_size):
        yield images if len(images) == batch_size else padded_batch(images, batch_size)
