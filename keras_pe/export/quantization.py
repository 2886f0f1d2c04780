"""Which matrices of a file become int8, and in what steps their inputs are rounded.

The matrices of the blocks, which do nine tenths of the work: weights with a scale for
each column, inputs with one for all, measured on images (or texts) before. The first
and the last matrix, the pooling, norms, softmax and the products of the attention stay
in float32. Which of the blocks' matrices are sensitive is measured, not guessed: each
is computed in int8 and in float32 on the inputs it gets, and those that are off the
most stay in float32 too, as many as it takes for the whole to be within bounds.

Weights span 64 steps to either side instead of 127. Two products of eight bits with
seven fit into sixteen bits, which CPUs without VNNI add them up in: with eight they
saturate there, and one file would give another result on each machine.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_pe.export.onnx_graph import Quantized, int8_columns

ROWS = 256  # of each matrix' inputs, to measure how far off it is in int8


class Measured(NamedTuple):
    """What a matrix gets on the calibration data, and what int8 makes of it.

    Attributes:
        how: how its inputs are rounded.
        error: length of the error of its products, relative to their own.
    """

    how: Quantized
    error: float


def calibrate(
    run: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    batches: Sequence[np.ndarray],
    inputs: Mapping[str, str],
    kernels: Mapping[str, np.ndarray],
) -> dict[str, Measured]:
    """Measures the inputs of matrices.

    Args:
        run: computes a batch; returns values by name.
        batches: images or token ids, as the file reads them.
        inputs: the value that each matrix multiplies.
        kernels: the matrices, float32 `(in, out)`.

    Returns:
        By matrix.
    """
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    rows: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        values = run(batch)
        for name in set(inputs.values()):
            value = values[name].reshape(-1, values[name].shape[-1])
            low[name] = min(low.get(name, 0.0), float(value.min()))
            high[name] = max(high.get(name, 0.0), float(value.max()))
            step = max(1, len(value) * len(batches) // ROWS)
            rows.setdefault(name, []).append(value[::step].copy())
    samples = {name: np.concatenate(parts) for name, parts in rows.items()}
    found = {}
    for matrix, name in inputs.items():
        how = steps(low[name], high[name])
        found[matrix] = Measured(how, error_of(samples[name], kernels[matrix], how))
    return found


def steps(low: float, high: float) -> Quantized:
    """Returns how a range becomes 0 to 255, with 0.0 on a step.

    Example:
        >>> steps(-1.0, 1.55)
        Quantized(scale=0.01, zero=100)
    """
    scale = max(high - low, 1e-12) / 255
    return Quantized(round(scale, 12), round(-low / scale))


def error_of(x: np.ndarray, kernel: np.ndarray, how: Quantized) -> float:
    """Returns the relative error of `x @ kernel` in int8."""
    whole = np.clip(np.rint(x / how.scale) + how.zero, 0, 255) - how.zero
    weights, scales = int8_columns(kernel)
    exact = x @ kernel
    rounded = (whole @ weights.astype("float32")) * (scales * np.float32(how.scale))
    return float(np.linalg.norm(rounded - exact)) / max(
        float(np.linalg.norm(exact)), 1e-12
    )


def most_sensitive_last(measured: Mapping[str, Measured]) -> list[str]:
    """Returns the matrices, those that int8 harms the most at the end."""
    return sorted(measured, key=lambda name: measured[name].error)


def attempts(measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """Returns which matrices to try in int8: all, then ever fewer sensitive ones."""
    names = most_sensitive_last(measured)
    counts = [len(names) * (8 - eighths) // 8 for eighths in range(5)]
    return [
        {name: measured[name].how for name in names[:count]}
        for count in dict.fromkeys(counts)
        if count
    ]
