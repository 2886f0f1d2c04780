"""One image as several: a grid of tiles, each of the size that an encoder reads."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from keras_pe.arrays import check_sizes


class TiledPicture(NamedTuple):
    """An image in tiles.

    Attributes:
        tiles: float32 `(tiles, height, width, 3)`: the whole image first, small, if
            that was asked for and there is more than one tile; then the tiles, row by
            row.
        grid: (rows, columns) of tiles.
    """

    tiles: np.ndarray
    grid: tuple[int, int]


def best_grid(
    picture: tuple[int, int], tile: tuple[int, int], max_tiles: int
) -> tuple[int, int]:
    """Returns (rows, columns) of the tiles that an image is stretched to.

    The grid whose sides are most like the image's; of those that are equally so, the
    one that keeps the most of its pixels; of those the one with the fewest tiles, so
    that nothing is enlarged for nothing.

    Args:
        picture: (height, width) of the image, pixels.
        tile: likewise of a tile.
        max_tiles: most tiles.

    Raises:
        ValueError: if a number is none of at least 1.

    Source: ours; upstream's own rule differs.

    Example:
        >>> best_grid((480, 640), (64, 64), max_tiles=16)
        (3, 4)
        >>> best_grid((64, 64), (64, 64), max_tiles=16)
        (1, 1)
    """
    check_sizes(max_tiles=max_tiles)
    (height, width), (tile_height, tile_width) = picture, tile
    check_sizes(height=height, width=width, tile_height=tile_height)
    check_sizes(tile_width=tile_width)

    def worth(grid: tuple[int, int]) -> tuple[Fraction, int, int]:
        rows, columns = grid
        ours = Fraction(height, width)
        theirs = Fraction(rows * tile_height, columns * tile_width)
        pixels = rows * tile_height * columns * tile_width
        kept = min(pixels, height * width)
        return max(ours / theirs, theirs / ours), -kept, rows * columns

    grids = (
        (rows, columns)
        for rows in range(1, max_tiles + 1)
        for columns in range(1, max_tiles // rows + 1)
    )
    return min(grids, key=worth)


def cut(image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Returns the tiles of an image `(height, width, channels)`, row by row.

    Raises:
        ValueError: if they do not fill it.

    Example:
        >>> cut(np.arange(8).reshape(2, 4, 1), (1, 2))[:, :, :, 0].tolist()
        [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    """
    (rows, columns), (height, width, channels) = grid, image.shape
    if height % rows or width % columns:
        raise ValueError(
            f"{rows}x{columns} tiles do not fill an image of {height}x{width} pixels."
        )
    tile = (height // rows, width // columns)
    parts = image.reshape(rows, tile[0], columns, tile[1], channels)
    return parts.swapaxes(1, 2).reshape(rows * columns, *tile, channels)
