"""Exact masks as what says which patches belong together."""

from typing import Any, Literal

import numpy as np

Kind = Literal["cover", "distance"]


def shape_rows(
    numbers: np.ndarray,  # (height, width)
    grid: tuple[int, int],
    num_shapes: int,
    kind: Kind = "cover",
) -> np.ndarray:
    """Returns what a map of numbered shapes says of each patch.

    Args:
        numbers: integers `(height, width)`: which shape is in front, 0 for none.
        grid: (rows, columns) of patches; divides height and width.
        num_shapes: shapes there may be; the rows of those that are not there are 0,
            and change no cosine.
        kind: "cover": the share of the patch that each shape, and what is none, cover.
            "distance": the mean signed distance to each one's edge in patches, above 0
            inside, cut at 1, as logits of a mask; missing shapes are far everywhere.

    Returns:
        float32 `(rows * columns, num_shapes + 1)`: what is no shape comes first.

    Raises:
        ValueError: if there are more shapes, or the grid does not fit.

    Example:
        >>> shape_rows(np.array([[0, 0, 1, 1], [0, 0, 0, 1]]), (1, 2), 1).tolist()
        [[1.0, 0.0], [0.25, 0.75]]
    """
    numbers, down, across = _checked_map(numbers, grid)
    height, width = numbers.shape
    rows, columns = grid
    if numbers.min() < 0 or numbers.max() > num_shapes:
        raise ValueError(
            f"A map has shapes {numbers.min()} to {numbers.max()}, expected 0 to "
            f"num_shapes={num_shapes}."
        )
    present = [k for k in range(num_shapes + 1) if (numbers == k).any()]
    planes = np.zeros((num_shapes + 1, height, width), "float32")
    if kind == "cover":
        for k in present:
            planes[k] = numbers == k
    elif kind == "distance":
        from scipy.ndimage import distance_transform_edt

        planes -= 1.0
        side = float(max(down, across))
        for k in present:
            inside = numbers == k
            if inside.all():
                planes[k] = 1.0
                continue
            signed = distance_transform_edt(inside) - distance_transform_edt(~inside)
            planes[k] = np.clip(signed / side, -1.0, 1.0)
    else:
        raise ValueError(f'kind must be "cover" or "distance", got {kind!r}.')
    patches = planes.reshape(num_shapes + 1, rows, down, columns, across).mean((2, 4))
    return patches.reshape(num_shapes + 1, rows * columns).T.copy()


def renumbered(
    numbers: np.ndarray,  # (height, width)
    most: int,
) -> np.ndarray:
    """Returns the shapes that are seen as 1, 2, ..., the largest ones first.

    Args:
        numbers: whole numbers, 0 for none.
        most: how many may be left; smaller ones become 0.

    Raises:
        ValueError: if a number is negative.

    Example:
        >>> renumbered(np.array([[7, 7, 0], [900, 3, 3]]), most=2).tolist()
        [[2, 2, 0], [0, 1, 1]]
    """
    seen, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    if len(seen) and seen[0] < 0:
        raise ValueError(
            f"A map of shapes has the number {seen[0]}: expected 0 where there is no "
            f"shape, and 1, 2, ... in the shapes."
        )
    order: Any = np.argsort(-counts, kind="stable")
    order = order[seen[order] != 0][:most]
    new = np.zeros(len(seen), "int32")
    new[order] = np.arange(1, len(order) + 1)
    return new[places.reshape(numbers.shape)]


def background_share(numbers: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Returns the share of each patch that is no shape, float32 `(patches,)`.

    Args:
        numbers: as of `shape_rows`.
        grid: as of `shape_rows`.

    Raises:
        ValueError: as of `shape_rows`.

    Example:
        >>> background_share(np.array([[0, 0, 1, 1], [0, 0, 0, 1]]), (1, 2)).tolist()
        [1.0, 0.25]
    """
    numbers, down, across = _checked_map(numbers, grid)
    empty = (numbers == 0).reshape(grid[0], down, grid[1], across)
    share: np.ndarray = empty.mean((1, 3)).reshape(-1).astype("float32")
    return share


def _checked_map(
    numbers: np.ndarray, grid: tuple[int, int]
) -> tuple[np.ndarray, int, int]:
    """Returns a map as integers, and how many pixels a patch has down and across.

    Raises:
        ValueError: if it is no map of whole numbers, or has no such equal patches.
    """
    numbers = np.asarray(numbers)
    if numbers.ndim != 2 or not numbers.size or numbers.dtype.kind not in "iub":
        raise ValueError(
            f"A map of shapes must be whole numbers (height, width), got "
            f"{numbers.dtype} of shape {numbers.shape}."
        )
    height, width = numbers.shape
    rows, columns = grid
    if rows < 1 or columns < 1 or height % rows or width % columns:
        raise ValueError(
            f"A map of {height}x{width} pixels has no {rows}x{columns} equal patches. "
            f"Give maps of the images' size."
        )
    return numbers.astype("int64"), height // rows, width // columns
