"""An encoder's tokens as what says which patches are alike."""

from typing import Any

from keras import ops

from keras_pe.arrays import check_sizes
from keras_pe.models.token_encoder import TokenEncoder
from keras_pe.models.tower import resolve_layers
from keras_pe.training.teachers.given import given_grid, given_images


class FeatureTeacher:
    """Says of each patch what an encoder says of it at one of its layers.

    With an encoder's own earlier state, at twice the resolution, and no sharpening in
    `correspondence_loss`, this is DINOv3's Gram anchoring, but that its code resizes
    the larger map of tokens (bicubic) and here they are averaged.

    Args:
        encoder: a vision encoder; it is frozen by this.
        layer: as of `features`.
        scale: how many of its patches, along a side, lie in one of the student's:
            they are averaged.

    Raises:
        ValueError: if there is no such layer or `scale` is below 1.

    Source: Perception Encoder, appendix E.3 (small students); Simeoni et al. 2025,
        "DINOv3", section 4.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> encoder = PEVisionEncoder.from_preset("pe_core_emoji_small_patch8_64")
        >>> images = np.zeros((1, 64, 64, 3), "float32")
        >>> teacher = FeatureTeacher(encoder, layer=2)
        >>> tuple(teacher(images, grid=(8, 8)).shape)
        (1, 8, 8, 192)
    """

    def __init__(self, encoder: TokenEncoder, layer: int = -1, scale: int = 1) -> None:
        check_sizes(scale=scale)
        (self.layer,) = resolve_layers(layer, encoder.num_layers)
        encoder.trainable = False
        self.encoder, self.scale = encoder, scale

    @property
    def models(self) -> tuple[TokenEncoder, ...]:
        """What it is made of; no part of a run's checkpoint."""
        return (self.encoder,)

    def __call__(  # images: (batch, height, width, 3) in [-1, 1]
        self, images: Any, grid: tuple[int, int]
    ) -> Any:
        """Returns `(batch, rows, columns, hidden_dim)` of a grid, as constants.

        Raises:
            ValueError: if images or grid are none, see `given.py`.
        """
        images, grid = given_images(images), given_grid(grid)
        fine = (grid[0] * self.scale, grid[1] * self.scale)
        tokens = grid_tokens(self.encoder, images, self.layer, fine)
        channels = tokens.shape[-1]
        tokens = ops.reshape(
            tokens, (-1, grid[0], self.scale, grid[1], self.scale, channels)
        )
        return ops.stop_gradient(ops.mean(tokens, axis=(2, 4)))


def grid_tokens(
    encoder: TokenEncoder,
    images: Any,  # (batch, height, width, 3) in [-1, 1]
    layer: int,
    grid: tuple[int, int],
) -> Any:
    """Returns a frozen encoder's patch tokens `(batch, rows * columns, channels)`.

    Images are scaled to the size at which its patches make the grid. No block past the
    layer is run.
    """
    size = (grid[0] * encoder.patch_size, grid[1] * encoder.patch_size)
    if tuple(images.shape[1:3]) != size:
        images = ops.image.resize(
            images, size, antialias=True, data_format="channels_last"
        )
    (tokens,) = encoder.layer_tokens(images, [layer], training=False)
    return ops.stop_gradient(tokens[:, encoder.prefix_tokens :])
