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
