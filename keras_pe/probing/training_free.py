"""Probes that train nothing: they compare the features of pictures with each other."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

# From prepared pictures (batch, height, width, 3) to the maps of all layers,
# (batch, rows, columns, channels) each.
Maps = Callable[[np.ndarray], list[np.ndarray]]


class TrainingFreeProbe(abc.ABC):
    """Measures each layer on items of several pictures, such as clips or pairs.

    Attributes:
        name: of the probe.
        metric: what its score is called.
        higher_is_better: whether a larger score is a better one.
        bounds: the least and the greatest score there can be; None if there are none.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float] | None] = None

    @abc.abstractmethod
    def measure(self, item: Any, maps: Maps) -> list[np.ndarray]:
        """Returns the statistics `(statistics,)` of an item, one array a layer."""

    @abc.abstractmethod
    def baseline(self, item: Any) -> np.ndarray:
        """Returns the statistics of a guess that never looks at a picture."""

    @abc.abstractmethod
    def score(self, means: np.ndarray) -> np.ndarray:  # (..., statistics) -> (...)
        """Returns the score of the statistics' means over items."""

    def gain(self, ours: Any, theirs: Any) -> Any:
        """Returns by how much one score is better than another."""
        return ours - theirs if self.higher_is_better else theirs - ours
