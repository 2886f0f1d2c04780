"""The pointing game: does a map peak on the object that was named?"""

from typing import Any

import numpy as np


def pointing_accuracy(maps: Any, masks: Any, min_cover: float = 0.5) -> float:
    """Returns the share of maps whose peak lies inside the named object.

    A peak is inside if at least `min_cover` of its cell belongs to the object. A map
    that is the same everywhere points nowhere and counts as a miss; of equal peaks
    the first in reading order counts.

    Args:
        maps: `(count, rows, columns)`, such as one text's map for each image.
        masks: bool `(count, height, width)`, true on the object, in pixels (a whole
            number for each cell of the map) or in cells.
        min_cover: share of a cell.

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: if the shapes do not fit together, a map is not finite or a mask
            is empty.

    Source: Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop",
        section 4.1, without its tolerance in pixels.

    Example:
        >>> masks = np.zeros((1, 4, 4), bool)
        >>> masks[0, :2, 2:] = True
        >>> pointing_accuracy([[[0.1, 0.9], [0.2, 0.3]]], masks)
        1.0
    """
    scores, inside = np.asarray(maps, "float32"), np.asarray(masks)
    if scores.ndim != 3 or inside.ndim != 3 or len(scores) != len(inside):
        raise ValueError(
            f"Expected maps (count, rows, columns) and as many masks (count, height, "
            f"width), got {scores.shape} and {inside.shape}."
        )
    if inside.dtype != bool:
        raise ValueError(f"Masks must be bool, got {inside.dtype}.")
    count, rows, columns = scores.shape
    height, width = inside.shape[1:]
    if not count or height % rows or width % columns:
        raise ValueError(
            f"A mask of {height} x {width} pixels does not divide into the cells of a "
            f"map of {rows} x {columns}."
        )
    if not np.isfinite(scores).all():
        raise ValueError("Some scores are not finite.")
    if not inside.any(axis=(1, 2)).all():
        raise ValueError("Some masks are empty: nothing could be hit.")
    if not 0.0 < min_cover <= 1.0:
        raise ValueError(f"min_cover must be above 0 and at most 1, got {min_cover}.")
    cells = inside.reshape(count, rows, height // rows, columns, width // columns)
    cover = cells.mean(axis=(2, 4)).reshape(count, -1)
    flat = scores.reshape(count, -1)
    hit = cover[np.arange(count), flat.argmax(axis=1)] >= min_cover
    return float((hit & (flat.max(axis=1) > flat.min(axis=1))).mean())
