"""Steps of a watching optimizer on TensorFlow, on one replica or on two."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_pe.training.optimizers.lamb import WatchedLamb


def watched_steps(strategy: Any) -> dict[str, Any]:
    """Returns norms, verdicts and weights of two sound steps and a broken one."""
    rng = np.random.default_rng(0)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(WatchedLamb(0.05, global_clipnorm=0.5), "mse", jit_compile=False)
    found: dict[str, Any] = {"norms": [], "first": []}
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
