"""Cuts a grid of tokens into windows that attend among themselves, and joins them."""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from keras_pe.layers.attention import RotaryTable


@dataclasses.dataclass(frozen=True)
class Windows:
    """One grid of tokens, cut into windows.

    A window is treated as an image of its own: its tokens see each other alone, and
    each has a copy of the class token in front. While windowed blocks follow each
    other, the copies go their own ways; where the windows are joined, their mean,
    weighted by the patches of each window, becomes the class token again. So an
    encoder of windowed blocks alone computes exactly what it would compute for each
    window cut out of the image.

    Windows start at the top left. Where they do not divide the grid, those at the
    bottom and at the right are filled up with zeros, which `padding_mask` keeps out of
    the attention (ViTDet lets tokens attend to its padding).

    Attributes:
        grid: (rows, columns) of patches of the image.
        window: (rows, columns) of patches of a window.
        class_token: whether the first token is the class token.

    Source: Li et al. 2022, "Exploring Plain Vision Transformer Backbones for Object
    Detection", section 3. The class token is our addition: the published PE detectors
    have none.

    Example:
        >>> windows = Windows(grid=(4, 6), window=(4, 4), class_token=True)
        >>> cut = windows.partition(np.zeros((2, 25, 32), "float32"))
        >>> tuple(cut.shape), tuple(windows.merge(cut).shape)
        ((4, 17, 32), (2, 25, 32))
    """

    grid: tuple[int, int]
    window: tuple[int, int]
    class_token: bool

    @classmethod
    def over(
        cls, grid: tuple[int, int], window_size: int, class_token: bool
    ) -> "Windows | None":
        """Returns square windows over a grid; None where one covers all of it.

        Along an axis that is shorter than a window, the window is as short.
        """
        window = (min(window_size, grid[0]), min(window_size, grid[1]))
        return None if window == grid else cls(grid, window, class_token)

    @property
    def counts(self) -> tuple[int, int]:
        """(rows, columns) of windows."""
        return -(-self.grid[0] // self.window[0]), -(-self.grid[1] // self.window[1])

    @property
    def count(self) -> int:
        """Number of windows."""
        return self.counts[0] * self.counts[1]

    def partition(self, x: Any) -> Any:  # (batch, tokens, hidden_dim)
        """Returns `(batch * windows, window tokens, hidden_dim)`, row by row."""
        patches = x[:, 1:] if self.class_token else x
        patches = self._cut(patches)
        if not self.class_token:
            return patches
        tokens = ops.repeat(x[:, :1], self.count, axis=0)
        return ops.concatenate([tokens, patches], axis=1)

    def _cut(self, patches: Any) -> Any:  # (batch, patches, hidden_dim)
        (rows, columns), (height, width) = self.grid, self.window
        (down, across), channels = self.counts, patches.shape[-1]
        x = ops.reshape(patches, (-1, rows, columns, channels))
        below, right = down * height - rows, across * width - columns
        if below or right:
            x = ops.pad(x, ((0, 0), (0, below), (0, right), (0, 0)))
        x = ops.reshape(x, (-1, down, height, across, width, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height * width, channels))

    def merge(self, x: Any) -> Any:  # (batch * windows, window tokens, hidden_dim)
        """Returns `(batch, tokens, hidden_dim)`: undoes `partition`."""
        (rows, columns), (height, width) = self.grid, self.window
        (down, across), channels = self.counts, x.shape[-1]
        patches = x[:, 1:] if self.class_token else x
        patches = ops.reshape(patches, (-1, down, across, height, width, channels))
        patches = ops.transpose(patches, (0, 1, 3, 2, 4, 5))
        patches = ops.reshape(patches, (-1, down * height, across * width, channels))
        patches = patches[:, :rows, :columns]
        patches = ops.reshape(patches, (-1, rows * columns, channels))
        if not self.class_token:
            return patches
        tokens = ops.reshape(x[:, :1], (-1, self.count, channels))
        share = self._real_patches().mean(axis=1)
        share = ops.convert_to_tensor((share / share.sum())[:, None], dtype="float32")
        token = ops.sum(ops.cast(tokens, "float32") * share, axis=1, keepdims=True)
        return ops.concatenate([ops.cast(token, x.dtype), patches], axis=1)

    def padding_mask(self, x: Any) -> Any:  # (batch * windows, window tokens, ...)
        """Returns which tokens may be attended to, or None where all may.

        Args:
            x: tokens from `partition`.

        Returns:
            bool `(batch * windows, 1, 1, window tokens)`.
        """
        real = self._real_patches()
        if real.all():
            return None
        if self.class_token:
            real = np.pad(real, ((0, 0), (1, 0)), constant_values=True)
        mask = ops.convert_to_tensor(real[:, None, None], dtype="bool")
        return ops.tile(mask, (ops.shape(x)[0] // self.count, 1, 1, 1))

    def _real_patches(self) -> np.ndarray:
        """Returns bool `(windows, window patches)`: false where there is padding."""
        (down, across), (height, width) = self.counts, self.window
        real = np.zeros((down * height, across * width), bool)
        real[: self.grid[0], : self.grid[1]] = True
        cut = real.reshape(down, height, across, width).transpose(0, 2, 1, 3)
        return cut.reshape(self.count, height * width)

    def repeat(self, factors: Any) -> Any:  # (2, batch, 1, 1)
        """Returns the stochastic-depth factors of each image for all its windows."""
        return None if factors is None else ops.repeat(factors, self.count, axis=1)


@dataclasses.dataclass(frozen=True)
class WindowedBlocks:
    """Which blocks of a tower attend within windows, and how.

    Attributes:
        windows: how the image at hand is cut.
        numbers: the blocks, counted from 1.
        rotary: RoPE table of one window, the same for all; None without RoPE.
    """

    windows: Windows
    numbers: frozenset[int]
    rotary: RotaryTable | None
