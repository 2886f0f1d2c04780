"""The scores of DAVIS: region similarity J and contour accuracy F."""

import math

import numpy as np


def region_score(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns J, the intersection over union of two bool masks; 1 if both are empty."""
    union = (ours | theirs).sum()
    return float((ours & theirs).sum() / union) if union else 1.0


def boundary_score(
    ours: np.ndarray, theirs: np.ndarray, tolerance: float = 0.008
) -> float:
    """Returns F: how well two contours match, within a tolerance.

    Args:
        ours: bool `(height, width)`.
        theirs: bool `(height, width)`.
        tolerance: in diagonals of the image; rounded up to whole pixels.

    Returns:
        The harmonic mean of precision and recall of contour pixels.

    Source: Perazzi et al. 2016, "A Benchmark Dataset and Evaluation Methodology for
    Video Object Segmentation", section 4.

    Example:
        >>> mask = np.zeros((8, 8), bool)
        >>> mask[2:5, 2:5] = True
        >>> boundary_score(mask, mask)
        1.0
    """
    radius = math.ceil(tolerance * math.hypot(*ours.shape))
    our_edge, their_edge = contour(ours), contour(theirs)
    if not our_edge.any() and not their_edge.any():
        return 1.0
    if not our_edge.any() or not their_edge.any():
        return 0.0
    precision = (our_edge & dilated(their_edge, radius)).sum() / our_edge.sum()
    recall = (their_edge & dilated(our_edge, radius)).sum() / their_edge.sum()
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def contour(mask: np.ndarray) -> np.ndarray:
    """Returns the pixels that differ from the one to the right, below, or between."""
    right, below, corner = mask.copy(), mask.copy(), mask.copy()
    right[:, :-1] = mask[:, 1:]
    below[:-1] = mask[1:]
    corner[:-1, :-1] = mask[1:, 1:]
    edge = (mask ^ right) | (mask ^ below) | (mask ^ corner)
    # There is nothing beyond the last row and column to compare with.
    edge[-1, :] = (mask ^ right)[-1, :]
    edge[:, -1] = (mask ^ below)[:, -1]
    edge[-1, -1] = False
    return np.asarray(edge)


def dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """Returns the pixels within a radius of a mask's."""
    height, width = mask.shape
    wider = np.zeros_like(mask)
    padded = np.pad(mask, radius)
    for row in range(-radius, radius + 1):
        reach = math.isqrt(radius**2 - row**2)
        for column in range(-reach, reach + 1):
            wider |= padded[
                radius + row : radius + row + height,
                radius + column : radius + column + width,
            ]
    return wider
