"""Measures the mean of features anew when the encoder has changed."""

import itertools
import types
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe.finetuning.classifier_model import ClassifierModel
from keras_pe.models.checked_model import sync_state
from keras_pe.models.compiled import run_compiled

BATCHES = 16  # that are measured


class Recentre(keras.callbacks.Callback):
    """Gives the head the mean of the features as it is now, before it is judged.

    The moving average of training lags behind an encoder that moves: by its numbers a
    model that has learned looks as if it had learned nothing.

    Args:
        batches: gives batches of training images.

    Source: Wu and Johnson 2021, 'Rethinking "Batch" in BatchNorm', section 3
        ("precise" statistics).
    """

    def __init__(self, batches: Callable[[], Iterable[np.ndarray]]) -> None:
        super().__init__()
        self.batches = batches

    def on_test_begin(self, logs: Any = None) -> None:
        sync_state(self.model)
        self.measure(self.model)

    def measure(self, model: ClassifierModel) -> None:
        """Sets the mean of a model's head."""
        method = types.MethodType(ClassifierModel.features, model)
        found = [
            ops.convert_to_numpy(
                run_compiled(model, "features", method, ops.convert_to_tensor(images))
            ).astype("float64")
            for images in itertools.islice(self.batches(), BATCHES)
        ]
        mean = np.concatenate(found).mean(axis=0)
        model.head.mean.assign(mean.astype("float32"))
