"""The device under a backend: its name, its peak, its clock and its memory."""

import contextlib
import fcntl
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

# Dense bfloat16 operations a second with float32 accumulation, without sparsity.
# Source: NVIDIA's data sheets of H100, H200, A100, L40S and L4; the longest name that
# occurs in the device's own counts.
PEAK_TFLOPS = {
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,  # SXM, "NVIDIA H100 80GB HBM3"
    "H200": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
}
PRODUCT_SIZE = {False: 8192, True: 256}  # side of the measured product; small or not


def backend() -> str:
    """Returns the backend of this process."""
    import keras

    return keras.backend.backend()


def on_gpu() -> bool:
    """Returns whether the backend of this process computes on a GPU."""
    if backend() == "torch":
        import torch

        return torch.cuda.is_available()
    import jax

    return jax.default_backend() == "gpu"


def device_name() -> str:
    """Returns what the device calls itself."""
    if backend() == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    import jax

    return jax.devices()[0].device_kind


def wait_for(result: Any) -> None:
    """Returns when the device has computed `result` and all that came before it."""
    if backend() == "torch":
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return
    import jax

    jax.block_until_ready(result)


def seconds_each(run: Callable[[], Any], repeats: int) -> float:
    """Returns the mean time of runs that follow each other without a pause."""
    wait_for(run())
    start = time.perf_counter()
    for _ in range(repeats):
        result = run()
    wait_for(result)
    return (time.perf_counter() - start) / repeats


def forget_peak_memory() -> None:
    """Starts a new peak where the backend can: PyTorch on a GPU."""
    if backend() == "torch":
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def peak_memory_gb() -> dict[str, float]:
    """Returns the peak memory: the device's where it has its own, else the process's.

    JAX can't reset it: there it is the largest of the process so far.
    """
    peak = None
    if backend() == "torch":
        import torch

        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
    else:
        import jax

        stats = jax.devices()[0].memory_stats() or {}
        peak = stats.get("peak_bytes_in_use")
    if peak is not None:
        return {"peak device memory, GB": round(peak / 1e9, 3)}
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak process memory, GB": round(kilobytes * 1024 / 1e9, 3)}


@contextlib.contextmanager
def turn(alone: bool) -> Iterator[None]:
    """Waits until nobody measures, or, with `alone`, until nobody else is at work.

    Processes prepare (compile) side by side and measure one at a time, so that a
    measurement has the device to itself. The file is the parent's; without it there
    is one process.
    """
    path = os.environ.get("KERAS_PE_GPU_TURN")
    if path is None:
        yield
        return
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def measured_peak(small: bool) -> float:
    """Returns TFLOP/s of a large bfloat16 product of random numbers."""
    import keras

    side = PRODUCT_SIZE[small]
    a, b = (
        keras.ops.cast(keras.random.normal((side, side), seed=seed), "bfloat16")
        for seed in (1, 2)
    )
    product = keras.ops.matmul
    if backend() == "jax":
        import jax

        product = jax.jit(product)
    with turn(alone=True):
        times = [seconds_each(lambda: product(a, b), 10) for _ in range(5)]
    return 2 * side**3 / statistics.median(times) / 1e12


def describe(small: bool) -> dict[str, Any]:
    """Returns the device and the peak that shares are counted against."""
    name = device_name()
    known = [key for key in PEAK_TFLOPS if key in name]
    measured = measured_peak(small)
    return {
        "device": name,
        "on GPU": on_gpu(),
        "bfloat16 product, TFLOP/s": round(measured, 4),
        "peak, TFLOP/s": PEAK_TFLOPS[max(known, key=len)] if known else measured,
        "peak from": "data sheet" if known else "measured product",
        **versions(),
    }


def versions() -> dict[str, str]:
    """Returns the versions of what computes."""
    import importlib.metadata

    found = {}
    for name in ("keras", "torch", "jax", "timm"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
