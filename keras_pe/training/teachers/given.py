"""What a mask teacher may be given, and what it has to answer."""

from typing import Any

from keras_pe.models.vision_arguments import float_images


def given_images(images: Any) -> Any:
    """Returns images as a float tensor `(batch, height, width, 3)`.

    Raises:
        NonFiniteError: naming the first image that holds NaN or infinity.
        TypeError: if they are no arrays.
        ValueError: if there is none, or shape, dtype or range is another. Values are
            looked at where that is free, as models do.
    """
    images = float_images(images)
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[-1] != 3 or shape[0] == 0:
        raise ValueError(
            f"A mask teacher takes images (batch, height, width, 3), at least one, got "
            f"{shape}. PEImageConverter makes such arrays; one image is a batch of "
            f"one: images[None]."
        )
    return images


def given_grid(grid: Any) -> tuple[int, int]:
    """Returns a grid of patches.

    Raises:
        ValueError: if it is not two whole numbers of at least 1.
    """
    found = tuple(grid) if isinstance(grid, tuple | list) else ()
    if len(found) != 2 or not all(type(n) is int and n >= 1 for n in found):
        raise ValueError(
            f"A grid is (rows, columns) of patches, whole numbers of at least 1, got "
            f"{grid!r}. Of images of 448 pixels in patches of 14 it is (32, 32)."
        )
    return found[0], found[1]


def check_answer(masks: Any, rows: int, grid: tuple[int, int]) -> None:
    """Raises a `ValueError` if these are no masks of so many images, by patches."""
    shape = tuple(masks.shape)
    if len(shape) != 4 or shape[:3] != (rows, *grid) or not shape[3]:
        raise ValueError(
            f"A mask teacher answers (batch, rows, columns, points), here ({rows}, "
            f"{grid[0]}, {grid[1]}, points), got {shape}."
        )
