"""What a vision encoder shows of its layers."""

import functools
from typing import Any

from keras import ops

from keras_pe.models.checked_batches import Check
from keras_pe.models.compiled import run_compiled
from keras_pe.models.features import Features, resolve_layers
from keras_pe.models.tower import Tower
from keras_pe.models.vision_arguments import (
    check_floating,
    check_parts,
    check_pictures,
    float_images,
)


class VisionFeatures(Tower):
    """The part of `PEVisionEncoder` that looks inside, and runs it compiled."""

    patch_embedding: Any
    pre_norm: Any
    norm: Any
    patch_size: int
    class_token: bool
    window_size: int | None
    global_blocks: tuple[int, ...]

    def _tokens(
        self, images: Any, layers: tuple[int, ...], *, training: bool | None = None
    ) -> dict[int, Any]:
        raise NotImplementedError  # the encoder's own

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
        grid = self.patch_embedding.grid(images.shape)
        method = functools.partial(
            self._feature_values, layers=numbers, norm=norm, class_token=class_token
        )
        key = ("features", numbers, norm, class_token)
        values = run_compiled(self, key, method, images, gradient=gradient)
        found = [
            Features(value, layer, norm, grid, class_token)
            for value, layer in zip(values, numbers, strict=True)
        ]
        return found if isinstance(layers, list | tuple) else found[0]

    def _feature_values(
        self, images: Any, layers: tuple[int, ...], norm: bool, class_token: bool
    ) -> list[Any]:
        tokens = self._tokens(images, tuple(sorted(set(layers))))
        if norm and self.norm is not None:
            tokens = {layer: self.norm(x) for layer, x in tokens.items()}
        if self.class_token and not class_token:
            tokens = {layer: x[:, 1:] for layer, x in tokens.items()}
        return [tokens[layer] for layer in layers]

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
        (number,) = resolve_layers(layer, self.num_layers)
        check_parts(self, norm, class_token=False)
        grid = self.patch_embedding.grid(images.shape)
        x = self._tokens(images, (number,), training=training)[number]
        if norm and self.norm is not None:
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
        """Returns pictures as a float tensor, or says what is wrong with them."""
        return float_images(images)

    def input_check(self, training: bool) -> Check:
        return check_floating if training else check_pictures
