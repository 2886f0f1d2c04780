"""How a tensor of a foreign file becomes weights of ours."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_pe.presets.assign import Rule, rule


def transposed(array: np.ndarray) -> np.ndarray:
    """(out, in) of PyTorch's Linear to (in, out) of Keras' Dense."""
    return array.T


def flat(array: np.ndarray) -> np.ndarray:
    """Drops leading axes of length 1: (1, 1, hidden) to (hidden,)."""
    return array.reshape(array.shape[-1])


def scalar(array: np.ndarray) -> np.ndarray:
    """(1,) to ()."""
    return array.reshape(())


def without_batch(array: np.ndarray) -> np.ndarray:
    """(1, tokens, hidden) to (tokens, hidden)."""
    return array[0]


def patch_kernel(array: np.ndarray) -> np.ndarray:
    """(hidden, 3, patch, patch) of a convolution to (patch * patch * 3, hidden)."""
    return array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])


def first_third(array: np.ndarray) -> np.ndarray:
    """The query part of a fused (3 * hidden, ...) projection, as Dense has it."""
    return array[: array.shape[0] // 3].T


def last_thirds(array: np.ndarray) -> np.ndarray:
    """The key and value part of a fused projection, as Dense has it."""
    return array[array.shape[0] // 3 :].T


def norm_rules(source: str, target: str, channels: int) -> Iterable[Rule]:
    """Returns the rules of a LayerNorm."""
    yield rule(f"{source}.weight", (channels,), f"{target}/gamma")
    yield rule(f"{source}.bias", (channels,), f"{target}/beta")


def linear_rules(source: str, target: str, inputs: int, outputs: int) -> Iterable[Rule]:
    """Returns the rules of a Linear with bias."""
    yield rule(f"{source}.weight", (outputs, inputs), f"{target}/kernel", transposed)
    yield rule(f"{source}.bias", (outputs,), f"{target}/bias")


def grid_tokens(config: Mapping[str, Any]) -> int:
    """Returns the tokens of the native position embedding."""
    side = config["image_size"] // config["patch_size"]
    return side * side + int(config["class_token"])
