"""What an augmentation did to where things are, so that maps can follow images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]


class Geometry(NamedTuple):
    """What was done to where things are in an image.

    Attributes:
        size: width and height of the upright image.
        box: left, top, right and bottom edge of the part that was resized.
        mirrored: whether it was then mirrored.
    """

    size: tuple[int, int]
    box: Box
    mirrored: bool = False

    def of_map(self, numbers: Image.Image, shape: Sequence[int]) -> np.ndarray:
        """Does the same to a map of numbers, of which none are mixed.

        Args:
            numbers: an image of one number a pixel, of the size `size`.
            shape: height and width of the result first.

        Returns:
            int32 `(height, width)`.
        """
        height, width = shape[:2]
        left, top, right, bottom = self.box
        # Of each pixel of the result the middle, as of images.
        down = top + (np.arange(height) + 0.5) * ((bottom - top) / height)
        across = left + (np.arange(width) + 0.5) * ((right - left) / width)
        picked = np.asarray(numbers)[np.ix_(down.astype(int), across.astype(int))]
        return (picked[:, ::-1] if self.mirrored else picked).astype("int32")
