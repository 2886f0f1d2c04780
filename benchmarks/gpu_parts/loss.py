"""The chunked contrastive loss against the plain one: time, memory, equality."""

import gc
import statistics
from typing import Any

import numpy as np

from benchmarks.contrastive_loss import DIM, make_inputs, make_step
from benchmarks.gpu_parts.device import (
    backend,
    forget_peak_memory,
    peak_memory_gb,
    seconds_each,
    turn,
    wait_for,
)
from benchmarks.gpu_parts.parity import full_precision

SIZES = {False: (32_768, 512), True: (256, 32)}  # batch, rows at once


def jax_step(chunk_size: int | None, inputs: list[Any]) -> tuple[Any, float]:
    """Returns a compiled step and the memory that it plans for, GB."""
    import jax

    from keras_pe import losses

    def loss(*arrays: Any) -> Any:
        if chunk_size is None:
            return losses.softmax_contrastive_loss(*arrays)
        return losses.chunked_softmax_contrastive_loss(*arrays, chunk_size=chunk_size)

    step = jax.jit(jax.value_and_grad(loss, (0, 1, 2))).lower(*inputs).compile()
    return step, step.memory_analysis().temp_size_in_bytes / 1e9


def measure(small: bool) -> dict[str, Any]:
    """Returns time and peak memory of both, and how far value and gradients are."""
    full_precision()
    batch, chunk = SIZES[small]
    inputs = make_inputs(batch)
    rows: dict[str, Any] = {"batch": batch, "channels": DIM, "TF32": False}
    results, steps = {}, {}
    with turn(alone=False):
        for name, size in (("chunked", chunk), ("plain", None)):
            rows[name] = {} if size is None else {"rows at once": size}
            if backend() == "jax":
                steps[name], planned = jax_step(size, inputs)
                rows[name]["planned temporary memory, GB"] = round(planned, 4)
            else:
                steps[name] = make_step("eager", size)
    with turn(alone=True):
        for name, step in steps.items():  # the chunked one first: JAX keeps its peak
            gc.collect()
            forget_peak_memory()
            value, gradients = step(*inputs)
            wait_for(gradients)
            rows[name].update(peak_memory_gb())
            results[name] = [to_numpy(x) for x in (value, *gradients)]
            del value, gradients
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(2 if small else 5):
            for name, step in steps.items():
                times[name].append(seconds_each(lambda step=step: step(*inputs), 2))
    for name in steps:
        rows[name]["milliseconds"] = round(1000 * statistics.median(times[name]), 3)
    ratios = [a / b for a, b in zip(times["chunked"], times["plain"], strict=True)]
    rows["chunked / plain, time"] = round(statistics.median(ratios), 3)
    differences = [
        float(np.linalg.norm(a - b) / np.linalg.norm(b))
        for a, b in zip(results["chunked"], results["plain"], strict=True)
    ]
    names = ("value", "image gradient", "text gradient", "scale gradient")
    rows["relative difference"] = {
        name: float(f"{x:.3g}") for name, x in zip(names, differences, strict=True)
    }
    assert max(differences) < 1e-4, f"chunked and plain differ: {rows}"
    return rows


def to_numpy(x: Any) -> np.ndarray:
    """Returns a tensor of either backend as float64."""
    import keras

    return np.asarray(keras.ops.convert_to_numpy(x), "float64")
