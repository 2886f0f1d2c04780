"""Where the caption of a sample is: in a text file or in a field of its JSON."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pe.data.sample_errors import DAMAGED_CAPTION, NO_CAPTION, SampleError

# Text files and JSON fields that hold captions, the first one with a text counts.
CAPTION_KEYS = ("txt", "caption", "captions", "text")


@dataclasses.dataclass(frozen=True)
class CaptionReader:
    """Reads the caption of a sample.

    Each key is looked for among the sample's files (`0001.txt`) and among the fields of
    its `.json` file, whatever its capitals: LAION writes `TEXT`. A value may be a text
    or a list, of which one text is drawn. What is null or blank is passed over, and the
    next key is tried.

    Args:
        keys: names of files or fields, in the order of trust. One string is one key.

    Raises:
        ValueError: if there is no key, or an empty one.

    Example:
        >>> read = CaptionReader("title")
        >>> read({"json": b'{"title": "a cat"}'}, np.random.default_rng(0))
        'a cat'
        >>> default_caption({"txt": b"an owl"}, np.random.default_rng(0))
        'an owl'
    """

    keys: Sequence[str] = CAPTION_KEYS

    def __post_init__(self) -> None:
        keys = (self.keys,) if isinstance(self.keys, str) else tuple(self.keys)
        if not keys or not all(isinstance(key, str) and key.strip() for key in keys):
            raise ValueError(
                f"keys={self.keys!r}: expected names of text files or JSON fields, "
                "such as 'txt' or 'caption'."
            )
        object.__setattr__(self, "keys", keys)

    def __call__(self, sample: dict[str, Any], rng: np.random.Generator) -> str:
        """Returns the caption of a sample.

        Args:
            sample: what a source gives: bytes by extension.
            rng: where the choice among several captions comes from. It is used only
                where there is a list.

        Returns:
            The caption, with no white space around it.

        Raises:
            SampleError: if there is none, or it is damaged.
        """
        try:
            caption = self._find(sample, rng)
        except (ValueError, RecursionError) as error:
            raise SampleError(
                DAMAGED_CAPTION, f"{error}: expected UTF-8, in .json files valid JSON."
            ) from None
        if caption is None:
            raise SampleError(NO_CAPTION, self._missing(sample))
        return caption

    def _find(self, sample: dict[str, Any], rng: np.random.Generator) -> str | None:
        record: dict[str, Any] | None = None
        for key in self.keys:
            name = key.lower()  # as extensions are
            if name in sample and name != "json":
                caption = _text_of(bytes(sample[name]).decode("utf-8-sig"), rng)
                if caption is not None:
                    return caption
            if record is None:  # not before: a sound .txt makes up for a damaged .json
                record = _record(sample)
            if key in record:
                caption = _text_of(record[key], rng)
            else:
                caption = _text_of(_any_case(record, name), rng)
            if caption is not None:
                return caption
        return None

    def _missing(self, sample: dict[str, Any]) -> str:
        files = sorted(name for name in sample if not name.startswith("__"))
        fields = sorted(map(str, _record(sample)))
        where = f", and its .json has {fields[:12]}" if fields else ""
        return (
            f"No text in {' or '.join(self.keys)}. Its files are {files}{where}: name "
            "the file or the field that has the caption (--caption-key, or "
            "captions=CaptionReader(name))."
        )


default_caption = CaptionReader()


def _record(sample: dict[str, Any]) -> dict[str, Any]:
    """Reads the .json file; a bare text or list in it is a caption, too."""
    if "json" not in sample:
        return {}
    record = json.loads(bytes(sample["json"]))
    if isinstance(record, str | list):
        return {"caption": record}
    return record if isinstance(record, dict) else {}


def _any_case(record: dict[str, Any], name: str) -> Any:
    return next((value for key, value in record.items() if key.lower() == name), None)


def _text_of(value: Any, rng: np.random.Generator) -> str | None:
    """Returns a text, or one of a list of them; None if it is blank or no text."""
    if isinstance(value, list):
        texts = [text for text in value if isinstance(text, str) and text.strip()]
        value = texts[int(rng.integers(len(texts)))] if texts else None
    return value.strip() or None if isinstance(value, str) else None
