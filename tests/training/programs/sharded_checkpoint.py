"""Saves and restores a trainer whose weights are spread over two devices of JAX."""

import sys

import jax
import keras
import numpy as np

from keras_pe.training.optimizers.lamb import WatchedLamb
from keras_pe.training.run.checkpoint import RunCheckpoints, collect, restore


def trainer(seed):
    """Returns a compiled model; the kernels have one half on each device."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(4, name="wide"), keras.layers.Dense(2)]
    )
    model.compile(WatchedLamb(0.05), "mse")
    return model


def main(directory):
    mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"], jax.devices())
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*wide/kernel"] = (None, "model")
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    )
    x = np.linspace(-1, 1, 64, dtype="float32").reshape(8, 8)
    whole, stopped = trainer(0), trainer(0)
    for _ in range(4):
        whole.train_on_batch(x, x[:, :2])
    for _ in range(2):
        stopped.train_on_batch(x, x[:, :2])
    checkpoints = RunCheckpoints(directory)
    checkpoints.save(2, collect(stopped))

    resumed = trainer(7)
    restore(resumed, checkpoints.load()[0])
    kernel = resumed.layers[0].kernel.value
    assert len(kernel.sharding.device_set) == 2, kernel.sharding
    assert kernel.addressable_shards[0].data.shape == (8, 2)
    for _ in range(2):
        resumed.train_on_batch(x, x[:, :2])
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    print("same weights, sharded")


if __name__ == "__main__":
    main(sys.argv[1])
