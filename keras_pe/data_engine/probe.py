"""What can be measured of a clip before a model has seen it, and who may pass."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_pe.data_engine.frames import DecodingStage, frames_of
from keras_pe.data_engine.stage import Row, StageFailure, check_number
from keras_pe.preprocessing.video import PEVideoConverter

SIZE = 64  # pixels: motion of a pixel there is motion that an encoder sees


class Probe(DecodingStage):
    """Measures motion, sharpness and brightness of a clip's frames.

    It gives, of frames of 64 px and values from 0 to 1:

    * `motion`: mean absolute difference from frame to frame; 0 of a still image.
    * `motion_peak`: the largest of them, which a cut makes large.
    * `sharpness`: mean absolute Laplacian; 0 of an even surface.
    * `brightness`: mean value.

    Args:
        num_frames: frames that are looked at, evenly spread.

    Source: of the motion features of Perception Encoder, appendix A.2, those that need
    no decoder's motion vectors.

    Example:
        >>> Probe().gives
        ('motion', 'motion_peak', 'sharpness', 'brightness')
    """

    name = "probe"
    gives = ("motion", "motion_peak", "sharpness", "brightness")

    def __init__(self, num_frames: int = 8) -> None:
        super().__init__(PEVideoConverter(image_size=SIZE, num_frames=num_frames))

    def run(self, loaded: Any, row: Row) -> Mapping[str, Any]:
        """Returns the four numbers."""
        grey = (frames_of(row, self.converter).mean(-1) + 1) / 2  # (frames, 64, 64)
        steps = np.abs(np.diff(grey, axis=0)).mean((1, 2)) if len(grey) > 1 else [0.0]
        inner = grey[:, 1:-1, 1:-1] * 4
        beside = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1]
        beside = beside + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
        found = {
            "motion": np.mean(steps),
            "motion_peak": np.max(steps),
            "sharpness": np.abs(inner - beside).mean(),
            "brightness": grey.mean(),
        }
        # As many digits as every machine agrees on: they are part of later keys.
        return {name: round(float(value), 5) for name, value in found.items()}


class Keep:
    """Lets clips pass whose numbers lie within limits.

    Args:
        **limits: `(least, most)` by the name of a number, None for no limit:
            `motion=(0.002, None)` leaves out what stands still.

    Example:
        >>> Keep(motion=(0.002, None)).run(None, {"motion": 0.0})
        Traceback (most recent call last):
        keras_pe.data_engine.stage.StageFailure: motion is too low. 0.0, expected at \
least 0.002.
    """

    name = "keep"
    gives = ("kept",)

    def __init__(self, **limits: tuple[float | None, float | None]) -> None:
        for name, pair in limits.items():
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ValueError(f"{name}={pair!r}: expected (least, most).")
            for limit in pair:
                if limit is not None:
                    check_number(name, limit, float("-inf"))
            least, most = pair
            if least is not None and most is not None and least > most:
                raise ValueError(
                    f"{name}={pair!r}: no number lies within, expected (least, most)."
                )
        if not limits:
            raise ValueError("Expected limits, such as motion=(0.002, None).")
        self.limits = {name: tuple(pair) for name, pair in sorted(limits.items())}
        self.reads = tuple(self.limits)

    def settings(self) -> Mapping[str, Any]:
        """Returns the limits."""
        return {name: list(pair) for name, pair in self.limits.items()}

    def load(self) -> Any:
        """Returns nothing."""
        return None

    def run(self, loaded: Any, row: Row) -> Mapping[str, Any]:
        """Returns that the clip is kept."""
        for name, (least, most) in self.limits.items():
            value = row[name]
            if least is not None and not value >= least:
                raise StageFailure(
                    f"{name} is too low", f"{value}, expected at least {least}."
                )
            if most is not None and not value <= most:
                raise StageFailure(
                    f"{name} is too high", f"{value}, expected at most {most}."
                )
        return {"kept": True}
