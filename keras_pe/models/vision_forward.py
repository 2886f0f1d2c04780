"""A vision encoder's forward pass, and what it shows of its layers."""

import functools
from collections.abc import Sequence
from typing import Any, overload

from keras import ops

from keras_pe.layers.attention import RotaryTable, rotary_table
from keras_pe.layers.patch_embedding import (
    check_floating,
    check_pixels,
    without_wrong_images,
)
from keras_pe.layers.windows import WindowedBlocks, Windows
from keras_pe.models.checked_model import Check
from keras_pe.models.compiled import run_compiled
from keras_pe.models.features import Features
from keras_pe.models.tower import Tower, resolve_layers
from keras_pe.models.vision_arguments import (
    Pooling,
    check_images,
    check_parts,
    float_images,
)


class VisionForward(Tower):
    """What `PEVisionEncoder` computes with the layers that it makes."""

    patch_embedding: Any
    pre_norm: Any
    norm: Any
    attention_pooling: Any
    projection: Any
    patch_size: int
    output_dim: int | None
    class_token: bool
    pooling: Pooling
    rope: bool
    rope_reference_grid: int | None
    window_size: int | None
    global_blocks: tuple[int, ...]

    def call(  # images: (batch, height, width, 3) in [-1, 1]
        self,
        images: Any,
        kept_patches: Any = None,
        drop_path_factors: Any = None,
        training: bool | None = None,
    ) -> Any:
        """Returns the tower's output.

        Args:
            images: `(batch, height, width, 3)` in [-1, 1].
            kept_patches: as in `layer_tokens`.
            drop_path_factors: as in `layer_tokens`.
            training: whether stochastic depth is active.

        Returns:
            `(batch, output_dim)`, or `(batch, hidden_dim)` without a projection, or
            `(batch, tokens, ...)` without pooling.
        """
        (tokens,) = self.layer_tokens(
            images,
            [-1],
            kept_patches=kept_patches,
            drop_path_factors=drop_path_factors,
            training=training,
        )
        return self.head(tokens)

    @property
    def prefix_tokens(self) -> int:
        """How many tokens stand before those of the patches: the class token, or 0."""
        return int(self.class_token)

    @property
    def mask_dim(self) -> int:
        """How many numbers a `mask_embedding` of `layer_tokens` has."""
        return self.hidden_dim

    def grid(self, images_shape: Any) -> tuple[int, int]:
        """Returns (rows, columns) of patches of images of this shape, or raises."""
        rows, columns = self.patch_embedding.grid(images_shape)
        return rows, columns

    def layer_tokens(
        self,
        images: Any,
        layers: Sequence[int],
        *,
        kept_patches: Any = None,
        masked_patches: Any = None,
        mask_embedding: Any = None,
        drop_path_factors: Any = None,
        training: bool | None = None,
    ) -> list[Any]:
        """Returns the tokens of each layer asked for; runs no block past the last.

        Part of the step that calls it; `head` goes on from the last layer's.

        Args:
            images: `(batch, height, width, 3)` in [-1, 1].
            layers: numbers as in `features`.
            kept_patches: int32 `(batch, kept)`, the patches that each image keeps
                (counted row by row from 0); None keeps all. Dropping patches makes
                training cheaper.
            masked_patches: bool `(batch, patches)`, patches that `mask_embedding`
                replaces (mask regularisation); None masks none.
            mask_embedding: `(hidden_dim,)`.
            drop_path_factors: from `draw_drop_path`; None draws them here.
            training: whether stochastic depth is active.

        Returns:
            `(batch, tokens, hidden_dim)` for each of `layers`: class token first,
            before the final norm.
        """
        grid = self.grid(images.shape)
        check_pixels(images)
        x = self.patch_embedding(  # (batch, tokens, hidden_dim)
            images, masked_patches=masked_patches, mask_embedding=mask_embedding
        )
        x = without_wrong_images(x, images)
        rotary = self.rotary(grid)
        if kept_patches is not None:
            x, rotary = self._keep(x, rotary, kept_patches)
        return self.run_blocks(
            self.pre_norm(x),
            resolve_layers(tuple(layers), self.num_layers),
            rotary=rotary,
            windowed=self._windowed_blocks(grid),
            drop_path_factors=drop_path_factors,
            training=training,
        )

    def rotary(self, grid: tuple[int, int]) -> RotaryTable | None:
        """Returns the RoPE table of a grid of patches; None without RoPE."""
        if not self.rope:
            return None
        cos, sin = rotary_table(
            grid,
            self.head_dim,
            class_token=self.class_token,
            reference_grid=self.rope_reference_grid,
        )
        return ops.convert_to_tensor(cos), ops.convert_to_tensor(sin)

    def _windowed_blocks(self, grid: tuple[int, int]) -> WindowedBlocks | None:
        if self.window_size is None:
            return None
        windows = Windows.over(grid, self.window_size, self.class_token)
        if windows is None:  # one covers the image
            return None
        numbers = set(range(1, self.num_layers + 1)) - set(self.global_blocks)
        # Positions start anew in each window: it looks like an image of its size.
        rotary = self.rotary(windows.window)
        return WindowedBlocks(windows, frozenset(numbers), rotary)

    def _keep(self, x: Any, rotary: Any, kept_patches: Any) -> tuple[Any, Any]:
        if self.window_size is not None:
            raise ValueError(
                f"kept_patches leaves no grid to cut into windows: it needs an encoder "
                f"without windows, got window_size={self.window_size}. Pass "
                f"kept_patches=None, or encoder.convert(window_size=None)."
            )
        kept = ops.cast(kept_patches, "int32")
        if self.class_token:
            kept = ops.pad(kept + 1, ((0, 0), (1, 0)))  # token 0 always stays
        x = ops.take_along_axis(x, kept[..., None], axis=1)
        if rotary is not None:
            rotary = tuple(ops.take(table, kept, axis=0) for table in rotary)
        return x, rotary

    def head(self, tokens: Any) -> Any:  # (batch, tokens, hidden_dim)
        """Returns the final norm, pooling and projection of last-layer tokens."""
        if self.norm is not None:
            tokens = self.norm(tokens)
        pooled = tokens
        if self.attention_pooling is not None:
            pooled = self.attention_pooling(tokens)
        elif self.pooling == "token":
            pooled = tokens[:, 0]
        elif self.pooling == "average":
            pooled = ops.mean(tokens, axis=1)
        return pooled if self.projection is None else self.projection(pooled)

    def compute_output_shape(self, images_shape: Any, **shapes: Any) -> Any:
        tokens = self.patch_embedding.compute_output_shape(images_shape)
        channels = self.output_dim or self.hidden_dim
        if self.pooling is None:
            return (*tokens[:2], channels)
        return (tokens[0], channels)

    # === What it shows of its layers ===
    @overload
    def features(
        self,
        images: Any,
        layers: int = -1,
        norm: bool = False,
        class_token: bool = False,
        *,
        gradient: bool = False,
    ) -> Features: ...

    @overload
    def features(
        self,
        images: Any,
        layers: list[int] | tuple[int, ...],
        norm: bool = False,
        class_token: bool = False,
        *,
        gradient: bool = False,
    ) -> list[Features]: ...

    def features(
        self,
        images: Any,
        layers: int | list[int] | tuple[int, ...] = -1,
        norm: bool = False,
        class_token: bool = False,
        *,
        gradient: bool = False,
    ) -> Features | list[Features]:
        """Returns the tokens of one layer or of several, from one forward pass.

        Args:
            images: `(batch, height, width, 3)` in [-1, 1].
            layers: layer k is the output of block k, 0 the input of the first block,
                negatives count from the end. No block past the last one asked for is
                run.
            norm: whether the encoder's final norm is applied to each.
            class_token: whether the class token is kept, first.
            gradient: whether gradients flow from the values; by default they hold no
                graph and are read by `np.asarray`. For a head that trains the encoder
                along see `feature_map`.

        Returns:
            One `Features` for a number, a list of them, in the order asked, for a
            list.

        Raises:
            ValueError: if a layer does not exist, or `norm` or `class_token` is asked
                of an encoder without one, or the size is not in whole patches.

        Example:
            >>> import numpy as np
            >>> from keras_pe import PEVisionEncoder
            >>> encoder = PEVisionEncoder(image_size=32, patch_size=8, hidden_dim=32,
            ...     num_layers=2, num_heads=4, intermediate_dim=64, output_dim=16)
            >>> images = np.zeros((1, 32, 32, 3), "float32")
            >>> first, last = encoder.features(images, layers=[1, -1])
            >>> first.layer, last.layer, last.grid, np.asarray(last.values).shape
            (1, 2, (4, 4), (1, 16, 32))
        """
        numbers = resolve_layers(layers, self.num_layers)
        check_parts(self, norm, class_token)
        images = self.checked_images(images)
        grid = self.grid(images.shape)
        method = functools.partial(
            self._feature_values, layers=numbers, norm=norm, class_token=class_token
        )
        key = ("features", numbers, norm, class_token)
        values = run_compiled(self, key, method, images, gradient=gradient)
        features = [
            Features(value, layer, norm, grid, class_token)
            for value, layer in zip(values, numbers, strict=True)
        ]
        return features if isinstance(layers, list | tuple) else features[0]

    def _feature_values(
        self, images: Any, layers: tuple[int, ...], norm: bool, class_token: bool
    ) -> list[Any]:
        tokens = self.layer_tokens(images, layers)
        if norm:
            tokens = [self.norm(x) for x in tokens]
        if self.class_token and not class_token:
            tokens = [x[:, 1:] for x in tokens]
        return tokens

    def feature_map(
        self,
        images: Any,
        layer: int = -1,
        norm: bool = False,
        training: bool | None = None,
    ) -> Any:
        """Returns one layer's patches as a map, for a head that trains on it.

        Unlike `features` it is part of the step that calls it: gradients flow, and
        stochastic depth is active in training.

        Args:
            images: `(batch, height, width, 3)` in [-1, 1].
            layer: as in `features`.
            norm: whether the final norm is applied.
            training: whether stochastic depth is active.

        Returns:
            `(batch, rows, columns, hidden_dim)`.

        Raises:
            ValueError: as `features`.
        """
        check_parts(self, norm, class_token=False)
        grid = self.grid(images.shape)
        (x,) = self.layer_tokens(images, [layer], training=training)
        if norm:
            x = self.norm(x)
        x = x[:, 1:] if self.class_token else x
        return ops.reshape(x, (-1, *grid, self.hidden_dim))

    def encode(self, images: Any, *, gradient: bool = False) -> Any:
        """Returns the tower's output, compiled: the inference twin of calling it.

        Args:
            images: `(batch, height, width, 3)` in [-1, 1].
            gradient: as in `features`.
        """
        images = self.checked_images(images)
        return run_compiled(self, "encode", self._encode, images, gradient=gradient)

    def _encode(self, images: Any) -> Any:
        return self(images, training=False)

    def checked_images(self, images: Any) -> Any:
        """Returns images as a float tensor, or says what is wrong with them."""
        return float_images(images)

    def input_check(self, training: bool) -> Check:
        return check_floating if training else check_images
