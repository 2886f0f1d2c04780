"""One caption of all that is said of a clip, as it is to be learned."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_pe.data_engine.captions import clean
from keras_pe.data_engine.language_models import LanguageModel
from keras_pe.data_engine.stage import Row

# What a caption is made of, and the field of the row.
PARTS = {
    "metadata": "metadata",
    "video": "refined_caption",
    "frames": "frame_captions",
}
# In our own words, after the gist of the paper's prompt.
SUMMARY = """Write one caption for a video, in the style of alternative text: short \
phrases, at most {words} words, key facts first. Use only what is written below. The \
metadata give context and names; what is seen comes from the captions. No full \
sentences needed, few special characters, nothing invented.
Metadata: {metadata}
Video: {video}
Frames: {frames}
Caption:"""


class Summary:
    """Makes one caption of metadata, the video's caption and those of frames.

    Args:
        model: who does it.
        words: how many it is asked for.
        parts: which of "metadata", "video" and "frames" it is given: the paper's table
            of what each is worth.

    Raises:
        ValueError: if there are no parts, or one is unknown.

    Source: Perception Encoder, section 2.2 and appendix A.1, whose prompt asks for
    about 120 tokens; this one follows its gist.

    Example:
        >>> from keras_pe.data_engine import FunctionLanguageModel
        >>> last = FunctionLanguageModel(lambda text: text.split("Video: ")[1], "1")
        >>> stage = Summary(last, parts=["video"])
        >>> stage.run(stage.load(), {"refined_caption": "an owl"})["caption"]
        'an owl Frames: unknown Caption:'
    """

    name, gives = "summary", ("caption",)

    def __init__(
        self,
        model: LanguageModel,
        words: int = 60,
        parts: Sequence[str] = tuple(PARTS),
    ) -> None:
        self.model, self.words = model, words
        self.parts = _known(parts)
        self.reads = tuple(PARTS[part] for part in self.parts)

    def settings(self) -> Mapping[str, Any]:
        """Returns the prompt and the settings of the model."""
        return {
            "prompt": SUMMARY,
            "words": self.words,
            "parts": list(self.parts),
            "model": dict(self.model.settings()),
        }

    def load(self) -> Any:
        """Returns what the model loads."""
        return self.model.load()

    def prompt(self, row: Row) -> str:
        """Returns what the model is asked about a row."""
        said = dict.fromkeys(PARTS, "unknown") | _said(row, self.parts)
        return SUMMARY.format(words=self.words, **said)

    def run(self, loaded: Any, row: Row) -> Mapping[str, Any]:
        """Returns the caption."""
        answer = self.model.answer(loaded, self.prompt(row))
        return {"caption": clean(answer, "The summary")}


class JoinedCaption:
    """Puts what is said of a clip one behind the other, each once.

    It is what a language model has to be better than.

    Args:
        parts: as of `Summary`.

    Example:
        >>> row = {"refined_caption": "owl", "frame_captions": ["owl", "owl", "cat"]}
        >>> JoinedCaption(["video", "frames"]).run(None, row)
        {'caption': 'owl; cat'}
    """

    name, gives = "joined_caption", ("caption",)

    def __init__(self, parts: Sequence[str] = tuple(PARTS)) -> None:
        self.parts = _known(parts)
        self.reads = tuple(PARTS[part] for part in self.parts)

    def settings(self) -> Mapping[str, Any]:
        """Returns the parts."""
        return {"parts": list(self.parts)}

    def load(self) -> Any:
        """Returns nothing."""
        return None

    def run(self, loaded: Any, row: Row) -> Mapping[str, Any]:
        """Returns the caption."""
        said = "; ".join(_said(row, self.parts).values()).split("; ")
        return {"caption": clean("; ".join(dict.fromkeys(said)), "The caption")}


def _known(parts: Sequence[str]) -> tuple[str, ...]:
    if isinstance(parts, str) or not parts or not set(parts) <= set(PARTS):
        raise ValueError(f"parts={parts!r}: expected some of {', '.join(PARTS)}.")
    return tuple(part for part in PARTS if part in parts)


def _said(row: Row, parts: Sequence[str]) -> dict[str, str]:
    """Returns what is said of a clip, in words, by part; what is empty is left out."""
    said = {}
    for part in parts:
        value = row[PARTS[part]]
        if isinstance(value, Mapping):
            value = [_words(one) for _, one in sorted(value.items())]
        if isinstance(value, list | tuple):
            value = "; ".join(dict.fromkeys(value))  # each once
        if value:
            said[part] = value
    return said


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return str(value)
