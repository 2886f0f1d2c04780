"""From pixels to tokens: patches, class token and learned absolute positions."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import check_sizes, host_array
from keras_pe.layers.fine_tuning import Dense, LayerOfLayers
from keras_pe.layers.initializers import RandomNormal

# No slip in a mean and deviation comes so far, images of 0 to 255 do unless black.
LARGEST_PIXEL = 10.0


def bilinear_taps(size: int, native: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the two source rows and the blend weight of each target row.

    Half-pixel centres without antialiasing (PyTorch's `align_corners=False`), which
    is how Perception Encoder resamples its position embedding.

    Args:
        size: number of target rows.
        native: number of source rows.

    Returns:
        `(low, high, weight)`: int32, int32 and float32, each `(size,)`; a target row
        is `source[low] * (1 - weight) + source[high] * weight`.

    Source: upstream `core/vision_encoder/pe.py`, `_sample_abs_posemb`.
    """
    scale = np.float32(native) / np.float32(size)
    centre = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale
    centre = np.maximum(centre - np.float32(0.5), np.float32(0.0))
    low = np.minimum(centre.astype(np.int32), native - 1)
    high = np.minimum(low + 1, native - 1)
    return low, high, centre - low.astype(np.float32)


def resample_positions(  # positions: (native_rows * native_columns, hidden_dim)
    positions: Any, native_grid: tuple[int, int], grid: tuple[int, int]
) -> Any:
    """Resamples a grid of position embeddings bilinearly, in float32.

    Args:
        positions: `(rows * columns, hidden_dim)` on the native grid, no class token.
        native_grid: (rows, columns) that `positions` was made for.
        grid: (rows, columns) wanted.

    Returns:
        float32 `(grid_rows * grid_columns, hidden_dim)`.
    """
    hidden_dim = positions.shape[-1]
    table = ops.reshape(ops.cast(positions, "float32"), (*native_grid, hidden_dim))
    for axis in (0, 1):
        low, high, weight = bilinear_taps(grid[axis], native_grid[axis])
        weight = ops.convert_to_tensor(
            weight.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        )
        table = (
            ops.take(table, low, axis=axis) * (1.0 - weight)
            + ops.take(table, high, axis=axis) * weight
        )
    return ops.reshape(table, (grid[0] * grid[1], hidden_dim))


def tile_positions(  # positions: (native_rows * native_columns, hidden_dim)
    positions: Any, native_grid: tuple[int, int], grid: tuple[int, int]
) -> Any:
    """Repeats a grid of position embeddings from the top left, cut off at the edges.

    Args:
        positions: `(rows * columns, hidden_dim)` on the native grid, no class token.
        native_grid: (rows, columns) that `positions` was made for.
        grid: (rows, columns) wanted.

    Returns:
        `(grid_rows * grid_columns, hidden_dim)`.

    Source: Bolya et al. 2023, "Window Attention is Bugged" ("absolute win"); upstream
    `detectron2_pe/modeling/backbone/pev1_det.py`, `get_abs_pos`.
    """
    hidden_dim = positions.shape[-1]
    times = [-(-size // native) for size, native in zip(grid, native_grid, strict=True)]
    table = ops.reshape(positions, (*native_grid, hidden_dim))
    table = ops.tile(table, (*times, 1))[: grid[0], : grid[1]]
    return ops.reshape(table, (grid[0] * grid[1], hidden_dim))


def _shape_hint(shape: tuple[int | None, ...]) -> str:
    """Returns what to do with images of a shape that is not the expected one."""
    if len(shape) == 3 and shape[-1] == 3:
        return "One image is a batch of one: images[None]. "
    if len(shape) == 4 and shape[1] == 3:
        return "keras_pe is channels-last: keras.ops.moveaxis(images, 1, -1). "
    if len(shape) == 4 and shape[-1] == 1:
        return "Grey images repeat their channel: keras.ops.repeat(images, 3, -1). "
    if len(shape) == 4 and shape[-1] == 4:
        return "Without their alpha channel, images[..., :3], they have three. "
    return "keras_pe is channels-last. "


def _check_masks(shape: Any, images: int | None, patches: int) -> None:
    """Refuses masks of other images or patches; one row would be that of all images.

    Raises:
        ValueError: naming both shapes.
    """
    wanted = (images, patches)
    pairs = zip(shape, wanted, strict=False)
    if len(shape) != 2 or any(a != b for a, b in pairs if None not in (a, b)):
        raise ValueError(
            f"masked_patches must have a row for each image and a column for each "
            f"patch, {wanted}, got {tuple(shape)}."
        )


@keras.saving.register_keras_serializable("keras_pe")
class PatchEmbedding(LayerOfLayers):
    """Cuts images into patches, projects them, adds class token and positions.

    The projection is a `Dense` on flattened patches: the same arithmetic as the
    published strided convolution, but quantisable and faster on CPU.

    Args:
        patch_size: side of a patch, pixels.
        hidden_dim: channels of a token.
        native_grid: (rows, columns) of the learned position embedding.
        class_token: whether a learned token is put before the patches.
        tiled_positions: whether other grids than the native one repeat the position
            embedding, as windows need it, instead of resampling it.

    Example:
        >>> layer = PatchEmbedding(8, 32, native_grid=(4, 4), class_token=True)
        >>> tuple(layer(np.zeros((2, 32, 32, 3), "float32")).shape)
        (2, 17, 32)
    """

    def __init__(
        self,
        patch_size: int,
        hidden_dim: int,
        native_grid: tuple[int, int],
        class_token: bool = True,
        tiled_positions: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        rows, columns = native_grid
        check_sizes(
            patch_size=patch_size,
            hidden_dim=hidden_dim,
            native_grid_rows=rows,
            native_grid_columns=columns,
        )
        self.patch_size = patch_size
        self.hidden_dim = hidden_dim
        self.native_grid = (int(native_grid[0]), int(native_grid[1]))
        self.class_token = class_token
        self.tiled_positions = tiled_positions
        self.projection = Dense(
            hidden_dim, use_bias=False, dtype=self.dtype_policy, name="projection"
        )

    def build(self, images_shape: Any) -> None:
        self.projection.build((None, None, 3 * self.patch_size**2))
        initializer = RandomNormal(stddev=self.hidden_dim**-0.5)
        tokens = self.native_grid[0] * self.native_grid[1] + int(self.class_token)
        if self.class_token:
            self.class_embedding = self.add_weight(
                shape=(self.hidden_dim,),
                initializer=initializer,
                name="class_embedding",
            )
        self.position_embedding = self.add_weight(
            shape=(tokens, self.hidden_dim),
            initializer=RandomNormal(stddev=self.hidden_dim**-0.5),
            name="position_embedding",
        )
        self.restore_when_built()

    def grid(self, images_shape: Any) -> tuple[int, int]:
        """Returns (rows, columns) of patches of images of this shape, or raises."""
        if len(images_shape) != 4 or images_shape[-1] != 3:
            raise ValueError(
                f"Expected images of shape (batch, height, width, 3), got "
                f"{tuple(images_shape)}. {_shape_hint(tuple(images_shape))}"
                f"PEImageConverter makes such arrays from files, PIL images or arrays."
            )
        height, width = images_shape[1], images_shape[2]
        if height is None or width is None:
            raise ValueError(
                "Height and width of the images must be known when the model is "
                "traced (each size is compiled once), got "
                f"{tuple(images_shape)}. Give the input a fixed height and width."
            )
        if height % self.patch_size or width % self.patch_size or not height * width:
            near = " or ".join(
                f"{h}x{w}"
                for h, w in dict.fromkeys(
                    (self._near(height, up), self._near(width, up)) for up in (0, 1)
                )
            )
            raise ValueError(
                f"Images must have a height and width that are multiples of the "
                f"patch size {self.patch_size}, got {height}x{width} pixels. Resize "
                f"them, for example to {near}."
            )
        return height // self.patch_size, width // self.patch_size

    def _near(self, size: int, up: int) -> int:
        whole, rest = divmod(size, self.patch_size)
        return max(whole + (up if rest else 0), 1) * self.patch_size

    def positions(self, grid: tuple[int, int]) -> Any:
        """Returns float32 position embeddings, class token first, for a grid."""
        table = ops.cast(self.position_embedding, "float32")
        if grid == self.native_grid:
            return table
        first = int(self.class_token)
        fit = tile_positions if self.tiled_positions else resample_positions
        patches = fit(table[first:], self.native_grid, grid)
        return ops.concatenate([table[:first], patches]) if first else patches

    def call(  # images: (batch, height, width, 3)
        self, images: Any, masked_patches: Any = None, mask_embedding: Any = None
    ) -> Any:
        """Embeds images.

        Args:
            images: `(batch, height, width, 3)`.
            masked_patches: bool `(batch, patches)`; where true, `mask_embedding`
                stands in for the patch. Its position is still added.
            mask_embedding: `(hidden_dim,)`.

        Returns:
            `(batch, tokens, hidden_dim)`, class token first.

        Raises:
            ValueError: if images or masks have another shape.
        """
        rows, columns = self.grid(images.shape)
        side = self.patch_size
        x = ops.reshape(images, (-1, rows, side, columns, side, 3))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, rows * columns, side * side * 3))
        x = self.projection(x)  # (batch, patches, hidden_dim)
        if masked_patches is not None:
            _check_masks(masked_patches.shape, images.shape[0], rows * columns)
            masked = ops.cast(masked_patches, "bool")[..., None]
            x = ops.where(masked, ops.cast(mask_embedding, x.dtype), x)
        if self.class_token:
            token = ops.cast(self.class_embedding, x.dtype)[None, None]
            token = ops.broadcast_to(token, (ops.shape(x)[0], 1, self.hidden_dim))
            x = ops.concatenate([token, x], axis=1)
        return x + ops.cast(self.positions((rows, columns)), x.dtype)

    def compute_output_shape(
        self, images_shape: Any, **shapes: Any
    ) -> tuple[int | None, ...]:
        rows, columns = self.grid(images_shape)
        tokens = rows * columns + int(self.class_token)
        return (images_shape[0], tokens, self.hidden_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "hidden_dim": self.hidden_dim,
            "native_grid": self.native_grid,
            "class_token": self.class_token,
            "tiled_positions": self.tiled_positions,
        }


# === Pixels that can not be right ===
def check_floating(images: Any) -> None:
    """Refuses images that are no floating point numbers: no model reads 0 to 255.

    Raises:
        ValueError: naming the dtype.
    """
    odd = getattr(images.dtype, "kind", "f") in "OSTUV"  # unknown to Keras
    dtype = str(images.dtype if odd else keras.backend.standardize_dtype(images.dtype))
    if not dtype.startswith(("float", "bfloat")):
        raise ValueError(
            f"Images must be floating point in [-1, 1], got {dtype}. "
            f"PEImageConverter makes them from files, PIL images or uint8 arrays; in a "
            f"model put keras.layers.Rescaling(1 / 127.5, offset=-1) first."
        )


def check_pixels(images: Any) -> None:
    """Refuses images that are not scaled to [-1, 1], as far as that can be seen.

    The dtype is known wherever a model runs. Values are looked at where that is free:
    not in a trace, not on an accelerator.

    Raises:
        ValueError: naming dtype or range.
    """
    check_floating(images)
    values = host_array(images)
    if values is None or not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if max(-low, high) > LARGEST_PIXEL:
        raise ValueError(
            f"Images must be floating point in [-1, 1], got values from {low:g} to "
            f"{high:g}. PEImageConverter scales images of 0 to 255, as does "
            f"keras.layers.Rescaling(1 / 127.5, offset=-1)."
        )


def without_wrong_images(tokens: Any, images: Any) -> Any:
    """Returns tokens in which images that `check_pixels` would refuse are NaN.

    Inside a compiled step nothing can be refused: one trained on 0 to 255 would only
    seem to learn little. It is the loss that says so there.

    Args:
        tokens: `(batch, tokens, hidden_dim)` of the images.
        images: `(batch, height, width, 3)`.

    Returns:
        The tokens, as they are where `check_pixels` has looked.
    """
    if host_array(images) is not None:
        return tokens
    largest = ops.max(ops.abs(images), axis=(1, 2, 3))[:, None, None]
    nan = ops.cast(float("nan"), tokens.dtype)
    return ops.where(largest > LARGEST_PIXEL, nan, tokens)
