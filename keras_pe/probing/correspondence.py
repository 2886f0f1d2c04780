"""Correspondence probe: where does a patch of one image lie in another?"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.probing.nearest_neighbours import unit
from keras_pe.probing.probe import Maps, TrainingFreeProbe


@dataclasses.dataclass(frozen=True)
class PointPairs:
    """Two images and the points that match in them.

    Attributes:
        images: `(2, height, width, 3)`, prepared: float in [-1, 1].
        points: `(points, 2, 2)`, pixels: in the first and the second image, each
            (row, column).
        name: of the pair.

    Example:
        >>> images = np.zeros((2, 16, 16, 3), "float32")
        >>> pair = PointPairs(images, np.array([[[4, 4], [4, 12]]]), "moved right")
        >>> pair.points.shape    # points, images, row and column
        (1, 2, 2)
    """

    images: np.ndarray
    points: np.ndarray
    name: str = ""


class Correspondence(TrainingFreeProbe):
    """Finds each point by the most similar patch; scored by the share found.

    A point of the first image is given by the patch that holds it; the answer is the
    centre of the second image's patch of highest cosine. It is right within
    `tolerance` of the larger side: PCK.

    Args:
        tolerance: of the larger side of the image.

    Example:
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3))
        >>> pair = PointPairs(images.astype("float32"), np.array([[[4, 4], [4, 12]]]))
        >>> result = sweep(encoder, [pair] * 10, probe=Correspondence(), progress=False)
        >>> result.metric
        'PCK'
    """

    name: ClassVar[str] = "correspondence"
    metric: ClassVar[str] = "PCK"
    bounds = (0.0, 1.0)

    def __init__(self, tolerance: float = 0.1) -> None:
        if not 0 < tolerance <= 1:
            raise ValueError(f"tolerance={tolerance}: expected above 0, at most 1.")
        self.tolerance = tolerance

    def measure(self, item: Any, maps: Maps) -> list[np.ndarray]:
        pair = checked_pair(item)
        return [
            self._hits(matching_points(first, second, pair), pair)
            for first, second in maps(np.asarray(pair.images, "float32"))
        ]

    def baseline(self, item: Any) -> np.ndarray:
        """Returns the hits of points that stay where they are."""
        pair = checked_pair(item)
        return self._hits(pair.points[:, 0], pair)

    def _hits(self, answers: np.ndarray, pair: PointPairs) -> np.ndarray:
        """Returns the points found, and all points."""
        found = self.found(answers, pair)
        return np.array([found.sum(), len(found)], "float64")

    def found(self, answers: np.ndarray, pair: PointPairs) -> np.ndarray:
        """Returns for each answer `(points, 2)` whether it is near enough."""
        distances = np.linalg.norm(answers - pair.points[:, 1], axis=1)
        return np.asarray(distances <= self.tolerance * max(pair.images.shape[1:3]))

    def score(self, means: np.ndarray) -> np.ndarray:
        return np.asarray(means[..., 0] / np.maximum(means[..., 1], 1e-300))


def matching_points(
    first: np.ndarray,  # (rows, columns, channels)
    second: np.ndarray,
    pair: PointPairs,
) -> np.ndarray:
    """Returns where features find a pair's first points in its second image.

    Args:
        first: map of the first image.
        second: of the second.
        pair: the points, and the images' size.

    Returns:
        float64 `(points, 2)`, pixels: the centre of the patch of highest cosine.
    """
    rows, columns = first.shape[:2]
    height, width = pair.images.shape[1:3]
    size = np.array([height / rows, width / columns])  # of a patch, pixels
    places = np.floor(pair.points[:, 0] / size).astype(int)
    places = np.clip(places, 0, [rows - 1, columns - 1])
    queries = unit(first[places[:, 0], places[:, 1]])  # (points, channels)
    keys = unit(second.reshape(rows * columns, -1))
    best = np.divmod((queries @ keys.T).argmax(axis=1), columns)
    return np.asarray((np.stack(best, axis=1) + 0.5) * size)


def checked_pair(item: Any) -> PointPairs:
    """Returns a pair with points as float64, or says what it lacks.

    Raises:
        ValueError: if it is none, shapes do not fit, or a point is not in its image.
        NonFiniteError: if a point holds NaN or infinity.
    """
    if not isinstance(item, PointPairs):
        raise ValueError(
            f"Correspondence needs PointPairs objects, got {type(item).__name__}."
        )
    images, points = np.asarray(item.images), np.asarray(item.points)
    if images.ndim != 4 or len(images) != 2 or points.shape[1:] != (2, 2):
        raise ValueError(
            f"Pair {item.name!r}: expected images (2, height, width, 3) and points "
            f"(points, 2, 2); got {images.shape} and {points.shape}."
        )
    if not len(points):
        raise ValueError(f"Pair {item.name!r} has no points.")
    # Differences of unsigned numbers would wrap.
    points = points.astype("float64")
    what = f"Pair {item.name!r}: points"
    check_finite(points, what, "point", hint="Leave out points that are not seen.")
    outside = (points < 0) | (points > images.shape[1:3])
    if outside.any():
        place = int(np.argwhere(outside)[0, 0])
        raise ValueError(
            f"{what}: number {place} of {len(points)} is {points[place].tolist()}, not "
            f"in images of {images.shape[1]} x {images.shape[2]} pixels; expected "
            "(row, column) in the first and in the second image."
        )
    return dataclasses.replace(item, images=images, points=points)
