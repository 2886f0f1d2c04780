"""Configurations of converters and tokenizers: what a file may decide, how they look.

Which decoders run and how much memory an image may take is the user's decision. A
preset comes from somebody else: it may ask for less than the defaults, never for more.
"""

import difflib
import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np

from keras_pe.preprocessing.image_decoding import (
    DEFAULT_FORMATS,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_SIDE,
)
from keras_pe.preprocessing.image_errors import (
    DEFAULT_MAX_FRAMES,
    ImageError,
    SkipReport,
)

_LIMITS = {
    "max_pixels": DEFAULT_MAX_PIXELS,
    "max_side": DEFAULT_MAX_SIDE,
    "max_frames": DEFAULT_MAX_FRAMES,
}
# An image of this side takes 0.2 GB; published models have 224 to 512.
_LARGEST_IMAGE_SIZE = 4096
# Published protocols take 8 to 32 frames. All frames of a video together may take as
# much as eight images of the largest size.
_MOST_FRAMES = 256
_MOST_PIXELS = 8 * _LARGEST_IMAGE_SIZE**2
_MOST_TOKENS = 65_536  # of a text; Perception Encoder has 72
_LARGEST_VALUE = 1e6  # of a pixel after mean and std; published models have 1


def narrowed(config: Mapping[str, Any], where: str = "the preset") -> dict[str, Any]:
    """Returns a converter's configuration with nothing in it that widens the defaults.

    Formats and limits are kept as far as they are stricter than the defaults, with a
    warning that names what was not kept. What to do with bad images is left to the
    user. Everything else (size, mean, ...) is the file's.

    Args:
        config: of a `PEImageConverter` or `PEVideoConverter`, out of a file.
        where: the file, for messages.

    Returns:
        A configuration for `from_config`.

    Raises:
        ValueError: if no format is left, or the image size or number of frames is
            absurd.

    Example:
        >>> narrowed({"image_size": 64, "max_pixels": 1000, "on_error": "skip"})
        {'image_size': 64, 'max_pixels': 1000}
    """
    kept = {**config}
    refused = []
    if kept.pop("on_error", "raise") != "raise":
        refused.append("on_error")
    for argument, limit in _LIMITS.items():
        value = kept.get(argument, limit)
        if isinstance(value, int | float) and not value <= limit:
            refused.append(f"{argument}={value!r}")
            kept[argument] = limit
    formats = kept.get("formats")
    if formats is not None:
        if not isinstance(formats, list | tuple):
            raise ValueError(f"{where} has formats={formats!r}; expected a list.")
        wanted = [str(name).upper() for name in formats]
        kept["formats"] = [name for name in wanted if name in DEFAULT_FORMATS]
        wide = [name for name in wanted if name not in DEFAULT_FORMATS]
        if wide:
            refused.append(f"formats={wide}")
        if wide and not kept["formats"]:
            raise ValueError(
                f"{where} has formats={wide}; a file may choose among "
                f"{', '.join(DEFAULT_FORMATS)}. Build the converter yourself if you "
                "trust these decoders."
            )
    _check_size(kept.get("image_size", 1), kept.get("num_frames", 1), where)
    _check_scale(kept)
    if refused:
        warnings.warn(
            f"{where} asks for {', '.join(refused)}, which a file does not decide: "
            "the defaults are used. Pass them yourself, as in "
            "PEImageConverter.from_preset(preset, max_pixels=...), if you want them.",
            stacklevel=2,
        )
    return kept


def narrowed_tokenizer(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns a tokenizer's configuration with nothing in it that says less.

    Args:
        config: of a `PETokenizer`, out of a file.
        where: the file, for messages.

    Returns:
        A configuration for `from_config`.

    Raises:
        ValueError: if the context is absurd.
    """
    kept = dict(config)
    if kept.get("on_truncation") == "ignore":
        kept["on_truncation"] = "warn"
        warnings.warn(
            f"{where} asks for on_truncation='ignore', which a file does not decide: "
            f"cut texts are warned of. Make the PETokenizer yourself if you want it.",
            stacklevel=2,
        )
    if kept.get("context_length", 0) > _MOST_TOKENS:
        raise ValueError(
            f"context_length is {kept['context_length']} tokens, expected at most "
            f"{_MOST_TOKENS} from a file"
        )
    return kept


def _check_size(size: Any, num_frames: Any, where: str) -> None:
    """Refuses what no memory holds; what is no number is left to the converter."""
    sides = size if isinstance(size, list | tuple) else [size, size]
    known = [side for side in sides if isinstance(side, int | float)]
    if not max(known, default=0) <= _LARGEST_IMAGE_SIZE:
        raise ValueError(
            f"{where} has image_size={size!r}; expected at most {_LARGEST_IMAGE_SIZE} "
            "from a file."
        )
    if not isinstance(num_frames, int | float):
        return
    pixels = num_frames * math.prod(known)
    if not num_frames <= _MOST_FRAMES or not pixels <= _MOST_PIXELS:
        raise ValueError(
            f"{where} has num_frames={num_frames!r} of image_size={size!r}; expected "
            f"at most {_MOST_FRAMES} frames and {_MOST_PIXELS:,} pixels together from "
            "a file. Make the PEVideoConverter yourself if you trust it."
        )


def _check_scale(config: Mapping[str, Any]) -> None:
    """Refuses a mean and a deviation by which pixels become no numbers of float32."""
    for mean, std in zip(
        config.get("mean", (0.5,)), config.get("std", (0.5,)), strict=False
    ):
        largest = max(abs(mean), abs(1 - mean)) / std if std else math.inf
        if not largest < _LARGEST_VALUE:
            raise ValueError(
                f"mean {mean} and std {std} make pixels of up to {largest:g}, expected "
                f"less than {_LARGEST_VALUE:g}"
            )


def check_changes(cls: type, changes: Mapping[str, Any]) -> None:
    """Refuses changes to a preset's configuration that are no arguments of its class.

    Raises:
        TypeError: naming the first, and the argument nearest to it.
    """
    known = list(inspect.signature(cls).parameters)
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]}?" if near else f"It has {', '.join(known)}."
            raise TypeError(f"{cls.__name__} has no argument {name!r}. {hint}")


# === What both converters do with their configuration, and with many items ===
class Converter:
    """A converter of images or videos, one of which may be skipped and counted."""

    on_error: str
    last_report: SkipReport

    def __repr__(self) -> str:
        return shown_call(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds a converter from what `get_config` returned."""
        return cls(**config)

    narrowed = staticmethod(narrowed)  # what a file decides of its configuration

    def convert(self, item: Any, name: str | None = None) -> np.ndarray:
        """Converts exactly one item, whatever `on_error` says."""
        raise NotImplementedError

    def _convert_all(self, items: Iterable[tuple[Any, str]]) -> list[np.ndarray]:
        """Converts items with their names, but for those that `on_error` skips."""
        results = (functools.partial(self.convert, item, name) for item, name in items)
        return self._gather(results, stacklevel=4)

    def _gather(
        self, results: Iterable[Callable[[], np.ndarray]], stacklevel: int = 3
    ) -> list[np.ndarray]:
        """Calls what converts each item; notes in `last_report` what is skipped."""
        report = SkipReport()
        rows = []
        for index, result in enumerate(results):
            report.num_images += 1
            try:
                rows.append(result())
            except ImageError as error:
                if self.on_error == "raise":
                    raise
                report.add(index, error)
        self.last_report = report
        if report.skipped:
            # For the caller of `__call__`.
            text = f"{report}. `last_report` has the details."
            warnings.warn(text, stacklevel=stacklevel)
        return rows


# === How they are shown: as the call that makes them again ===
def shown_call(thing: Any) -> str:
    """Returns the call that makes a thing, with the arguments that are not the default.

    Args:
        thing: an object whose `get_config` gives its constructor's arguments.

    Example:
        >>> from keras_pe.preprocessing.tokenizer import PETokenizer
        >>> PETokenizer(context_length=8)
        PETokenizer(context_length=8)
    """
    parameters = inspect.signature(type(thing)).parameters
    shown = []
    for name, value in thing.get_config().items():
        value = _plain(value)
        if name not in parameters or value != _plain(parameters[name].default):
            shown.append(f"{name}={value!r}")
    return f"{type(thing).__name__}({', '.join(shown)})"


def _plain(value: Any) -> Any:
    """Returns lists, which JSON has, as the tuples that signatures have."""
    return tuple(value) if isinstance(value, list | frozenset | set) else value
