"""Who describes a clip: our own model, any function, an endpoint."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from keras_pe.arrays import check_sizes
from keras_pe.language.text_answers import answer_about_frames
from keras_pe.language.vision_language_model import VisionLanguageModel
from keras_pe.preprocessing.video import PEVideoConverter
from keras_pe.training.teachers.digest import weights_digest


class Captioner(Protocol):
    """What describes a clip, and its frames one by one.

    Attributes:
        converter: which frames it is shown, of which size.

    Example:
        >>> class Size:
        ...     converter = PEVideoConverter(image_size=8, num_frames=2)
        ...     def settings(self): return {"frames": self.converter.get_config()}
        ...     def load(self): return None
        ...     def of_video(self, loaded, frames): return f"{len(frames)} frames"
        ...     def of_frames(self, loaded, frames): return ["one"] * len(frames)
        >>> captioner: Captioner = Size()
        >>> captioner.of_video(captioner.load(), np.zeros((2, 8, 8, 3)))
        '2 frames'
    """

    converter: PEVideoConverter

    def settings(self) -> Mapping[str, Any]:
        """Returns what its captions depend on: JSON values."""

    def load(self) -> Any:
        """Returns what it needs, such as a model: called once a process."""

    def of_video(self, loaded: Any, frames: np.ndarray) -> str:
        """Returns a caption of all frames `(frames, height, width, 3)` together."""

    def of_frames(self, loaded: Any, frames: np.ndarray) -> Sequence[str]:
        """Returns a caption of each."""


class ModelCaptioner:
    """A `VisionLanguageModel`, asked about the mean of the frames, and about each.

    Args:
        preset: what `VisionLanguageModel.from_preset` takes.
        decoder: its language model, where the preset has none: "hub:..." or "gguf:...".
        question: what it is asked.
        num_frames: frames of a clip that it is shown.
        max_tokens: most tokens of a caption.

    Raises:
        CheckpointError: if there is no such preset, or its files are damaged.
        ValueError: if `num_frames` or `max_tokens` is no positive number.

    Example:
        >>> from keras_pe import PEImageConverter, PETokenizer, PEVisionEncoder
        >>> from keras_pe.language import QuestionPrompt, SmallDecoder
        >>> from keras_pe.layers import VisionProjector
        >>> VisionLanguageModel(
        ...     PEVisionEncoder(image_size=32, patch_size=8, hidden_dim=32,
        ...         num_layers=1, num_heads=4, intermediate_dim=64, output_dim=None),
        ...     VisionProjector(32, 16, pooling=2),
        ...     SmallDecoder(600, hidden_dim=16, num_layers=1, num_heads=2),
        ...     QuestionPrompt(PETokenizer(16, 600), image_tokens=4),
        ...     PEImageConverter(32)).save_to_preset("captioner")
        >>> captioner = ModelCaptioner("captioner", num_frames=2, max_tokens=2)
        >>> frames = np.zeros((2, 32, 32, 3), "float32")
        >>> len(captioner.of_frames(captioner.load(), frames))
        2
    """

    def __init__(
        self,
        preset: str,
        decoder: str | None = None,
        question: str = "What is this?",
        num_frames: int = 8,
        max_tokens: int = 32,
    ) -> None:
        check_sizes(max_tokens=max_tokens)
        self.preset, self.decoder = preset, decoder
        self.question, self.max_tokens = question, max_tokens
        self.converter = PEVideoConverter.from_preset(preset, num_frames=num_frames)
        self._weights: str | None = None

    def settings(self) -> Mapping[str, Any]:
        """Returns question, frames and a hash of all weights."""
        if self._weights is None:
            model = self.load()
            self._weights = weights_digest(
                model.encoder, model.projector, model.decoder
            )
        return {
            "question": self.question,
            "max_tokens": self.max_tokens,
            "frames": self.converter.get_config(),
            "weights": self._weights,
        }

    def load(self) -> VisionLanguageModel:
        """Returns the model."""
        return VisionLanguageModel.from_preset(self.preset, decoder=self.decoder)

    def of_video(self, loaded: VisionLanguageModel, frames: np.ndarray) -> str:
        """Returns what it says of the mean of the frames."""
        return answer_about_frames(loaded, frames, self.question, self.max_tokens)

    def of_frames(
        self, loaded: VisionLanguageModel, frames: np.ndarray
    ) -> Sequence[str]:
        """Returns what it says of each."""
        return loaded.answer(frames, self.question, self.max_tokens)


class FunctionCaptioner:
    """Any function of a clip's frames.

    Args:
        function: of `(frames, height, width, 3)` uint8; returns a caption. It belongs
            to a module: it travels to other processes by its name.
        version: what tells its captions from those of an earlier one; by default the
            function's source is hashed, which knows nothing of what it calls.
        image_size: side of the frames in pixels, or (height, width).
        num_frames: frames of a clip.

    Example:
        >>> def brightness(frames): return f"{frames.mean():.0f} of 255"
        >>> captioner = FunctionCaptioner(brightness, image_size=32)
        >>> captioner.of_video(None, np.zeros((8, 32, 32, 3), "float32"))
        '128 of 255'
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], str],
        version: str | None = None,
        image_size: int | Sequence[int] = 224,
        num_frames: int = 8,
    ) -> None:
        self.function = function
        self.version = source_of(function) if version is None else version
        self.converter = PEVideoConverter(image_size=image_size, num_frames=num_frames)

    def settings(self) -> Mapping[str, Any]:
        """Returns the function's name and version, and its frames."""
        name = name_of(self.function)
        frames = self.converter.get_config()
        return {"function": name, "version": self.version, "frames": frames}

    def load(self) -> Any:
        """Returns nothing."""
        return None

    def of_video(self, loaded: Any, frames: np.ndarray) -> str:
        """Returns what the function says of all frames."""
        return self.function(pixels(frames))

    def of_frames(self, loaded: Any, frames: np.ndarray) -> Sequence[str]:
        """Returns what it says of each alone."""
        return [self.function(frame[None]) for frame in pixels(frames)]


def pixels(frames: np.ndarray) -> np.ndarray:
    """Returns frames in [-1, 1] as uint8.

    Example:
        >>> pixels(np.array([-1.0, 0.0, 1.0])).tolist()
        [0, 128, 255]
    """
    return np.clip(np.rint((frames + 1) * 127.5), 0, 255).astype("uint8")


def name_of(function: Any) -> str:
    """Returns what a function is called, the same in every process.

    Example:
        >>> name_of(str.upper)
        'builtins.str.upper'
    """
    kind = function if hasattr(function, "__qualname__") else type(function)
    objects = getattr(kind, "__objclass__", None)  # of a method, its class
    module = getattr(kind, "__module__", None) or getattr(objects, "__module__", "")
    return f"{module}.{kind.__qualname__}"


def source_of(function: Any) -> str:
    """Returns the text of a function, or asks for a version.

    Raises:
        ValueError: if it has none, as one that was built in.
    """
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        raise ValueError(
            f"{function!r} has no source that could be compared with a later one: give "
            f"version=, and change it whenever its captions change."
        ) from None
