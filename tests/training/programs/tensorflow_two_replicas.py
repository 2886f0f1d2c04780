"""Trains on TensorFlow over two logical CPU devices; writes what came out.

Run:      python -m tests.training.programs.tensorflow_two_replicas results.npz
"""

import json
import os
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_pe.training.devices.distribution import (
    cross_replica_gather,
    num_replicas,
    replica_loss_scale,
    static_batches,
)
from keras_pe.training.trainers.base import BaseTrainer, Latest, Term
from tests import small_models
from tests.training.programs.mirrored_watch import watched_steps
from tests.training.programs.small_training import (
    ALIGNED,
    CLAMPED,
    AlignmentLogs,
    Batches,
    Logs,
    Masks,
    Pairs,
    Recorder,
    aligning_trainer,
    build_trainer,
    clamped_trainer,
    weights,
)

results: dict[str, Any] = {}
ONE = tf.distribute.get_strategy()


def trains_on(strategy: Any) -> None:
    """Two replicas need a graph. What one gives is compared by value: it needs none."""
    tf.config.run_functions_eagerly(strategy is ONE)


def train(name: str, strategy: Any, gather: Any, scale: Any, data: Any) -> None:
    recorder = Recorder()
    trains_on(strategy)
    with strategy.scope():
        trainer = build_trainer(gather, scale)
    history = trainer.fit(data, shuffle=False, verbose=0, callbacks=[recorder])
    results[f"{name}/losses"] = recorder.losses
    results[f"{name}/logged"] = history.history["loss"]
    results[f"{name}/weights"] = weights(trainer)


def clamped(count: str, strategy: Any) -> None:
    """The library's trainer: its logs, means of an evaluation, and what is left."""
    trains_on(strategy)
    for name, options in CLAMPED.items():
        batches = static_batches(list(Pairs(2)), strategy)
        logs = Logs()
        with strategy.scope():
            trainer = clamped_trainer(**options)
        trainer.fit(batches, verbose=0, callbacks=[logs])
        results[f"{count}/{name}/logs"] = logs.steps
        results[f"{count}/{name}/scale"] = trainer.model.logit_scale.numpy()
        results[f"{count}/{name}/weights"] = weights(trainer)
        found = trainer.evaluate(batches, verbose=0, return_dict=True)
        results[f"{count}/{name}/evaluated"] = list(found.values())


def alignment(name: str, strategy: Any, **options: Any) -> None:
    """Spatial alignment: both losses of each step, and what is left."""
    trains_on(strategy)
    logs = AlignmentLogs()
    with strategy.scope():
        trainer = aligning_trainer(**options)
    batches = static_batches(list(Masks(3)), strategy)
    trainer.fit(batches, verbose=0, callbacks=[logs])
    results[f"{name}/logs"] = logs.steps
    results[f"{name}/weights"] = weights(trainer)


def gather_without_gradient() -> Any:
    gather = cross_replica_gather()
    if gather is None:
        return None
    index = tf.distribute.get_replica_context().replica_id_in_sync_group

    def rows(x: Any) -> Any:
        others = tf.split(tf.stop_gradient(gather(x)), num_replicas())
        return tf.concat(
            [tf.where(index == k, x, part) for k, part in enumerate(others)], axis=0
        )

    return rows


def gathered_rows(strategy: Any) -> None:
    """Rows and gradients of single gathers, where the right answer is known."""

    @tf.function
    def step() -> Any:
        gather = cross_replica_gather()
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        x = tf.fill((2, 3), tf.cast(index, "float32"))
        with tf.GradientTape() as tape:
            tape.watch(x)
            rows = gather(x)  # (4, 3)
            # Replica p weighs row r by (p + 1) * 10 ** r.
            factors = tf.constant([[1.0], [10.0], [100.0], [1000.0]])
            total = tf.reduce_sum(rows * factors) * (tf.cast(index, "float32") + 1.0)
        assert rows.shape == (4, 3)
        ids = gather(tf.range(2) + 10 * index)
        flags = gather(tf.stack([index == 0, True]))
        return ids, flags, rows, tape.gradient(total, x)

    names = ("ids", "bool", "rows", "gradients")
    for name, values in zip(names, strategy.run(step), strict=True):
        local = strategy.experimental_local_results(values)
        results[f"gather/{name}"] = np.stack([value.numpy() for value in local])
    results["outside"] = cross_replica_gather() is None and replica_loss_scale() == 1.0


class RowsSeen(keras.Model):
    """Adds up, for each replica, which rows it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = self.add_weight(shape=(), name="weight")
        self.seen: dict[int, list[int]] = {0: [], 1: []}
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return ops.cast(inputs["ids"], "float32") * self.weight

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_):
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        if not isinstance(x["ids"], keras.KerasTensor):
            tf.py_function(self.see, [index, x["ids"]], [])
        gathered = cross_replica_gather()(x["ids"])
        return ops.mean(y_pred) + 0.0 * ops.cast(ops.sum(gathered), "float32")

    def see(self, index: Any, ids: Any) -> None:
        self.seen[int(index)].extend(ids.numpy().tolist())


def rows_of_sources(strategy: Any) -> None:
    """Which rows each replica gets from each kind of data that `fit` takes."""
    import grain

    ids = np.arange(12, dtype="int32")
    batches = [{"ids": ids[k : k + 4]} for k in (0, 4, 8)]
    rows = [{"ids": number} for number in ids]
    sources: dict[str, Any] = {
        "arrays": {"ids": ids},
        "tf_data": tf.data.Dataset.from_tensor_slices({"ids": ids}).batch(4),
        "py_dataset": Listed(batches),
        "grain": grain.MapDataset.source(rows).batch(4),
        "static_batches": static_batches(batches, strategy),
    }
    model = rows_seen(strategy)
    for name, source in sources.items():
        model.seen = {0: [], 1: []}
        options = {"batch_size": 4} if name == "arrays" else {}
        model.fit(source, shuffle=False, verbose=0, **options)
        results[f"rows/{name}"] = np.array([model.seen[0], model.seen[1]])


class Listed(keras.utils.PyDataset):
    """A list of batches."""

    def __init__(self, batches: list) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]


def rows_seen(strategy: Any) -> RowsSeen:
    with strategy.scope():
        model = RowsSeen()
        model.compile(keras.optimizers.SGD(0.0))
    return model


def aligned(array: np.ndarray) -> np.ndarray:
    """Returns a copy where TensorFlow shares an array's memory: at 64 bytes."""
    memory = np.empty(array.nbytes + 64, "uint8")
    begin = -memory.ctypes.data % 64
    copy = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[:] = array
    return copy


class PatchTrainer(BaseTrainer):
    """A small trainer, of one block and no loss worth it: each kind of data is traced.

    The loss is the mean of the patches.
    """

    known_arrays = ("images",)
    logged_terms = ("mean",)

    def __init__(self) -> None:
        super().__init__(small_models.vision_encoder(num_layers=1), "patch_trainer")
        self.mean = Latest("mean")
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.model.layer_tokens(inputs["images"], [1], training=training)[0]

    def terms(self, x: Any, y_pred: Any) -> Any:
        yield Term(self.mean, ops.mean(y_pred), 1.0)


def arrays_are_kept(strategy: Any) -> None:
    """Whether the arrays of each kind of data are what they were before."""
    import grain
    import torch

    images = [batch["images"] for batch in list(Pairs(2))]
    given = [{"images": aligned(x)} for x in images]
    with strategy.scope():
        trainer = PatchTrainer()
        trainer.compile(keras.optimizers.SGD(1e-3))

    def tensors() -> Any:
        spec = {k: tf.TensorSpec(x.shape, x.dtype) for k, x in given[0].items()}
        return tf.data.Dataset.from_generator(lambda: given, output_signature=spec)

    def in_torch(batch: Any) -> Any:
        return {k: torch.from_numpy(x) for k, x in batch.items()}

    sources: dict[str, Any] = {
        "generator": lambda: (batch for batch in given),
        "py_dataset": lambda: Listed(given),
        "tf_data": lambda: tensors().repeat(2).take(2),
        "static_batches": lambda: static_batches(given, strategy),
        "grain": lambda: grain.MapDataset.source(given),
        "data_loader": lambda: torch.utils.data.DataLoader(
            [in_torch(batch) for batch in given], batch_size=None
        ),
    }
    for name, source in sources.items():
        trainer.fit(source(), shuffle=False, verbose=0)
        if name in ("generator", "static_batches"):
            trainer.evaluate(source(), verbose=0)
        results[f"kept/{name}"] = all(
            np.array_equal(batch["images"], image)
            for batch, image in zip(given, images, strict=True)
        )


def errors(strategy: Any) -> None:
    ids = np.arange(7, dtype="int32")
    try:
        rows_seen(strategy).fit({"ids": ids}, batch_size=4, shuffle=False, verbose=0)
    except tf.errors.InvalidArgumentError as error:
        results["error/uneven_rows"] = str(error)
    cases = {"odd_batch": [{"ids": ids}], "once": iter([{"ids": ids}]), "empty": []}
    for name, data in cases.items():
        try:
            static_batches(data, strategy)
        except ValueError as error:
            results[f"error/{name}"] = str(error)


def main(output: str) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    # Most of the time goes into making graphs: a quarter of that is optimising them.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    right = (cross_replica_gather, replica_loss_scale)
    gathered_rows(strategy)
    train("single", ONE, *right, Batches())
    batches = static_batches(list(Batches()), strategy)
    train("distributed", strategy, *right, batches)
    train("no_gradient", strategy, gather_without_gradient, replica_loss_scale, batches)
    train("no_division", strategy, cross_replica_gather, lambda: 1.0, batches)
    clamped("one", ONE)
    clamped("two", strategy)
    alignment("one/aligned", ONE)
    for name, options in ALIGNED.items():
        alignment(f"two/aligned_{name}", strategy, **options)
    watched = []
    for each in (ONE, strategy):
        trains_on(each)
        watched.append(watched_steps(each))
    results["watched"] = json.dumps(watched)
    rows_of_sources(strategy)
    arrays_are_kept(strategy)
    errors(strategy)
    np.savez(output, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
    # A replica that failed has left the other one's threads waiting: TensorFlow would
    # wait for them, sometimes for ever.
    os._exit(0)
