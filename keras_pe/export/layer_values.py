"""What each layer of a tower gives: to find where a file leaves the model."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_pe.models.tower import Tower

Seen = dict[str, Any]


def layer_names(tower: Tower) -> tuple[str, ...]:
    """Returns the names of a tower's layers, in the order they run in."""
    return tuple(_layers(tower))


def _layers(tower: Tower) -> dict[str, keras.layers.Layer]:
    found: dict[str, Any] = {}
    for name in ("patch_embedding", "pre_norm"):
        if hasattr(tower, name):
            found[name] = getattr(tower, name)
    for number, block in enumerate(tower.blocks, start=1):
        name = f"block_{number}"
        found[f"{name}/attention"] = block.attention_scale or block.attention
        found[f"{name}/feed_forward"] = block.feed_forward_scale or block.feed_forward
        found[name] = block
    for name in ("norm", "attention_pooling", "projection"):
        if getattr(tower, name, None) is not None:
            found[name] = getattr(tower, name)
    return found


def file_value(name: str) -> str:
    """Returns the name of the value in an ONNX file that a layer's output has.

    Example:
        >>> file_value("block_1/attention"), file_value("block_1")
        ('block_1/attention/output', 'block_1')
    """
    for layer, last in (("/attention", "/output"), ("/feed_forward", "/contract")):
        if name.endswith(layer):
            return name + last
    return name


@contextlib.contextmanager
def recorded(tower: Tower) -> Iterator[Seen]:
    """Keeps what each layer returns, by name, while the block runs.

    Example:
        >>> import numpy as np, keras_pe
        >>> encoder = keras_pe.PEVisionEncoder(image_size=32, patch_size=8,
        ...     hidden_dim=32, num_layers=1, num_heads=4, intermediate_dim=64)
        >>> with recorded(encoder) as seen:
        ...     _ = encoder(np.zeros((1, 32, 32, 3), "float32"))
        >>> tuple(seen["block_1/attention"].shape)
        (1, 17, 32)
    """
    seen: Seen = {}

    def keeping(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*arguments: Any, **options: Any) -> Any:
            seen[name] = call(*arguments, **options)
            return seen[name]

        return kept

    layers = _layers(tower)
    for name, layer in layers.items():
        object.__setattr__(layer, "call", keeping(name, layer.call))
    try:
        yield seen
    finally:
        for layer in layers.values():
            object.__delattr__(layer, "call")


def outputs_with_layers(tower: Tower, inputs: Any, layers: tuple[str, ...]) -> Any:
    """Returns the tower's output, then that of each of `layers`."""
    if not layers:
        return (tower(inputs, training=False),)
    with recorded(tower) as seen:
        output = tower(inputs, training=False)
    return (output, *(seen[name] for name in layers))
