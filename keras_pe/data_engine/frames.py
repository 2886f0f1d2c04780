"""The frames of a clip, decoded once for all stages that look at them."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_pe.data_engine.clips import with_content
from keras_pe.data_engine.stage import CONTENT, PATH, Row, StageFailure, canonical
from keras_pe.preprocessing.image_errors import EMPTY, MISSING, UNREADABLE, ImageError
from keras_pe.preprocessing.video import PEVideoConverter

_KEPT = 2  # clips: stages come one after the other, and two may decode differently
CHANGED = "the clip has changed"
_OF_THE_DISK = (MISSING, UNREADABLE, EMPTY)  # not of these bytes: may pass
_frames: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()
_lock = threading.Lock()  # runners that have threads share the frames


def frames_of(row: Row, converter: PEVideoConverter) -> np.ndarray:
    """Returns the frames of a row's clip, read-only.

    Args:
        row: with `path` and `content`.
        converter: which frames, of which size.

    Returns:
        float32 `(num_frames, height, width, 3)` in [-1, 1].

    Raises:
        StageFailure: if the clip can't be used; the reasons are those of `ImageError`.
            If the file is gone or another one since it was hashed, it is not lasting:
            nothing of it is kept under the hash of the first.
    """
    config = canonical(converter.get_config(), "Settings of a converter")
    wanted = row[CONTENT], config
    with _lock:
        kept = _frames.get(wanted)
        if kept is not None:
            _frames.move_to_end(wanted)
            return kept
    try:
        found = converter.convert(row[PATH])
    except ImageError as error:
        if error.reason in _OF_THE_DISK:
            raise StageFailure(error.reason, error.detail, lasting=False) from None
        _check_unchanged(row)
        raise StageFailure(error.reason, error.detail) from None
    _check_unchanged(row)
    found.setflags(write=False)
    with _lock:
        _frames[wanted] = found
        while len(_frames) > _KEPT:
            _frames.popitem(last=False)
    return found


def _check_unchanged(row: Row) -> None:
    """Refuses what was decoded of other bytes than those that were hashed."""
    if with_content(row).get(CONTENT) != row[CONTENT]:
        raise StageFailure(
            CHANGED, f"{row[PATH]} was written after it was hashed.", lasting=False
        )


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
