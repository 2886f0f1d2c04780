"""Trains with a watching optimizer on one and on two replicas; prints both as JSON."""

import json
import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()],
)

import keras  # noqa: E402
import numpy as np  # noqa: E402

from keras_pe.training.optimizers.lamb import WatchedLamb  # noqa: E402


def run(strategy):
    """Returns norms, verdicts and weights of two sound steps and a broken one."""
    rng = np.random.default_rng(0)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(WatchedLamb(0.05, global_clipnorm=0.5), "mse", jit_compile=False)
    found = {"norms": [], "first": []}
    for step in range(3):
        x = rng.normal(size=(8, 3)).astype("float32")
        if step == 2:
            before = model.get_weights()
            x[-1, 0] = np.nan  # in the half of the second replica
        data = tf.data.Dataset.from_tensors((x, x[:, :2])).unbatch().batch(8)
        model.fit(data, verbose=0)
        found["first"].append(int(model.optimizer.first_non_finite.numpy()))
        if step < 2:
            found["norms"].append(float(model.optimizer.gradient_norm.numpy()))
    after = model.get_weights()
    found["unchanged"] = (
        all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        and int(model.optimizer.iterations.numpy()) == 2
    )
    found["weights"] = np.concatenate([w.ravel() for w in after]).tolist()
    return found


if __name__ == "__main__":
    single = run(tf.distribute.get_strategy())
    mirrored = run(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    print(json.dumps([single, mirrored]))
