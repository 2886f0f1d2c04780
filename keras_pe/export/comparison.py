"""A file's numbers beside the model's: how alike, where they part, how fast."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.export.runtimes import Run

Encode = Callable[[np.ndarray], np.ndarray]
BATCHES = (1, 2, 7)
LEAST_SECONDS = 1.0  # of turns for the latency, of which there are five or more
# The lowest cosine of an output with the model's own. Of float32 the length of the
# difference counts too, relative to the output: a cosine of 0.99999 would pass one of
# 0.4 %, and GELU's approximation by tanh is off by 0.05 %.
LOWEST_COSINE = {"none": 0.99999, "fp16": 0.9999, "int8": 0.999}
LARGEST_ERROR = {"none": 1e-4, "fp16": 1e-2, "int8": 5e-2}


class ExportError(RuntimeError):
    """A file does not compute what the model does; none was left.

    Example:
        >>> try:
        ...     raise ExportError("cosine 0.97, expected 0.999")
        ... except RuntimeError as error:    # what it is
        ...     print(error)
        cosine 0.97, expected 0.999
    """


class Compared(NamedTuple):
    """A batch in the file and in the model.

    Attributes:
        batch: its size.
        cosine: the lowest of an output with the model's.
        error: the largest length of a difference, relative to the model's output.
    """

    batch: int
    cosine: float
    error: float

    def within(self, quantize: str) -> bool:
        """Returns whether this may be written. NaN may not."""
        return (
            self.cosine >= LOWEST_COSINE[quantize]
            and self.error <= LARGEST_ERROR[quantize]
        )


def alike(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """Returns the lowest cosine and the largest relative error of two batches.

    Args:
        found: `(batch, ...)`.
        wanted: as many numbers; of another shape, they are compared in order.

    Raises:
        ValueError: if the numbers of values differ.

    Example:
        >>> alike(np.array([[3.0, 4.0]]), np.array([[3.0, 4.0]]))
        (1.0, 0.0)
    """
    rows = len(wanted)
    if found.size != wanted.size or len(found) != rows:
        raise ValueError(
            f"The file gives {found.shape}, the model {wanted.shape}: expected as many "
            f"rows and numbers."
        )
    a = found.reshape(rows, -1).astype("float64")
    b = wanted.reshape(rows, -1).astype("float64")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    tiny = np.finfo("float64").tiny
    cosines = (a * b).sum(axis=1) / np.maximum(lengths, tiny)
    off = np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(b, axis=1), tiny)
    return float(cosines.min()), float(off.max())


def compare(run: Run, encode: Encode, inputs: np.ndarray) -> list[Compared]:
    """Compares batches of 1, 2 and 7.

    Args:
        run: the file.
        encode: the model.
        inputs: at least seven rows, real ones.

    Raises:
        NonFiniteError: if the model's numbers are none.
    """
    found = []
    for size in BATCHES:
        batch = inputs[-size:]  # not the same rows in each
        wanted = check_finite(encode(batch), "outputs of the model", "input")
        found.append(Compared(size, *alike(run(batch)[0], wanted)))
    return found


def diverging_layer(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], quantize: str
) -> str:
    """Returns the first layer that is out of bounds, else the one that is most so.

    Args:
        found: what each layer gives in the file, in order.
        wanted: what it gives in the model.
        quantize: which bounds hold.
    """
    errors = {}
    for name, value in wanted.items():
        cosine, errors[name] = alike(found[name], value)
        # Half of it: a fault grows on its way to the output.
        if not (
            cosine >= LOWEST_COSINE[quantize]
            and errors[name] <= LARGEST_ERROR[quantize] / 2
        ):
            return name
    return max(errors, key=lambda name: errors[name])


class Latency(NamedTuple):
    """Median milliseconds of a batch, side by side, and the median of their ratios."""

    batch: int
    keras_ms: float
    file_ms: float
    ratio: float


def latency(run: Run, encode: Encode, batch: np.ndarray) -> Latency:
    """Measures file and model in turns.

    Args:
        run: the file.
        encode: the model, with the copy to NumPy.
        batch: what both get.
    """
    run(batch), encode(batch)
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + LEAST_SECONDS
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 200):
        first = time.perf_counter()
        encode(batch)
        middle = time.perf_counter()
        run(batch)
        times.append((middle - first, time.perf_counter() - middle))
    pairs = np.array(times)
    keras_ms, file_ms = np.median(pairs, axis=0) * 1e3
    ratio = np.median(pairs[:, 0] / pairs[:, 1])
    return Latency(len(batch), float(keras_ms), float(file_ms), float(ratio))


# === Scores ===
def score_change(
    images: tuple[np.ndarray, np.ndarray],
    texts: tuple[np.ndarray, np.ndarray],
    labels: Sequence[int],
) -> dict[str, Any]:
    """Scores the model and the file on the same images.

    Args:
        images: embeddings `(images, channels)` of the model and of the file.
        texts: vectors of classes `(classes, channels)`, likewise.
        labels: the class of each image.

    Returns:
        `zero_shot`, the share of images that get their class, and `retrieval`, the
        share of classes whose best image is theirs; each of the model and the file,
        with the change in points. `same_answers` is the share of images that both
        give the same class.
    """
    truth = np.asarray(labels)
    scores = [unit(i) @ unit(t).T for i, t in zip(images, texts, strict=True)]
    answers = [matrix.argmax(axis=1) for matrix in scores]
    classes = np.unique(truth)
    best = [truth[matrix.argmax(axis=0)][classes] == classes for matrix in scores]

    def entry(model: float, file: float) -> dict[str, float]:
        return {"model": model, "file": file, "change": 100 * (file - model)}

    return {
        "images": len(truth),
        "classes": len(texts[0]),
        "zero_shot": entry(*(float((given == truth).mean()) for given in answers)),
        "retrieval": entry(*(float(right.mean()) for right in best)),
        "same_answers": float((answers[0] == answers[1]).mean()),
    }


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors of unit length."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
