"""Captions of a clip: of the whole, of its frames, and by people."""

import re
from collections.abc import Mapping
from typing import Any

from keras_pe.data_engine.captioners import Captioner
from keras_pe.data_engine.frames import DecodingStage, frames_of
from keras_pe.data_engine.stage import CONTENT, Row, StageFailure

EMPTY_CAPTION, TOO_LONG = "an empty caption", "a caption is too long"
MOST_LETTERS = 2000  # of a caption: more is a model that does not end
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def clean(text: Any, what: str) -> str:
    """Returns a caption as one line, or refuses it.

    Raises:
        StageFailure: if there is nothing in it, or too much.
        TypeError: if it is no text.

    Example:
        >>> clean(" an owl\\n flies ", "The caption")
        'an owl flies'
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} is a {type(text).__name__}, expected text.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise StageFailure("a caption is no text", f"{what}: {text!r:.80}") from None
    found = _BREAKS.sub(" ", text).strip()
    if not re.search(r"\w", found):
        raise StageFailure(EMPTY_CAPTION, f"{what} is {text!r:.80}.")
    if len(found) > MOST_LETTERS:
        raise StageFailure(TOO_LONG, f"{what} has {len(found):,} letters.")
    return found


class _Captions(DecodingStage):
    def __init__(self, captioner: Captioner) -> None:
        super().__init__(captioner.converter)
        self.captioner = captioner

    def settings(self) -> Mapping[str, Any]:
        """Returns those of the captioner."""
        return dict(self.captioner.settings())

    def load(self) -> Any:
        """Returns what the captioner loads."""
        return self.captioner.load()


class VideoCaption(_Captions):
    """Describes a clip as a whole.

    Args:
        captioner: who does it.

    Source: Perception Encoder, section 2.2, "video caption".

    Example:
        >>> from keras_pe.data_engine import FunctionCaptioner
        >>> stage = VideoCaption(FunctionCaptioner(str, version="1", image_size=8))
        >>> stage.gives
        ('video_caption',)
    """

    name, gives = "video_caption", ("video_caption",)

    def run(self, loaded: Any, row: Row) -> Mapping[str, Any]:
        """Returns the caption."""
        found = self.captioner.of_video(loaded, frames_of(row, self.converter))
        return {"video_caption": clean(found, "The caption of the video")}


class FrameCaptions(_Captions):
    """Describes frames of a clip one by one.

    Args:
        captioner: who does it.

    Source: Perception Encoder, section 2.2, "frame captions".

    Example:
        >>> from keras_pe.data_engine import FunctionCaptioner
        >>> stage = FrameCaptions(FunctionCaptioner(str, version="1", image_size=8))
        >>> stage.gives
        ('frame_captions',)
    """

    name, gives = "frame_captions", ("frame_captions",)

    def run(self, loaded: Any, row: Row) -> Mapping[str, Any]:
        """Returns the captions, in the order of the frames."""
        frames = frames_of(row, self.converter)
        found = list(self.captioner.of_frames(loaded, frames))
        if len(found) != len(frames):
            raise ValueError(f"{len(found)} captions of {len(frames)} frames.")
        captions = [clean(text, f"Frame {n}'s") for n, text in enumerate(found)]
        return {"frame_captions": captions}


class RefinedCaption:
    """Takes the caption that a person gave, where one did, for the model's.

    Args:
        edits: the caption by `content` of the clip, see `read_edits`; None as the
            caption refuses the clip.

    Example:
        >>> stage = RefinedCaption({"0a": "an owl turns"})
        >>> stage.run(None, {"content": "0a", "video_caption": "a bird"})
        {'refined_caption': 'an owl turns', 'by_hand': True}
    """

    name, reads = "refined_caption", ("video_caption",)
    gives = ("refined_caption", "by_hand")

    def __init__(self, edits: Mapping[str, str | None]) -> None:
        self.edits = edits

    def settings(self) -> Mapping[str, Any]:
        """Returns nothing: what it depends on is the row's own edit."""
        return {}

    def load(self) -> Any:
        """Returns nothing."""
        return None

    def key_of(self, row: Row) -> Any:
        """Returns the edit of this row alone: others do not change its result."""
        return [row[CONTENT] in self.edits, self.edits.get(row[CONTENT])]

    def run(self, loaded: Any, row: Row) -> Mapping[str, Any]:
        """Returns the caption, and whether it is a person's."""
        if row[CONTENT] not in self.edits:
            return {"refined_caption": row["video_caption"], "by_hand": False}
        text = self.edits[row[CONTENT]]
        if text is None:
            raise StageFailure("refused by hand", "A person left this clip out.")
        return {"refined_caption": clean(text, "The edit"), "by_hand": True}
