"""A small contrastive training, the same in every program of this directory."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe import PECore, PESpatial
from keras_pe.training.trainers.base import Latest
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from keras_pe.training.trainers.spatial_trainer import SpatialAlignmentTrainer
from tests import small_models

STEPS = 6
BATCH = 8


class SmallTowers(keras.Model):
    """Two towers of a layer each: what is tested is how rows and gradients travel.

    Each training is traced anew. The library's own trainers below have real towers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.of_images = keras.layers.Dense(16, name="of_images")
        self.of_words = keras.layers.Dense(16, name="of_words")
        self.of_images.build((None, 48))
        self.of_words.build((None, 600))
        self.logit_scale = self.add_weight(shape=(), name="logit_scale")
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        pixels = ops.reshape(inputs["images"][:, ::8, ::8], (-1, 48))
        words = ops.mean(ops.one_hot(inputs["token_ids"], 600), axis=1)
        return {
            "image_embeddings": ops.normalize(self.of_images(pixels)),
            "text_embeddings": ops.normalize(self.of_words(words)),
        }


class SmallTrainer(keras.Model):
    """Contrastive training, told how to gather and to scale its loss.

    The logit scale is read in the loss, outside the replicated forward pass.
    """

    def __init__(self, model: Any, gather: Callable, loss_scale: Callable) -> None:
        super().__init__()
        self.model = model
        self.gather = gather  # () -> function of rows, or None
        self.loss_scale = loss_scale
        self.step_loss = Latest("step_loss")
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.model(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_):
        scale = ops.exp(ops.convert_to_tensor(self.model.logit_scale))
        loss = local_share(**y_pred, scale=scale, ids=x["ids"], gather=self.gather())
        self.step_loss.update_state(loss)
        return loss * self.loss_scale()


def local_share(image_embeddings, text_embeddings, scale, ids, gather):
    """Contrastive loss of these rows against all rows, found by their numbers."""
    rows = gather or (lambda x: x)
    matching = ops.expand_dims(ids, 1) == rows(ids)  # (local_batch, global_batch)
    total = 0.0
    for own, other in (
        (image_embeddings, text_embeddings),
        (text_embeddings, image_embeddings),
    ):
        logits = scale * ops.matmul(own, ops.transpose(rows(other)))
        picked = ops.sum(ops.where(matching, logits, 0.0), axis=1)
        total = total + ops.mean(ops.logsumexp(logits, axis=1) - picked)
    return 0.5 * total


class Recorder(keras.callbacks.Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(float(logs["step_loss"]))


class Batches(keras.utils.PyDataset):
    """Whole batches of noise; row numbers are the captions' identity."""

    def __init__(self, steps: int = STEPS, batch: int = BATCH) -> None:
        super().__init__()
        self.steps, self.batch = steps, batch

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        count = self.steps * self.batch
        rows = slice(index * self.batch, (index + 1) * self.batch)
        return {
            "images": small_models.images(count)[rows],
            "token_ids": small_models.token_ids(count)[rows],
            "ids": np.arange(count, dtype="int32")[rows],
        }


def build_trainer(
    gather: Callable, loss_scale: Callable, seed: int = 0, **clipping: Any
) -> SmallTrainer:
    """Returns a trainer with the same weights whatever was drawn before.

    SGD: Adam would hide a gradient of the wrong size.
    """
    model = small_models.perturb(SmallTowers(), seed)
    trainer = SmallTrainer(model, gather, loss_scale)
    trainer.compile(keras.optimizers.SGD(0.1, **clipping))
    return trainer


def weights(trainer: SmallTrainer) -> np.ndarray:
    """Returns all trainable weights, one after another."""
    values = [ops.convert_to_numpy(w).ravel() for w in trainer.trainable_weights]
    return np.concatenate(values)


# === The library's own trainer, from a logit scale above its limit ===
class Pairs(Batches):
    """The same batches for `ContrastiveTrainer`."""

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        batch = super().__getitem__(index)
        return {name: batch[name] for name in ("images", "token_ids")}


class Logs(keras.callbacks.Callback):
    """Keeps loss and logit scale of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[float, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.append((float(logs["contrastive_loss"]), float(logs["logit_scale"])))


# The loss as a whole, and in chunks of rows over all devices.
CLAMPED = {"plain": {}, "chunked": {"loss_chunk_size": BATCH // 2}}


def clamped_trainer(**options: Any) -> ContrastiveTrainer:
    """Returns a trainer whose scale is 120, of at most 100, with averaged weights.

    The average takes in the first update before it is clamped.
    """
    towers = (
        small_models.vision_encoder(num_layers=1),
        small_models.text_encoder(num_layers=1),
    )
    model = small_models.perturb(PECore(*towers))
    model.logit_scale.assign(math.log(120.0))
    trainer = ContrastiveTrainer(model, **options)
    trainer.compile(keras.optimizers.SGD(1e-3, use_ema=True, ema_momentum=0.5))
    return trainer


# === Spatial alignment, to an inner layer of the encoder as it was and to masks ===
class Masks(Batches):
    """Images with the patches that are hidden, and three things to see."""

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(index)
        shape = (self.batch, 16)
        return {
            "images": super().__getitem__(index)["images"],
            "masked_patches": rng.random(shape) < 0.5,
            "mask_rows": np.eye(3, dtype="float32")[rng.integers(3, size=shape)],
        }


class AlignmentLogs(keras.callbacks.Callback):
    """Keeps both losses of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[float, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        names = ("feature_loss", "correspondence_loss")
        self.steps.append(tuple(float(logs[name]) for name in names))


# The losses as a whole, and in chunks of images and rows over all devices.
ALIGNED = {"plain": {}, "chunked": {"image_chunk_size": 4, "loss_chunk_size": 32}}


def aligning_trainer(**options: Any) -> SpatialAlignmentTrainer:
    """Returns a trainer with the same weights whatever was drawn before."""
    core = small_models.perturb(small_models.vision_encoder(num_layers=1))
    student = PESpatial.from_core(core, drop_path=0.0)
    trainer = SpatialAlignmentTrainer(student, core, 1, **options)
    trainer.mask_embedding.assign(np.linspace(-0.3, 0.3, core.hidden_dim))
    trainer.compile(keras.optimizers.SGD(0.1))
    return trainer
