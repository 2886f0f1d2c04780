"""From an encoder's patches to what a language model reads."""

from typing import Any, Literal

import keras
from keras import ops

from keras_pe.arrays import check_sizes, check_switches, is_whole
from keras_pe.layers.fine_tuning import Dense, LayerOfLayers

Merge = Literal["average", "shuffle"]


@keras.saving.register_keras_serializable("keras_pe")
class VisionProjector(LayerOfLayers):
    """Brings patches to a language model's channels, and may merge neighbours before.

    Args:
        input_dim: channels of a patch, the encoder's `hidden_dim`.
        output_dim: channels of the language model's embeddings.
        pooling: side of the squares of patches that become one token; 1 for none. The
            paper's PE lang has 1, PLM 2.
        merge: how they do: "average", as upstream, or "shuffle", which puts their
            channels one after another.
        depth: 2 for an MLP with a GELU, as the paper's; 1 for a matrix.
        norm: whether patches are normalised first, which upstream does not. Channels of
            inner layers have standard deviations of 1 to 18 in the bundled encoder, and
            embeddings of words in a new language model some hundredths.

    Source: Perception Encoder, section 5; upstream `core/vision_projector/mlp.py`. The
        norm is ours; InternVL's `mlp1` has one too, after patches are merged.

    Example:
        >>> import numpy as np
        >>> layer = VisionProjector(32, 64, pooling=2)
        >>> tuple(layer(np.zeros((1, 24, 32), "float32"), grid=(4, 6)).shape)
        (1, 6, 64)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        pooling: int = 1,
        merge: Merge = "average",
        depth: int = 2,
        norm: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        # Its own name, as models have: files and logs know weights by it.
        super().__init__(name=name or "vision_projector", autocast=False, **kwargs)
        check_sizes(input_dim=input_dim, output_dim=output_dim, pooling=pooling)
        check_switches(norm=norm)
        check_projection(merge, depth)
        self.input_dim, self.output_dim = input_dim, output_dim
        self.pooling, self.merge, self.depth = pooling, merge, depth
        self.norm = self.expand = None
        if norm:
            self.norm = keras.layers.LayerNormalization(
                epsilon=1e-6, dtype=self.dtype_policy, name="norm"
            )
        if depth == 2:
            self.expand = Dense(output_dim, dtype=self.dtype_policy, name="expand")
        self.contract = Dense(output_dim, dtype=self.dtype_policy, name="contract")
        self.build((None, None, input_dim))

    def build(self, x_shape: Any) -> None:
        if getattr(self, "built", False):
            return
        factor = self.pooling**2 if self.merge == "shuffle" else 1
        merged = (None, None, self.input_dim * factor)
        if self.norm is not None:
            self.norm.build((None, None, self.input_dim))
        if self.expand is not None:
            self.expand.build(merged)
            merged = (None, None, self.output_dim)
        self.contract.build(merged)
        self.restore_when_built()
        self.built = True

    def call(self, x: Any, grid: tuple[int, int]) -> Any:  # (batch, patches, input_dim)
        """Returns `(batch, patches / pooling ** 2, output_dim)`, row by row.

        Args:
            x: patches row by row, without a class token.
            grid: (rows, columns) of patches.

        Raises:
            ValueError: if these are not the patches of that grid, or squares do not
                fill it.
        """
        if len(x.shape) != 3 or x.shape[2] != self.input_dim:
            raise ValueError(
                f"Expected patches (batch, patches, {self.input_dim}), got "
                f"{tuple(x.shape)}."
            )
        x = ops.cast(x, self.compute_dtype)
        if self.norm is not None:
            x = self.norm(x)
        x = merged_patches(x, grid, self.pooling, self.merge)
        if self.expand is not None:
            x = ops.gelu(self.expand(x), approximate=False)
        return self.contract(x)

    def compute_output_shape(self, x_shape: Any, grid: tuple[int, int]) -> Any:
        check_grid(x_shape[1], grid, self.pooling)
        patches = grid[0] * grid[1] // self.pooling**2
        return (x_shape[0], patches, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "pooling": self.pooling,
            "merge": self.merge,
            "depth": self.depth,
            "norm": self.norm is not None,
        }


def merged_patches(
    x: Any,  # (batch, patches, channels)
    grid: tuple[int, int],
    side: int,
    merge: Merge,
) -> Any:
    """Returns one token for each square of patches; see `VisionProjector`."""
    (rows, columns), channels = grid, x.shape[2]
    check_grid(x.shape[1], grid, side)
    if side == 1:
        return x
    shape = (-1, rows // side, side, columns // side, side, channels)
    x = ops.transpose(ops.reshape(x, shape), (0, 1, 3, 2, 4, 5))
    tokens = rows * columns // side**2
    if merge == "shuffle":
        return ops.reshape(x, (-1, tokens, side * side * channels))
    return ops.mean(ops.reshape(x, (-1, tokens, side * side, channels)), axis=2)


def check_grid(patches: int | None, grid: tuple[int, int], side: int) -> None:
    """Raises ValueError if squares of `side` do not fill a grid of so many patches."""
    rows, columns = grid
    known = rows * columns if patches is None else patches
    whole = min(rows, columns) > 0 and rows % side == columns % side == 0
    if known != rows * columns or not whole:
        raise ValueError(
            f"Expected {rows}x{columns} patches, in squares of {side}, got "
            f"{known}. Leave out class tokens, and give sizes of images that "
            f"squares of {side} patches fill."
        )


def check_projection(merge: Any, depth: Any) -> None:
    """Raises ValueError if there is no such way to merge, or no such depth.

    Example:
        >>> check_projection("shuffle", 2)
    """
    if not isinstance(merge, str) or merge not in ("average", "shuffle"):
        raise ValueError(f'merge must be "average" or "shuffle", got {merge!r}.')
    if not is_whole(depth) or depth not in (1, 2):
        raise ValueError(f"depth must be 1 or 2, got {depth!r}.")


def check_widths(projector: VisionProjector, encoder: Any, decoder: Any) -> None:
    """Raises ValueError if a projector does not lead from an encoder to a decoder."""
    widths = (
        ("input_dim", projector.input_dim, "the encoder", encoder.hidden_dim),
        ("output_dim", projector.output_dim, "the decoder", decoder.hidden_dim),
    )
    for option, found, whose, expected in widths:
        if found != expected:
            raise ValueError(
                f"The projector's {option} must be the channels of {whose}, "
                f"{expected}, got {found}."
            )
