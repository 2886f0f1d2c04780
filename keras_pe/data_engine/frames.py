"""The frames of a clip, decoded once for all stages that look at them."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_pe.data_engine.stage import CONTENT, PATH, Row, StageFailure, canonical
from keras_pe.preprocessing.image_errors import ImageError
from keras_pe.preprocessing.video import PEVideoConverter

_KEPT = 2  # clips: stages come one after the other, and two may decode differently
_frames: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()


def frames_of(row: Row, converter: PEVideoConverter) -> np.ndarray:
    """Returns the frames of a row's clip, read-only.

    Args:
        row: with `path` and `content`.
        converter: which frames, of which size.

    Returns:
        float32 `(num_frames, height, width, 3)` in [-1, 1].

    Raises:
        StageFailure: if the clip can't be used; the reasons are those of `ImageError`.
    """
    config = canonical(converter.get_config(), "Settings of a converter")
    wanted = row[CONTENT], config
    if wanted in _frames:
        _frames.move_to_end(wanted)
        return _frames[wanted]
    try:
        found = converter.convert(row[PATH])
    except ImageError as error:
        raise StageFailure(error.reason, error.detail) from None
    found.setflags(write=False)
    _frames[wanted] = found
    while len(_frames) > _KEPT:
        _frames.popitem(last=False)
    return found


class DecodingStage:
    """What stages share that look at frames.

    Args:
        converter: which frames, of which size.
    """

    reads: tuple[str, ...] = ()

    def __init__(self, converter: PEVideoConverter) -> None:
        self.converter = converter

    def settings(self) -> Mapping[str, Any]:
        """Returns what the frames depend on."""
        return {"frames": self.converter.get_config()}

    def load(self) -> Any:
        """Returns nothing: decoders need nothing loaded."""
        return None
