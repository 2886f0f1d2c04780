"""What Keras' own layers of the shapes of PE-Spatial-T16 take beside their weights.

Run:      KERAS_BACKEND=jax python benchmarks/stock_layers_memory.py float32
Expect:   the peak of building and assigning them, and what stays, as multiples of the
          weights: the control for the smallest models of `load_memory.py`.
"""

import ctypes
import gc
import sys
from typing import Any

import keras
import numpy as np


def kilobytes(field: str) -> int:
    """Returns a figure of this process's memory."""
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith(field)).split()[1])


def hand_back() -> None:
    """Hands free memory back to the system, which else counts as used."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def build(hidden: int, inner: int, blocks: int, dtype: str) -> list[Any]:
    """Returns the layers of transformer blocks, filled with one number."""
    layers: list[Any] = []
    for _ in range(blocks):
        for rows, columns in (
            (hidden, 3 * hidden),
            (hidden, hidden),
            (hidden, inner),
            (inner, hidden),
        ):
            dense = keras.layers.Dense(columns, dtype=dtype, kernel_initializer="zeros")
            dense.build((None, rows))
            layers.append(dense)
        for _ in range(2):
            norm = keras.layers.LayerNormalization(dtype=dtype)
            norm.build((None, hidden))
            layers.append(norm)
    for layer in layers:
        for variable in layer.variables:
            variable.assign(np.full(variable.shape, 0.1, "float32"))
    return layers


def main() -> None:
    """Measures and prints."""
    dtype = sys.argv[1]
    small = build(8, 16, 1, dtype)  # so that the libraries have what they need
    hand_back()
    before = kilobytes("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # VmHWM begins anew
    layers = build(192, 768, 12, dtype)
    size = sum(
        int(np.prod(variable.shape)) * (2 if dtype == "bfloat16" else 4)
        for layer in layers
        for variable in layer.variables
    )
    peak = kilobytes("VmHWM") - before
    hand_back()
    after = kilobytes("VmRSS") - before
    print(
        f"{keras.backend.backend()} {dtype}: {size / 1e6:.1f} MB, peak "
        f"{1024 * peak / size:.2f}, afterwards {1024 * after / size:.2f} ({len(small)})"
    )


if __name__ == "__main__":
    main()
