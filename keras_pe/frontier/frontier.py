"""Exports cuts of an encoder, scores what each file computes, and times them in turns.

A score is of the file's own outputs, not of the model's: what int8 costs a task is seen
here alone. All files are timed in one run, in turns: only the ratios between them hold
elsewhere.
"""

import dataclasses
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from keras_pe.arrays import check_sizes
from keras_pe.evaluation.datasets import read_image_folder
from keras_pe.evaluation.datasets.types import Labelled
from keras_pe.export import export
from keras_pe.export.comparison import ExportError
from keras_pe.export.exporting import SUFFIXES
from keras_pe.export.receipt import processor, versions_of
from keras_pe.export.runtimes import Run, open_file
from keras_pe.export.subject import Subject, load_subject
from keras_pe.frontier.frontier_result import Frontier, FrontierPoint, Refused
from keras_pe.models.tower import resolve_layers
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.probing.bootstrap import bootstrap_scores, sure_interval
from keras_pe.probing.feature_store import TARGETS, FeatureStore, Samples
from keras_pe.probing.ridge import Ridge
from keras_pe.probing.sweep_checks import check_seeds

PRECISIONS = ("none", "fp16", "int8")
BATCH = 8
TURNS = 30  # of each file, at least
LEAST_SECONDS = 2.0  # of all turns together
CALIBRATION = 256  # training images that a file is compared and calibrated on


class _Data(NamedTuple):
    """Images and what they are for.

    Attributes:
        paths: of all images.
        labels: int64, the class of each.
        parts: rows of "train", "validation" and "test".
    """

    paths: tuple[Any, ...]
    labels: np.ndarray
    parts: dict[str, np.ndarray]


class _Cut(NamedTuple):
    """A file that waits to be timed."""

    point: FrontierPoint
    run: Run
    image: np.ndarray


def frontier(
    model: Any,
    data: str | os.PathLike[str],
    test: str | os.PathLike[str] | None = None,
    layers: Sequence[int] | None = None,
    quantize: Sequence[str] = PRECISIONS,
    image_sizes: Sequence[int] | None = None,
    format: str = "onnx",
    threads: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> Frontier:
    """Scores and times cuts of an encoder in several precisions and sizes.

    Each cut becomes a file (see `keras_pe.export.export`), which is run on all images;
    a ridge probe is trained on its outputs: the embedding of the whole encoder, the
    average of the patches of a cut. Files that are off are refused and named.

    Args:
        model: preset name, directory or handle, a `PECore`, or a vision encoder.
        data: a folder of folders named like classes.
        test: the same for the test images; None keeps back a fifth of each class.
        layers: where it is cut; None takes the last layer, and those at 3/4 and 1/2
            of the depth. The first is what speeds are told of.
        quantize: of "none", "fp16" and "int8".
        image_sizes: pixels a side; None takes the preset's own.
        format: "onnx", "openvino" or, for "none" and "fp16", others that
            `keras_pe.export.export` knows.
        threads: of each file.
        seed: of the split and the intervals.
        progress: whether a progress bar is shown.

    Returns:
        A `Frontier`: print it, `plot` it, `save` it.

    Raises:
        TypeError: if `data` or `test` is no path, or the model none of ours.
        ValueError: if arguments do not fit together, or a class has too few images.
        ExportError: if no file at all computes what the model does.

    Source: the paper finds that inner layers serve many tasks better than the last
        (section 3); what such a cut saves is measured here.

    Example:
        >>> from PIL import Image
        >>> for name, shade in (("dark", 0), ("light", 200)):
        ...     Path("shades", name).mkdir(parents=True)
        ...     for k in range(6):
        ...         image = Image.new("L", (16, 16), shade + 5 * k)
        ...         image.save(Path("shades", name, f"{k}.png"))
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> found = frontier(encoder, "shades", layers=(2, 1), quantize=("none",),
        ...     progress=False)
        >>> [point.layer for point in found.points]
        [2, 1]
    """
    precisions = tuple(dict.fromkeys(quantize))
    unknown = [each for each in precisions if each not in PRECISIONS]
    if unknown or not precisions:
        raise ValueError(
            f"quantize={tuple(quantize)!r}: expected one or more of {PRECISIONS}."
        )
    check_sizes(threads=threads)
    check_seeds((seed,))
    for name, folder in (("data", data), ("test", "" if test is None else test)):
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(
                f"{name} must be a folder with one folder a class, got {folder!r:.80}."
            )
    subject = load_subject(model, None, None, None)
    encoder = subject.tower("image")
    assert isinstance(encoder, PEVisionEncoder)
    numbers = _layers(encoder, layers)
    sizes = tuple(image_sizes or (subject.image_converter.image_size[0],))
    for size in sizes:
        encoder.patch_embedding.grid((1, size, size, 3))  # whole patches, or raises
    given = _read(Path(data), None if test is None else Path(test), seed)
    cuts: list[_Cut] = []
    refused: list[Refused] = []
    with tempfile.TemporaryDirectory() as folder:
        count = len(sizes) * len(numbers) * len(precisions)
        bar = tqdm(total=count, desc="files", disable=not progress)
        for size in sizes:
            converter = _converter(subject, size)
            images = converter(list(given.paths))
            for number in numbers:
                cut = _cut(encoder, number)
                for kind in precisions:
                    path = Path(folder, f"{size}_{number}_{kind}")
                    try:
                        found = _file(
                            cut, kind, format, threads, path, converter, images, given
                        )
                    except ExportError as error:
                        refused.append(Refused(number, kind, size, str(error)))
                    else:
                        cuts.append(
                            _scored(found, cut, number, kind, size, given, seed)
                        )
                    bar.update()
        bar.close()
        if not cuts:
            raise ExportError(f"No file was kept: {refused[0].reason}")
        points = _timed(cuts)
    return Frontier(
        subject.name,
        points,
        tuple(refused),
        {
            "data": str(data),
            "test": None if test is None else str(test),
            "images": {part: len(rows) for part, rows in given.parts.items()},
            "test_images": len(given.parts["test"]),
            "classes": int(given.labels.max()) + 1,
            "guess": _guess(given),
            "probe": "ridge, alpha chosen on the validation images",
            "format": format,
            "threads": threads,
            "seed": seed,
            "machine": processor(),
            "versions": versions_of(format),
        },
    )


# === Before anything is written ===
def _layers(encoder: PEVisionEncoder, given: Sequence[int] | None) -> tuple[int, ...]:
    depth = encoder.num_layers
    if given is None:
        given = (depth, round(0.75 * depth), round(0.5 * depth))
    numbers = tuple(dict.fromkeys(resolve_layers(tuple(given), depth)))
    if not numbers or 0 in numbers:
        raise ValueError(
            f"layers={tuple(given)!r}: expected blocks 1 to {depth}; negatives count "
            f"from the end, -1 is the last."
        )
    return numbers


def _read(train: Path, test: Path | None, seed: int) -> _Data:
    """Reads the folders and splits them, class by class."""
    found = read_image_folder(train)
    labels = np.array(found.labels, "int64")
    rng = np.random.default_rng(seed)
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for label in range(len(found.class_names)):
        rows = rng.permutation(np.flatnonzero(labels == label))
        fifth = max(1, len(rows) // 5)
        kept = fifth if test is None else 0
        if len(rows) < 2 + (test is None):
            raise ValueError(
                f"{train} has {len(rows)} images of {found.class_names[label]!r}, "
                f"expected {2 + (test is None)} at least: some train, some choose, "
                f"some test. Add images, or leave the class out."
            )
        parts["test"] += list(rows[:kept])
        parts["validation"] += list(rows[kept : kept + fifth])
        parts["train"] += list(rows[kept + fifth :])
    paths = tuple(found.samples)
    if test is not None:
        paths, labels, parts["test"] = _with_test(found, read_image_folder(test))
    arrays = {part: np.sort(np.array(rows)) for part, rows in parts.items()}
    return _Data(paths, labels, arrays)


def _with_test(
    train: Labelled, test: Labelled
) -> tuple[tuple[Any, ...], np.ndarray, list[int]]:
    """Returns all paths and labels, and which rows are the test's."""
    places = {name: place for place, name in enumerate(train.class_names)}
    unknown = [name for name in test.class_names if name not in places]
    if unknown:
        raise ValueError(
            f"The test images are of {len(unknown)} classes that training does not "
            f"have, such as {unknown[0]!r}. Give both the same folders."
        )
    labels = [*train.labels, *(places[test.class_names[k]] for k in test.labels)]
    rows = list(range(len(train.samples), len(labels)))
    return (*train.samples, *test.samples), np.array(labels, "int64"), rows


def _converter(subject: Subject, size: int) -> PEImageConverter:
    config = {**subject.image_converter.get_config(), "image_size": size}
    return type(subject.image_converter)(**config)


def _cut(encoder: PEVisionEncoder, layer: int) -> PEVisionEncoder:
    return encoder if layer == encoder.num_layers else encoder.truncate(layer)


def _guess(given: _Data) -> float:
    """Returns the score of naming the class that training has most of."""
    commonest = np.bincount(given.labels[given.parts["train"]]).argmax()
    return float((given.labels[given.parts["test"]] == commonest).mean())


# === One file ===
class _File(NamedTuple):
    run: Run
    images: np.ndarray  # (samples, height, width, 3)
    num_bytes: int
    cosine: float


def _file(
    cut: PEVisionEncoder,
    kind: str,
    file_format: str,
    threads: int,
    path: Path,
    converter: PEImageConverter,
    images: np.ndarray,
    given: _Data,
) -> _File:
    """Exports a cut; what calibrates and compares it are training images."""
    rows = given.parts["train"]
    rows = rows[:: -(-len(rows) // CALIBRATION)]
    receipt = export(
        cut,
        path,
        format=file_format,  # type: ignore[arg-type]  # checked there
        quantize=kind,  # type: ignore[arg-type]
        images=[given.paths[row] for row in rows],
        image_converter=converter,
        threads=threads,
    )
    file = receipt.files["image"]
    run = open_file(path / f"image{SUFFIXES[file_format]}", file_format, threads)
    return _File(run, images, file.num_bytes, receipt.cosine)


def _scored(
    file: _File,
    cut: PEVisionEncoder,
    layer: int,
    kind: str,
    size: int,
    given: _Data,
    seed: int,
) -> _Cut:
    """Trains a probe on what a file gives of the images, and scores it."""
    with FeatureStore() as store:
        for start in range(0, len(file.images), BATCH):
            outputs = file.run(file.images[start : start + BATCH])[0]
            store.append("features", _vectors(cut, outputs))
        store.append(TARGETS, given.labels)
        samples = {
            part: Samples(store, "features", rows) for part, rows in given.parts.items()
        }
        fitted = Ridge().fit(samples["train"], samples["validation"], seed)
        statistics = fitted.statistics(samples["test"])  # (samples, 1), 1 if right
    right = statistics[:, 0]
    resampled = bootstrap_scores(statistics, lambda means: means[..., 0], seed)
    low, high = sure_interval(resampled, right, (0.0, 1.0))
    point = FrontierPoint(
        layer,
        kind,
        size,
        float(right.mean()),
        low,
        high,
        float("nan"),  # until all files are timed
        float("nan"),
        file.num_bytes,
        file.cosine,
    )
    return _Cut(point, file.run, file.images[:1])


def _vectors(cut: PEVisionEncoder, outputs: np.ndarray) -> np.ndarray:
    """Returns float32 `(batch, channels)`: embeddings, or the patches' average."""
    if cut.pooling is not None:
        return np.asarray(outputs, "float32")
    patches = outputs[:, cut.prefix_tokens :]  # (batch, patches, channels)
    return np.asarray(patches, "float32").mean(axis=1)


# === All files ===
def _timed(cuts: Sequence[_Cut]) -> tuple[FrontierPoint, ...]:
    """Returns the points with their times, measured in turns."""
    for cut in cuts:
        cut.run(cut.image)
    times: list[list[float]] = []
    end = time.perf_counter() + LEAST_SECONDS
    while len(times) < TURNS or time.perf_counter() < end:
        turn = []
        for cut in cuts:
            start = time.perf_counter()
            cut.run(cut.image)
            turn.append(time.perf_counter() - start)
        times.append(turn)
    seconds = np.array(times)  # (turns, files)
    medians = np.median(seconds, axis=0)
    speeds = np.median(seconds[:, :1] / seconds, axis=0)
    return tuple(
        dataclasses.replace(cut.point, milliseconds=1e3 * median, speed=speed)
        for cut, median, speed in zip(
            cuts, medians.tolist(), speeds.tolist(), strict=True
        )
    )
