"""One caption of all that is said of a clip, as it is to be learned."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from keras_pe.arrays import check_sizes
from keras_pe.data_engine.captions import EMPTY_CAPTION, clean
from keras_pe.data_engine.language_models import LanguageModel
from keras_pe.data_engine.stage import Row, StageFailure

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
        keys: of the metadata, in this order, where a clip has them; default: all, by
            name. Codes and addresses say nothing: leave them out. What is null or blank
            is; of an object the values count.

    Raises:
        ValueError: if there are no parts, or one is unknown, or there are no keys, or
            `words` is no positive number.

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
        keys: Sequence[str] | None = None,
    ) -> None:
        check_sizes(words=words)
        self.model, self.words = model, words
        self.parts, self.keys = _known(parts), _checked(keys, parts)
        self.reads = tuple(PARTS[part] for part in self.parts)

    def settings(self) -> Mapping[str, Any]:
        """Returns the prompt and the settings of the model."""
        return {
            "prompt": SUMMARY,
            "words": self.words,
            "parts": list(self.parts),
            "model": dict(self.model.settings()),
            **_setting(self.keys),
        }

    def load(self) -> Any:
        """Returns what the model loads."""
        return self.model.load()

    def prompt(self, row: Row) -> str:
        """Returns what the model is asked about a row.

        Raises:
            StageFailure: if nothing is said of it: a model would invent something.
        """
        said = _said(row, self.parts, self.keys)
        if not said:
            raise StageFailure(
                EMPTY_CAPTION, f"Nothing to sum up in {', '.join(self.parts)}."
            )
        return SUMMARY.format(
            words=self.words, **{part: said.get(part, "unknown") for part in PARTS}
        )

    def run(self, loaded: Any, row: Row) -> Mapping[str, Any]:
        """Returns the caption."""
        answer = self.model.answer(loaded, self.prompt(row))
        return {"caption": clean(answer, "The summary")}


class JoinedCaption:
    """Puts what is said of a clip one behind the other, each once.

    It is what a language model has to be better than.

    Args:
        parts, keys: as of `Summary`.

    Example:
        >>> row = {"refined_caption": "owl", "frame_captions": ["owl", "owl", "cat"]}
        >>> JoinedCaption(["video", "frames"]).run(None, row)
        {'caption': 'owl; cat'}
        >>> row["metadata"] = {"id": "x1", "tags": ["bird", "night"], "title": "Owl"}
        >>> JoinedCaption(["metadata", "video"], keys=["title", "tags"]).run(None, row)
        {'caption': 'Owl; bird, night; owl'}
    """

    name, gives = "joined_caption", ("caption",)

    def __init__(
        self,
        parts: Sequence[str] = tuple(PARTS),
        keys: Sequence[str] | None = None,
    ) -> None:
        self.parts, self.keys = _known(parts), _checked(keys, parts)
        self.reads = tuple(PARTS[part] for part in self.parts)

    def settings(self) -> Mapping[str, Any]:
        """Returns the parts, and keys that were chosen."""
        return {"parts": list(self.parts), **_setting(self.keys)}

    def load(self) -> Any:
        """Returns nothing."""
        return None

    def run(self, loaded: Any, row: Row) -> Mapping[str, Any]:
        """Returns the caption."""
        said = "; ".join(_said(row, self.parts, self.keys).values()).split("; ")
        return {"caption": clean(_each_once(said), "The caption")}


def _known(parts: Sequence[str]) -> tuple[str, ...]:
    given = _listed(parts)
    if not given or not all(isinstance(part, str) and part in PARTS for part in given):
        raise ValueError(f"parts={parts!r}: expected some of {', '.join(PARTS)}.")
    return tuple(part for part in PARTS if part in given)


def _checked(
    keys: Sequence[str] | None, parts: Sequence[str]
) -> tuple[str, ...] | None:
    if keys is None:
        return None
    if "metadata" not in parts:
        raise ValueError(
            f"keys={keys!r} of the metadata, which parts={parts!r} lack: add "
            f'"metadata" to the parts, or give no keys.'
        )
    given = () if isinstance(keys, Set) else _listed(keys)  # a set has no order
    if not given or not all(isinstance(key, str) and key.strip() for key in given):
        raise ValueError(
            f"keys={keys!r}: expected a list of names of metadata, or None for all."
        )
    return tuple(dict.fromkeys(map(str, given)))


def _listed(given: Any) -> tuple[Any, ...]:
    """Returns what is in it; nothing of a text, and of what is no collection."""
    several = isinstance(given, Iterable) and not isinstance(given, str | bytes)
    return tuple(given) if several else ()


def _setting(keys: tuple[str, ...] | None) -> dict[str, Any]:
    """Returns nothing for all keys: results of before keep their hash."""
    return {} if keys is None else {"keys": list(keys)}


def _said(row: Row, parts: Sequence[str], keys: Sequence[str] | None) -> dict[str, str]:
    """Returns what is said of a clip, in words, by part; what is empty is left out."""
    said = {}
    for part in parts:
        value = row[PARTS[part]]
        if isinstance(value, Mapping):
            chosen = sorted(value) if keys is None else [k for k in keys if k in value]
            value = [value[key] for key in chosen]
        if isinstance(value, list | tuple):
            value = _each_once(map(_words, value))
        if value:
            said[part] = value
    return said


def _each_once(said: Iterable[str]) -> str:
    return "; ".join(filter(None, dict.fromkeys(said)))


def _words(value: Any) -> str:
    """Returns a value of metadata in one line; "" of null, and of what is empty."""
    if isinstance(value, Mapping):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(_words, value)))
    return "" if value is None else " ".join(str(value).split())
