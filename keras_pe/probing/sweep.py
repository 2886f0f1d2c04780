"""Which layer a task needs: all layers probed from one pass over the data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import keras

from keras_pe.arrays import check_sizes
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.probing.attentive import Attentive
from keras_pe.probing.correspondence import Correspondence
from keras_pe.probing.depth import Depth, DPTDepth
from keras_pe.probing.language_probe import LanguageProbe
from keras_pe.probing.layer_outputs import LayerName, LayerOutputs, Reading
from keras_pe.probing.logistic import Logistic
from keras_pe.probing.nearest_neighbours import NearestNeighbours
from keras_pe.probing.probe import Probe, TrainingFreeProbe
from keras_pe.probing.ridge import Ridge, RidgeRegression
from keras_pe.probing.segmentation import Segmentation
from keras_pe.probing.sweep_checks import check_seeds, check_shares, checked_reading
from keras_pe.probing.sweep_data import (
    SweepData,
)
from keras_pe.probing.sweep_items import list_of_items, sweep_items
from keras_pe.probing.sweep_layers import SweepSets, probed_layers
from keras_pe.probing.sweep_result import SweepResult
from keras_pe.probing.tracking import Tracking

PROBES: dict[str, type[Probe] | type[TrainingFreeProbe]] = {
    kind.name: kind
    for kind in (
        NearestNeighbours,
        Ridge,
        Logistic,
        RidgeRegression,
        Attentive,
        Segmentation,
        Depth,
        DPTDepth,
        LanguageProbe,
        Tracking,
        Correspondence,
    )
}
NUM_SHUFFLES = 5  # of the test targets, to tell what chance gives


def sweep(
    encoder: keras.Model,
    data: SweepData,
    test: SweepData | None = None,
    probe: str | Probe | TrainingFreeProbe = "ridge",
    layers: Literal["all"] | Sequence[LayerName] = "all",
    *,
    validation: SweepData | None = None,
    reading: Reading | None = None,
    norm: bool = False,
    validation_share: float = 0.2,
    test_share: float = 0.2,
    seeds: Sequence[int] = (0,),
    batch_size: int = 32,
    image_converter: PEImageConverter | None = None,
    prefix_tokens: int = 0,
    bootstrap_repeats: int = 1000,
    store_directory: str | Path | None = None,
    progress: bool = True,
) -> SweepResult:
    """Scores every layer of an encoder on a task, from one pass over the data.

    The encoder stays as it is. Features go to disk as they come, so memory does not
    grow with the data; then a probe is fitted to each layer. Its regulariser, and which
    layer is best, are chosen on validation samples; scores and their intervals are of
    test samples, which decide nothing.

    Args:
        encoder: a `PEVisionEncoder` or `PECore`, or any Keras model that returns a list
            or a dictionary of layers (`intermediate_model` makes one).
        data: training data, as `(images, targets)` or batches; `sweep_batches` says
            which kinds there are. For "tracking" and "correspondence" an iterable of
            `Clip` or `PointPairs`.
        test: test data in the same form; None keeps back a share of `data`.
        probe: "knn", "ridge", "logistic", "ridge_regression", "attentive",
            "segmentation", "depth", "dpt_depth", "language", "tracking" or
            "correspondence"; or an object with settings of its own, such as
            `Ridge(alphas=[0.1])`.
        layers: "all", or some: k is the output of block k, 0 the input of the first.
        validation: validation data in the same form; None keeps back a share of `data`.
        reading: what of a layer the probe reads; None for the probe's own default.
        norm: whether the final norm is applied to each layer.
        validation_share: share of `data` on which settings and the layer are chosen.
        test_share: share of `data` that is kept back if `test` is None.
        seeds: of the validation split and of heads that start at random; scores are
            averages over them. Trained heads set Keras' global random seed to each.
        batch_size: images a forward pass.
        image_converter: prepares images that are files or uint8; None makes one for
            a PE encoder's own size.
        prefix_tokens: tokens before the patches, where the model is none of PE's.
        bootstrap_repeats: resampled test sets for the intervals.
        store_directory: an empty directory that keeps the features; None for one that
            goes when the sweep ends.
        progress: whether progress bars are shown.

    Returns:
        A `SweepResult`: scores, best layer, plot, CSV, JSON, the truncated encoder.

    Raises:
        ValueError: if the data, a share or a name make no sense.
        NonFiniteError: if a layer gives NaN or infinity, naming layer and sample; or
            if a head's training ends in NaN, naming its learning rate.

    Source: Perception Encoder, section 3 and figure 8.

    Example:
        >>> import numpy as np
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int64")
        >>> result = sweep(encoder, (images, labels), probe="ridge", progress=False)
        >>> [row.layer for row in result.layers]
        [0, 1, 2]
    """
    probe = find_probe(probe)
    if isinstance(probe, TrainingFreeProbe):
        if test is not None or validation is not None:
            raise ValueError(
                f"The {probe.name} probe trains nothing: give all items as data. "
                f"validation_share of them choose the layer."
            )
        return sweep_items(
            LayerOutputs(encoder, layers, norm, prefix_tokens),
            probe,
            list_of_items(data),
            validation_share,
            bootstrap_repeats,
            progress,
        )
    reading = checked_reading(probe, reading)
    check_shares(validation_share, test_share if test is None else 0.0)
    check_seeds(seeds)
    check_sizes(batch_size=batch_size)
    outputs = LayerOutputs(encoder, layers, norm, prefix_tokens)
    sets = SweepSets(data, test, validation, validation_share, test_share)
    found = probed_layers(
        outputs,
        probe,
        reading,
        sets,
        seeds,
        batch_size,
        image_converter or default_converter(outputs),
        store_directory,
        progress,
    )
    found.protocol["encoder"] = encoder.name
    return found.result(bootstrap_repeats)


def default_converter(outputs: LayerOutputs) -> PEImageConverter | None:
    """Returns what prepares images for an encoder of PE's, at its own size."""
    if isinstance(outputs.encoder, PEVisionEncoder):
        return PEImageConverter(outputs.encoder.image_size)
    return None


def find_probe(
    probe: str | Probe | TrainingFreeProbe,
) -> Probe | TrainingFreeProbe:
    """Returns a probe, or the one of a name with its defaults.

    Raises:
        ValueError: if there is no such probe.
    """
    if isinstance(probe, Probe | TrainingFreeProbe):
        return probe
    if probe not in PROBES:
        raise ValueError(
            f"There is no probe {probe!r}. Known: {', '.join(PROBES)}; or give a "
            f"Probe object with settings of its own."
        )
    return PROBES[probe]()
