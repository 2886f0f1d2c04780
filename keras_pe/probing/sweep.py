"""Which layer a task needs: all layers probed from one pass over the data."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import keras
import numpy as np

from keras_pe.arrays import check_finite, check_sizes
from keras_pe.models.compiled import padded_batch
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.probing.attentive import Attentive
from keras_pe.probing.correspondence import Correspondence
from keras_pe.probing.depth import Depth, DPTDepth
from keras_pe.probing.feature_store import TARGETS, FeatureStore, Samples
from keras_pe.probing.layer_outputs import LayerName, LayerOutputs, Reading
from keras_pe.probing.logistic import Logistic
from keras_pe.probing.nearest_neighbours import NearestNeighbours
from keras_pe.probing.probe import FittedProbe, Probe, TrainingFreeProbe
from keras_pe.probing.ridge import Ridge, RidgeRegression
from keras_pe.probing.segmentation import Segmentation
from keras_pe.probing.sweep_checks import check_seeds, check_shares, checked_reading
from keras_pe.probing.sweep_data import (
    SweepData,
    count_samples,
    sweep_batches,
)
from keras_pe.probing.sweep_items import list_of_items, sweep_items
from keras_pe.probing.sweep_result import SweepResult
from keras_pe.probing.sweep_summary import LayerOutcome, best_place, summarize
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
            "segmentation", "depth", "dpt_depth", "tracking" or "correspondence"; or an
            object with settings of its own, such as `Ridge(alphas=[0.1])`.
        layers: "all", or some: k is the output of block k, 0 the input of the first.
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
        if test is not None:
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
    image_converter = image_converter or default_converter(outputs)
    sets = [data] if test is None else [data, test]
    with FeatureStore(store_directory) as store:
        counts = [
            run_encoder(outputs, reading, a_set, store, batch_size, image_converter,
                        progress)
            for a_set in sets
        ]  # fmt: skip
        parts = [
            split_rows(counts, validation_share, test_share, seed) for seed in seeds
        ]
        outcomes: list[LayerOutcome] = []
        best: FittedProbe | None = None
        for name in with_progress(outputs.names, probe, progress):
            outcome, fitted = probe_layer(probe, store, name, parts, seeds)
            outcomes.append(outcome)
            # One fitted probe is held, not one a layer: heads can be large.
            if best_place(probe, outputs.names, outcomes) == len(outcomes) - 1:
                best = fitted
        assert best is not None
        name = outputs.names[best_place(probe, outputs.names, outcomes)]
        test_sha256 = targets_sha256(Samples(store, column(name), parts[0][2]))
        guess = blind_guess(probe, best, store, name, parts[0])
        targets = [
            probe.target_protocol(
                Samples(store, column(name), train), Samples(store, column(name), test)
            )
            for train, _, test in parts
        ]
    return summarize(
        probe,
        outputs.names,
        outcomes,
        guess,
        repeats=bootstrap_repeats,
        protocol={
            "encoder": encoder.name,
            "reading": reading,
            "norm": norm,
            "seeds": list(seeds),
            "train": len(parts[0][0]),
            "validation": len(parts[0][1]),
            "test": len(parts[0][2]),
            "test_sha256": test_sha256,
            "validation_share": validation_share,
            "batch_size": batch_size,
            "image_converter": image_converter and image_converter.get_config(),
            "bootstrap_repeats": bootstrap_repeats,
            **({"targets": targets} if any(targets) else {}),
        },
        encoder=outputs.encoder,
    )


# === The pass over the data ===
def run_encoder(
    outputs: LayerOutputs,
    reading: Reading,
    data: SweepData,
    store: FeatureStore,
    batch_size: int,
    converter: PEImageConverter | None,
    progress: bool,
) -> int:
    """Writes features of all layers and the targets; returns how many samples."""
    count = 0
    bar = progress_bar("features", count_samples(data), "image", progress)
    for images, targets in sweep_batches(data, batch_size, converter):
        values = outputs(padded_batch(images, batch_size), reading)
        for name, value in zip(outputs.names, values, strict=True):
            samples = [f"sample {count + number}" for number in range(len(images))]
            what = f"features of layer {name}"
            rows = check_finite(value[: len(images)], what, "image", samples)
            # Maps and tokens are large: half precision keeps what a probe can use.
            if reading in ("tokens", "map"):
                with np.errstate(over="ignore"):
                    rows = rows.astype("float16")
                check_finite(
                    rows,
                    f"{what} in half precision",
                    "image",
                    samples,
                    "They are stored so, and are beyond its 65504: norm=True brings "
                    "a PE encoder's layers to one scale.",
                )
            store.append(column(name), rows)
        store.append(TARGETS, np.asarray(targets))
        count += len(images)
        bar.update(len(images))
    bar.close()
    if not count:
        raise ValueError("There are no images in the data.")
    return count


def column(name: LayerName) -> str:
    """Returns the store's column of a layer."""
    return quote(f"layer_{name}", safe="")


# === The probes ===
Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


def split_rows(
    counts: list[int], validation_share: float, test_share: float, seed: int
) -> Parts:
    """Returns the rows of training, validation and test samples, ascending."""
    total, own_test = counts[0], len(counts) == 1
    # What is kept back for testing must not depend on the seed, else seeds can't be
    # averaged sample by sample.
    order = np.random.default_rng(0).permutation(total)
    held = round(total * test_share) if own_test else 0
    test = np.sort(order[:held]) if own_test else total + np.arange(counts[1])
    rest = np.random.default_rng(seed).permutation(order[held:])
    validation = round(total * validation_share)
    parts = np.sort(rest[validation:]), np.sort(rest[:validation]), test
    if not all(map(len, parts)):
        raise ValueError(
            f"Too few samples: {len(parts[0])} to train on, {len(parts[1])} for "
            f"validation, {len(parts[2])} to test on. Each needs at least one; give "
            f"more images or other shares."
        )
    return parts


def probe_layer(
    probe: Probe,
    store: FeatureStore,
    name: LayerName,
    parts: list[Parts],
    seeds: Sequence[int],
) -> tuple[LayerOutcome, FittedProbe]:
    """Fits and tests the probe on one layer, once a seed; returns the last fit too."""
    statistics, validation_scores, settings, seed_scores = [], [], [], []
    for (train, validation, test), seed in zip(parts, seeds, strict=True):
        chosen = Samples(store, column(name), validation)
        fitted = probe.fit(Samples(store, column(name), train), chosen, seed)
        settings.append(fitted.setting)
        found = fitted.statistics(Samples(store, column(name), test))
        what = f"{probe.name} statistics of layer {name}"
        statistics.append(check_finite(found, what, "test sample"))
        seed_scores.append(float(probe.score(found.mean(axis=0))))
        of_validation = fitted.statistics(chosen).mean(axis=0)
        validation_scores.append(float(probe.score(of_validation)))
    outcome = LayerOutcome(
        mean_statistics(statistics),
        float(np.mean(validation_scores)),
        settings,
        seed_scores,
    )
    return outcome, fitted


def mean_statistics(of_seeds: list[np.ndarray]) -> np.ndarray:
    """Returns the mean over seeds of `(samples, statistics)` arrays.

    One seed's training samples may have more classes than another's, and then its probe
    has more statistics; those that another lacks are 0 there.
    """
    width = max(statistics.shape[1] for statistics in of_seeds)
    padded = [np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in of_seeds]
    return np.asarray(np.mean(padded, axis=0))


def blind_guess(
    probe: Probe,
    fitted: FittedProbe,
    store: FeatureStore,
    name: LayerName,
    parts: Parts,
) -> np.ndarray:
    """Returns the test statistics of the better of two guesses that see no image.

    One is constant. The other gives each image the answer to another one, so that it
    answers as often as the probe with each class, and no better than by chance.
    """
    train, _, test = (Samples(store, column(name), rows) for rows in parts)
    shuffled = [fitted.statistics(test.shuffled(seed)) for seed in range(NUM_SHUFFLES)]
    guesses = [probe.baseline(train, test), np.mean(shuffled, axis=0)]
    scores = [float(probe.score(guess.mean(axis=0))) for guess in guesses]
    return guesses[int(probe.gain(scores[1], scores[0]) > 0)]


def targets_sha256(samples: Samples) -> str:
    """Returns what tells whether two sweeps were tested on the same samples."""
    digest = hashlib.sha256()
    for _, targets in samples.chunks():
        digest.update(np.ascontiguousarray(targets).tobytes())
    return digest.hexdigest()


# === Progress, and what is there by default ===
def progress_bar(title: str, total: int | None, unit: str, shown: bool) -> Any:
    """Returns a progress bar, silent if not shown."""
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit=f" {unit}s", disable=not shown)


def with_progress(names: tuple[LayerName, ...], probe: Probe, shown: bool) -> Any:
    """Returns the layers, with a bar that moves along."""
    from tqdm import tqdm

    return tqdm(names, desc=probe.name, unit=" layers", disable=not shown)


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
