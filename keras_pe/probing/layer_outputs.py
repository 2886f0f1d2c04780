"""The outputs of a model's layers, all from one compiled forward pass."""

import functools
import re
import types
from collections.abc import Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import check_switches, is_whole
from keras_pe.models.compiled import no_gradient, run_compiled
from keras_pe.models.core import PECore
from keras_pe.models.tower import resolve_layers
from keras_pe.models.vision_arguments import check_parts
from keras_pe.models.vision_encoder import PEVisionEncoder

# What is kept of a layer's tokens. "tokens" are those of the patches and the class
# token; "map" has the patches alone, in their places.
Reading = Literal["average", "class_token", "average_and_class_token", "tokens", "map"]
LayerName = int | str


class LayerOutputs:
    """Gives what a probe reads of each layer, for a batch of images.

    Args:
        encoder: a `PEVisionEncoder` or `PECore`, or any Keras model whose output is a
            list or a dictionary with one tensor a layer: `(batch, tokens, channels)`,
            `(batch, rows, columns, channels)` or `(batch, channels)`. See
            `intermediate_model` for models that return their last layer only.
        layers: "all", or some: numbers as in `PEVisionEncoder.features`; of other
            models numbers from 1 if they return a list, keys if a dictionary. The
            order is always the model's, so that the last one is the last.
        norm: whether the encoder's final norm is applied to each layer (PE only).
        prefix_tokens: tokens before the patches, of other models; PE's are known.

    Attributes:
        names: the layers in order. Empty before the first batch, if the model is one
            that does not know its outputs before it is called.

    Raises:
        ValueError: if there is no such layer, or no norm, or `prefix_tokens` is no
            number of tokens.
        TypeError: if the model returns a single tensor.

    Example:
        >>> import numpy as np
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> outputs = LayerOutputs(encoder)
        >>> outputs.names
        (0, 1, 2)
        >>> outputs(np.zeros((1, 16, 16, 3), "float32"), "average")[2].shape
        (1, 16)
    """

    names: tuple[LayerName, ...]

    def __init__(
        self,
        encoder: keras.Model,
        layers: Literal["all"] | Sequence[LayerName] = "all",
        norm: bool = False,
        prefix_tokens: int = 0,
    ) -> None:
        check_switches(norm=norm)
        if not is_whole(prefix_tokens) or prefix_tokens < 0:
            raise ValueError(
                f"prefix_tokens must be a whole number of at least 0, got "
                f"{prefix_tokens!r:.80}: 1 for a class token, 0 for none."
            )
        if isinstance(encoder, PECore):
            encoder = encoder.vision_encoder
        self.encoder = encoder
        self.norm = norm
        _check_layers(layers)
        if isinstance(encoder, PEVisionEncoder):
            check_parts(encoder, norm, class_token=False)
            every = range(encoder.num_layers + 1)
            chosen = every if layers == "all" else layers
            numbers = resolve_layers(list(chosen), encoder.num_layers)  # type: ignore[arg-type]
            self.names = tuple(sorted(set(numbers)))
            self.prefix_tokens = int(encoder.class_token)
            return
        if norm:
            raise ValueError("norm=True is for PE encoders; put the norm in the model.")
        self.prefix_tokens, self.layers = prefix_tokens, layers
        outputs = functional_outputs(encoder)
        self.names = () if outputs is None else chosen_names(tuple(outputs), layers)

    def __call__(  # images: (batch, height, width, 3) as the model expects them
        self, images: Any, reading: Reading
    ) -> list[np.ndarray]:
        """Returns one float32 array a layer, in the order of `names`.

        Args:
            images: `(batch, height, width, 3)`.
            reading: "average" over patches, "class_token", both next to each other:
                `(batch, channels)`; "tokens": `(batch, tokens, channels)`; "map":
                `(batch, rows, columns, channels)`.

        Raises:
            ValueError: if the model has no class token, or no tokens at all.
        """
        if reading not in get_args(Reading):
            raise ValueError(
                f"reading={reading!r}: expected one of {', '.join(get_args(Reading))}."
            )
        if "class_token" in reading and not self.prefix_tokens:
            raise ValueError(
                f"{reading!r} was asked of an encoder without a class token. Ask for "
                f'"average".'
            )
        model = self.encoder
        if isinstance(model, PEVisionEncoder):
            images = model.checked_images(images)
            grid = model.patch_embedding.grid(images.shape)
        else:
            images, grid = ops.convert_to_tensor(images, dtype="float32"), None
            if not self.names:
                with no_gradient():
                    outputs = by_name(model(images[:1], training=False))
                self.names = chosen_names(tuple(outputs), self.layers)
        method = functools.partial(
            types.MethodType(layer_values, model),
            names=self.names,
            reading=reading,
            norm=self.norm,
            prefix_tokens=self.prefix_tokens,
            grid=grid,
        )
        key = ("probing", self.names, reading, self.norm, self.prefix_tokens)
        with no_gradient():
            values = run_compiled(model, key, method, images)
        return [ops.convert_to_numpy(value) for value in values]


# === Inside the compiled function ===
def layer_values(
    model: keras.Model,
    images: Any,
    names: tuple[LayerName, ...],
    reading: Reading,
    norm: bool,
    prefix_tokens: int,
    grid: tuple[int, int] | None,
) -> list[Any]:
    """Returns what is read of each layer. Nothing that isn't read leaves the device."""
    if isinstance(model, PEVisionEncoder):
        numbers = tuple(int(name) for name in names)
        values = model._feature_values(
            images, layers=numbers, norm=norm, class_token=model.class_token
        )
    else:
        outputs = by_name(model(images, training=False))
        values = [outputs[name] for name in names]
    return [
        ops.cast(read(value, reading, prefix_tokens, grid), "float32")
        for value in values
    ]


def read(  # (batch, tokens, channels), (batch, rows, columns, channels) or vectors
    value: Any, reading: Reading, prefix_tokens: int, grid: tuple[int, int] | None
) -> Any:
    """Returns the part or the average of a layer's output that a probe reads."""
    if len(value.shape) == 2:
        if reading in ("tokens", "map"):
            raise ValueError(
                f"A layer returns vectors, shape {tuple(value.shape)}: {reading!r} "
                f"needs its tokens."
            )
        return value
    if len(value.shape) == 4:
        if reading == "map":
            return value
        shape = (-1, value.shape[1] * value.shape[2], value.shape[3])
        value, prefix_tokens = ops.reshape(value, shape), 0
    if reading == "tokens":
        return value
    patches = value[:, prefix_tokens:]
    if reading == "map":
        rows, columns = grid or square(patches.shape[1])
        return ops.reshape(patches, (-1, rows, columns, patches.shape[2]))
    average = ops.mean(ops.cast(patches, "float32"), axis=1)
    if reading == "average":
        return average
    class_token = ops.cast(value[:, 0], "float32")
    if reading == "class_token":
        return class_token
    return ops.concatenate([average, class_token], axis=-1)


def square(patches: int) -> tuple[int, int]:
    """Returns the grid of so many patches, or says that it is not known."""
    side = round(patches**0.5)
    if side * side != patches:
        raise ValueError(
            f"{patches} patches are no square, and the model does not say how they "
            f"lie. Return maps (batch, rows, columns, channels), or set prefix_tokens."
        )
    return side, side


# === Any Keras model ===
def intermediate_model(model: keras.Model, layer_names: Sequence[str]) -> keras.Model:
    """Returns a model that returns the outputs of chosen layers of a functional one.

    Args:
        model: a functional model, such as a KerasHub CLIP or SigLIP vision encoder.
        layer_names: names of its layers, in order.

    Raises:
        ValueError: if a layer is missing.

    Example:
        >>> x = keras.Input((8,))
        >>> y = keras.layers.Dense(4, name="a")(x)
        >>> model = keras.Model(x, keras.layers.Dense(2, name="b")(y))
        >>> list(intermediate_model(model, ["a", "b"]).output)
        ['a', 'b']
    """
    known = {layer.name: layer for layer in model.layers}
    missing = [name for name in layer_names if name not in known]
    if missing:
        raise ValueError(
            f"{model.name} has no layer {missing[0]!r}. Its layers: {', '.join(known)}."
        )
    return keras.Model(model.inputs, {name: known[name].output for name in layer_names})


def by_name(outputs: Any) -> dict[LayerName, Any]:
    """Returns a model's outputs by name, or by number from 1."""
    if isinstance(outputs, dict):
        return outputs
    if isinstance(outputs, list | tuple):
        return dict(enumerate(outputs, start=1))
    raise TypeError(
        "A sweep needs a model that returns several layers, as a list or a dictionary; "
        "this one returns one tensor. `keras_pe.probing.intermediate_model` makes one "
        "of a functional model."
    )


def functional_outputs(model: keras.Model) -> dict[LayerName, Any] | None:
    """Returns the symbolic outputs of a functional model, first layer first.

    None for a model that has no outputs before it is called.
    """
    symbolic = getattr(model, "output", None)
    if symbolic is None:
        return None
    outputs = by_name(symbolic)
    if not isinstance(symbolic, dict):
        return outputs
    # Keras sorts dictionaries: "block_10" would stand before "block_2", and the last
    # layer would be another one. The graph knows better.
    depth = {id(layer): place for place, layer in enumerate(model.layers)}

    def place(name: LayerName) -> tuple[int, list[tuple[int, str]]]:
        history = outputs[name]._keras_history
        return depth.get(id(history.operation), 0), natural(str(name))

    return {name: outputs[name] for name in sorted(outputs, key=place)}


def natural(name: str) -> list[tuple[int, str]]:
    """Returns a key that sorts numbers in names as numbers: "stage2", "stage10"."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _check_layers(layers: Any) -> None:
    """Refuses what names no layers, before anything is encoded."""
    if isinstance(layers, str):
        known = layers == "all"
    else:
        known = hasattr(layers, "__len__") and len(layers) > 0
    if not known:
        raise ValueError(
            f'layers={layers!r}: expected "all" or a list of at least one layer, such '
            f"as [2, 4]."
        )


def chosen_names(
    known: tuple[LayerName, ...], layers: Literal["all"] | Sequence[LayerName]
) -> tuple[LayerName, ...]:
    """Returns the layers asked for, in the model's order."""
    if isinstance(layers, str):
        return known
    for layer in layers:
        if layer not in known:
            raise ValueError(f"There is no layer {layer!r}. Known: {known}.")
    return tuple(name for name in known if name in layers)
