"""What a vision encoder hands back when it is asked for a layer."""

import dataclasses
from typing import Any, Self


@dataclasses.dataclass(frozen=True)
class Features:
    """Tokens of one layer, with all that is needed to read them.

    Attributes:
        values: `(batch, tokens, hidden_dim)`; row by row over `grid`, after the class
            token if there is one.
        layer: number of the layer: k is the output of block k, 0 the input of block 1.
        normed: whether the encoder's final norm was applied.
        grid: (rows, columns) of patches.
        class_token: whether `values` starts with the class token.
    """

    values: Any
    layer: int
    normed: bool
    grid: tuple[int, int]
    class_token: bool

    def map(self) -> Any:
        """Returns the patch tokens as `(batch, rows, columns, hidden_dim)`."""
        from keras import ops

        patches = self.values[:, 1:] if self.class_token else self.values
        return ops.reshape(patches, (-1, *self.grid, patches.shape[-1]))

    # A function that JAX or TensorFlow compiles may take and return these. JAX is told
    # by `models/compiled.py`; TensorFlow asks for the two methods.
    def __tf_flatten__(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        named = (self.layer, self.normed, self.grid, self.class_token)
        return named, (self.values,)

    @classmethod
    def __tf_unflatten__(cls, named: tuple[Any, ...], values: tuple[Any, ...]) -> Self:
        return cls(*values, *named)

    def __repr__(self) -> str:
        return (
            f"Features(layer={self.layer}, normed={self.normed}, grid={self.grid}, "
            f"class_token={self.class_token}, shape={tuple(self.values.shape)})"
        )


def resolve_layers(
    layers: int | list[int] | tuple[int, ...], num_layers: int
) -> tuple[int, ...]:
    """Turns layer numbers, negatives allowed, into numbers from 0 to `num_layers`.

    Args:
        layers: one number or several; k is the output of block k, 0 the input of the
            first block, -1 the last block.
        num_layers: blocks of the encoder.

    Raises:
        ValueError: if a number is out of range.
        TypeError: if it is no whole number.
    """
    numbers = list(layers) if isinstance(layers, list | tuple) else [layers]
    resolved = []
    for number in numbers:
        if isinstance(number, bool) or not hasattr(number, "__index__"):
            raise TypeError(
                f"Layers are whole numbers, got {number!r} ({type(number).__name__})."
            )
        number = number.__index__()
        if not -num_layers <= number <= num_layers:
            raise ValueError(
                f"This encoder has layers 0 (input of the first block) to "
                f"{num_layers} (output of the last), or -1 to -{num_layers} counted "
                f"from the end; got {number}."
            )
        resolved.append(number if number >= 0 else num_layers + 1 + number)
    return tuple(resolved)
