"""The two halves of a sweep: one pass over the data, and a probe of each layer."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import keras
import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.models.compiled import padded_batch
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.probing.feature_store import TARGETS, FeatureStore, Samples
from keras_pe.probing.layer_outputs import LayerName, LayerOutputs, Reading
from keras_pe.probing.probe import FittedProbe, Probe
from keras_pe.probing.sweep_data import SweepData, count_samples, sweep_batches
from keras_pe.probing.sweep_result import SweepResult
from keras_pe.probing.sweep_summary import LayerOutcome, best_place, summarize

NUM_SHUFFLES = 5  # of the test targets, to tell what chance gives


@dataclasses.dataclass(frozen=True)
class SweepSets:
    """The data of a sweep.

    Attributes:
        data: training data.
        test: test data; None keeps back `test_share` of `data`.
        validation: validation data; None keeps back `validation_share` of `data`.
        validation_share: see above.
        test_share: see above.
    """

    data: SweepData
    test: SweepData | None
    validation: SweepData | None
    validation_share: float
    test_share: float


@dataclasses.dataclass(frozen=True)
class ProbedLayers:
    """What a probe found of all layers, before it is summed up.

    Attributes:
        probe: that was fitted.
        names: the layers.
        outcomes: of each layer.
        guesses: statistics of guesses that never look at an image; see `blind_guesses`.
        protocol: settings, and how many samples there were.
        encoder: that was swept.
    """

    probe: Probe
    names: tuple[LayerName, ...]
    outcomes: list[LayerOutcome]
    guesses: dict[str, np.ndarray]
    protocol: dict[str, Any]
    encoder: keras.Model

    def guess_scores(self) -> dict[str, float]:
        """Returns the score of each guess."""
        return {
            what: float(self.probe.score(guess.mean(axis=0)))
            for what, guess in self.guesses.items()
        }

    def best_guess(self) -> np.ndarray:
        """Returns the statistics of the best guess; of equals the first."""
        scores = self.guess_scores()
        best = next(iter(scores))
        for what, score in scores.items():
            if self.probe.gain(score, scores[best]) > 0:
                best = what
        return self.guesses[best]

    def result(self, repeats: int) -> SweepResult:
        """Returns the answer of the sweep.

        Args:
            repeats: resampled test sets for the intervals.
        """
        protocol = {**self.protocol, "bootstrap_repeats": repeats}
        return summarize(
            self.probe,
            self.names,
            self.outcomes,
            self.best_guess(),
            repeats=repeats,
            protocol=protocol,
            encoder=self.encoder,
        )


def probed_layers(
    outputs: LayerOutputs,
    probe: Probe,
    reading: Reading,
    sets: SweepSets,
    seeds: Sequence[int],
    batch_size: int,
    image_converter: PEImageConverter | None,
    store_directory: str | Path | None,
    progress: bool,
) -> ProbedLayers:
    """Runs the encoder once over the data, and probes its layers; see `sweep`."""
    given = {"train": sets.data, "test": sets.test, "validation": sets.validation}
    with FeatureStore(store_directory) as store:
        counts = {
            name: run_encoder(outputs, probe, reading, a_set, store, batch_size,
                              image_converter, progress)
            for name, a_set in given.items() if a_set is not None
        }  # fmt: skip
        parts = [split_rows(counts, sets, seed) for seed in seeds]
        shapes = {store.shape(column(name)): name for name in outputs.names}
        for of_seed in parts:
            for name in shapes.values():
                probe.check(*(Samples(store, column(name), rows) for rows in of_seed))
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
        guesses = blind_guesses(probe, best, store, name, parts, seeds)
        targets = [
            probe.target_protocol(
                Samples(store, column(name), train), Samples(store, column(name), test)
            )
            for train, _, test in parts
        ]
    protocol = {
        "encoder": outputs.encoder.name,
        "reading": reading,
        "norm": outputs.norm,
        "seeds": list(seeds),
        "train": len(parts[0][0]),
        "validation": len(parts[0][1]),
        "test": len(parts[0][2]),
        "test_sha256": test_sha256,
        "validation_share": sets.validation_share,
        "batch_size": batch_size,
        "image_converter": image_converter and image_converter.get_config(),
        **({"targets": targets} if any(targets) else {}),
    }
    return ProbedLayers(
        probe, outputs.names, outcomes, guesses, protocol, outputs.encoder
    )


# === The pass over the data ===
def run_encoder(
    outputs: LayerOutputs,
    probe: Probe,
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
        for name, rows in probe.image_columns(images).items():
            store.append(name, rows)
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


def split_rows(counts: dict[str, int], sets: SweepSets, seed: int) -> Parts:
    """Returns the rows of training, validation and test samples, ascending.

    Args:
        counts: samples of each set that was given, in the order of the store.
        sets: says which share of the training data stands for one that was not.
        seed: of what is kept back for validation.
    """
    total = counts["train"]
    given, first = {}, 0
    for name, count in counts.items():
        given[name] = first + np.arange(count)
        first += count
    # What is kept back for testing must not depend on the seed, else seeds can't be
    # averaged sample by sample.
    order = np.random.default_rng(0).permutation(total)
    held = 0 if "test" in given else round(total * sets.test_share)
    test = given.get("test", np.sort(order[:held]))
    rest = np.random.default_rng(seed).permutation(order[held:])
    kept = 0 if "validation" in given else round(total * sets.validation_share)
    validation = given.get("validation", np.sort(rest[:kept]))
    parts = np.sort(rest[kept:]), validation, test
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


def blind_guesses(
    probe: Probe,
    fitted: FittedProbe,
    store: FeatureStore,
    name: LayerName,
    parts: list[Parts],
    seeds: Sequence[int],
) -> dict[str, np.ndarray]:
    """Returns the test statistics of guesses that see no image.

    "constant" is always the same. "shuffled" gives images each other's answers, so that
    it answers as often as the probe with each class, and no better than by chance.
    "blind", of probes that have one, was trained without the right images.
    """
    of_seeds = [
        [Samples(store, column(name), rows) for rows in of_seed] for of_seed in parts
    ]
    train, _, test = of_seeds[0]
    shuffled = [
        fitted.statistics(probe.shuffled(test, seed)) for seed in range(NUM_SHUFFLES)
    ]
    guesses = {
        "constant": probe.baseline(train, test),
        "shuffled": mean_statistics(shuffled),
    }
    trained = [
        probe.blind(train, validation, test, seed)
        for (train, validation, test), seed in zip(of_seeds, seeds, strict=True)
    ]
    known = [statistics for statistics in trained if statistics is not None]
    return {**guesses, "blind": mean_statistics(known)} if known else guesses


def targets_sha256(samples: Samples) -> str:
    """Returns what tells whether two sweeps were tested on the same samples."""
    digest = hashlib.sha256()
    for _, targets in samples.chunks():
        digest.update(np.ascontiguousarray(targets).tobytes())
    return digest.hexdigest()


# === Progress ===
def progress_bar(title: str, total: int | None, unit: str, shown: bool) -> Any:
    """Returns a progress bar, silent if not shown."""
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit=f" {unit}s", disable=not shown)


def with_progress(names: tuple[LayerName, ...], probe: Probe, shown: bool) -> Any:
    """Returns the layers, with a bar that moves along."""
    from tqdm import tqdm

    return tqdm(names, desc=probe.name, unit=" layers", disable=not shown)
