"""One pass of a frozen encoder over the data, and the layer that suits them best."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pe.finetuning.class_features import LayerFeatures
from keras_pe.finetuning.class_labels import check_every_class, stratified_rows
from keras_pe.finetuning.given_data import GivenData
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.probing.feature_store import (
    TARGETS,
    FeatureStore,
    Samples,
)
from keras_pe.probing.layer_outputs import LayerOutputs
from keras_pe.probing.ridge import Ridge
from keras_pe.probing.sweep_layers import (
    column,
    probe_layer,
    run_encoder,
)
from keras_pe.probing.sweep_summary import LayerOutcome, best_place


@dataclasses.dataclass(frozen=True)
class FeaturePass:
    """Features of training and validation images, on the disk.

    Attributes:
        store: holds them.
        layers: which are there, ascending.
        train: rows of the training images.
        validation: rows of the validation images; none if nothing is validated.
        labels: of all rows.
        from_data: how many rows are of the training data, the validation share
            included.
    """

    store: FeatureStore
    layers: tuple[int, ...]
    train: np.ndarray
    validation: np.ndarray
    labels: np.ndarray
    from_data: int

    def samples(self, layer: int, rows: np.ndarray) -> Samples:
        """Returns the features of a layer."""
        return Samples(self.store, column(layer), rows)


def run_feature_pass(
    store: FeatureStore,
    encoder: PEVisionEncoder,
    layers: Sequence[int],
    data: GivenData,
    validation: GivenData | None,
    validation_share: float,
    class_names: Sequence[str],
    converter: PEImageConverter,
    batch_size: int,
    seed: int,
    progress: bool,
) -> FeaturePass:
    """Runs the encoder once over all images.

    Raises:
        ValueError: if a class has no training image, or nothing is left to validate on.
        NonFiniteError: naming layer and image of the first NaN.
    """
    outputs = LayerOutputs(LayerFeatures(encoder, layers))
    outputs.names = tuple(layers)  # or it would call the model once to learn them
    counts = [
        run_encoder(
            outputs,
            Ridge(),
            "average",  # they are vectors already
            functools.partial(given.batches, converter, batch_size),
            store,
            batch_size,
            None,
            progress,
        )
        for given in (data, validation)
        if given is not None
    ]
    labels = store.read(TARGETS, 0, sum(counts))
    train = np.arange(counts[0])
    held = np.arange(counts[0], sum(counts))
    if validation is None and validation_share:
        train, held = stratified_rows(labels, validation_share, seed)
        if not len(held):
            raise ValueError(
                f"validation_share={validation_share:g} of {counts[0]} images in "
                f"{len(class_names)} classes leaves none to validate on. Give "
                f"validation_data, a larger share, or 0 for no validation."
            )
    check_every_class(labels[train], class_names)
    return FeaturePass(store, tuple(layers), train, held, labels, counts[0])


def best_layer(passed: FeaturePass, seed: int) -> tuple[int, dict[int, float]]:
    """Returns the layer that a sweep's ridge probe chooses, and the score of each.

    Each layer is fitted on the training images; the validation images choose the
    regulariser and the layer, of equals the first.

    Returns:
        Its number, and the accuracy of each layer on the validation images.

    Raises:
        ValueError: without validation images.
    """
    if not len(passed.validation):
        raise ValueError(
            'layers="auto" is decided by validation images, and there are none. Give '
            "validation_data or a validation_share, or say the layer."
        )
    probe, outcomes = Ridge(), list[LayerOutcome]()
    part: Any = (passed.train, passed.validation, passed.validation)
    for layer in passed.layers:
        outcomes.append(probe_layer(probe, passed.store, layer, [part], [seed])[0])
    scores = [outcome.validation_score for outcome in outcomes]
    best = best_place(probe, passed.layers, outcomes)
    return passed.layers[best], dict(zip(passed.layers, scores, strict=True))
