"""A small contrastive training under a `keras.distribution`, for programs here."""

from typing import Any

import jax
import keras
import numpy as np

from keras_pe import PECore, PESpatial
from keras_pe.layers.initializers import without_allocation
from keras_pe.training.devices.sharding import data_parallel, sharded_parameters
from keras_pe.training.optimizers.lamb import Lamb
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from keras_pe.training.trainers.spatial_trainer import SpatialAlignmentTrainer
from tests import small_models
from tests.training.programs.small_training import Masks

STEPS, BATCH = 4, 16
SMALL = 256  # weights of the small model are cut from this size on


class Losses(keras.callbacks.Callback):
    """Keeps the loss of every step."""

    def __init__(self, name: str = "contrastive_loss") -> None:
        super().__init__()
        self.name = name
        self.values: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.values.append(float(logs[self.name]))


def batches() -> Any:
    """Yields this process' rows of each batch."""
    rows = BATCH // jax.process_count()
    own = slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)
    for step in range(STEPS):
        rng = np.random.default_rng(step)
        images = rng.uniform(-1, 1, (BATCH, 32, 32, 3)).astype("float32")
        ids = small_models.token_ids(BATCH)
        ids[:, 1] = rng.permutation(500)[:BATCH] + 1
        yield ({"images": images[own], "token_ids": ids[own]},)


def small_model() -> Any:
    """Returns an untrained model; shallow, for each training is compiled anew."""
    towers = (
        small_models.vision_encoder(num_layers=1),
        small_models.text_encoder(num_layers=1),
    )
    return PECore(*towers)


def sharded(devices: Any = None, pieces: int | None = None) -> Any:
    """Returns the distribution that cuts the small model's weights."""
    with without_allocation():
        variables = small_model().variables
    return sharded_parameters(variables, devices, pieces, minimum_size=SMALL)


def train(distribution: Any, **options: Any) -> tuple[list[float], Any]:
    """Returns the losses of a training from scratch, and the trainer."""
    keras.utils.set_random_seed(0)
    keras.distribution.set_distribution(distribution)
    trainer = ContrastiveTrainer(small_model(), **options)
    trainer.compile(Lamb(0.01, weight_decay=0.05))
    losses = Losses()
    trainer.fit(batches(), steps_per_epoch=STEPS, verbose=0, callbacks=[losses])
    keras.distribution.set_distribution(None)
    return losses.values, trainer


# === Spatial alignment ===
def aligning_trainer(**options: Any) -> Any:
    """Returns a trainer of a small encoder, its earlier state the teacher."""
    core = small_models.vision_encoder(num_layers=1)
    student = PESpatial.from_core(core, drop_path=0.0)
    return SpatialAlignmentTrainer(student, core, 1, **options)


def align(distribution: Any, **options: Any) -> tuple[list[float], Any]:
    """Returns the losses of an alignment from equal weights, and the trainer."""
    keras.utils.set_random_seed(0)
    keras.distribution.set_distribution(distribution)
    trainer = aligning_trainer(**options)
    trainer.compile(Lamb(0.01, weight_decay=0.05))
    losses = Losses("loss")
    batches = ((batch,) for batch in list(Masks(STEPS, BATCH)))
    trainer.fit(batches, steps_per_epoch=STEPS, verbose=0, callbacks=[losses])
    keras.distribution.set_distribution(None)
    return losses.values, trainer


def cut_alignment(pieces: int) -> Any:
    """Returns the distribution that cuts the weights of student and teacher."""
    with without_allocation():
        variables = aligning_trainer().variables
    return sharded_parameters(variables, None, pieces, minimum_size=SMALL)


__all__ = [
    "BATCH",
    "SMALL",
    "align",
    "aligning_trainer",
    "cut_alignment",
    "data_parallel",
    "sharded",
    "train",
]
