"""Who makes one text of several: a causal language model, any function."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from keras_pe.arrays import check_sizes
from keras_pe.data_engine.captioners import name_of, source_of
from keras_pe.language.foreign import foreign_decoder, foreign_prompt
from keras_pe.language.text_answers import answer_texts
from keras_pe.training.teachers.digest import weights_digest


class LanguageModel(Protocol):
    """What answers a text with a text.

    Example:
        >>> class Loud:
        ...     def settings(self): return {"version": 1}
        ...     def load(self): return None
        ...     def answer(self, loaded, text): return text.upper()
        >>> model: LanguageModel = Loud()
        >>> model.answer(model.load(), "an owl")
        'AN OWL'
    """

    def settings(self) -> Mapping[str, Any]:
        """Returns what its answers depend on: JSON values."""

    def load(self) -> Any:
        """Returns what it needs, such as a model: called once a process."""

    def answer(self, loaded: Any, text: str) -> str:
        """Returns the answer."""


class DecoderLanguageModel:
    """A causal language model: KerasHub's, or a Llama out of a GGUF file.

    Args:
        name: "hub:" and a preset of KerasHub's, or "gguf:" and a path, as of
            `keras_pe.language.foreign_decoder`.
        max_tokens: most tokens of an answer.
        max_length: most tokens of question and answer.
        no_repeat: as of `keras_pe.language.generate`: small models say one thing again
            and again. None lets them.

    Raises:
        ValueError: if one of these is no positive number.

    Example:
        >>> DecoderLanguageModel("gguf:SmolLM2-135M-Instruct.Q4_1.gguf").max_tokens
        120
    """

    def __init__(
        self,
        name: str,
        max_tokens: int = 120,
        max_length: int = 2048,
        no_repeat: int | None = 3,
    ) -> None:
        check_sizes(max_tokens=max_tokens, max_length=max_length)
        if no_repeat is not None:
            check_sizes(no_repeat=no_repeat)
        self.name, self.max_tokens, self.max_length = name, max_tokens, max_length
        self.no_repeat = no_repeat
        self._weights: str | None = None

    def settings(self) -> Mapping[str, Any]:
        """Returns the hash of its weights, and what an answer may be."""
        if self._weights is None:
            self._weights = weights_digest(self.load()[0])
        return {
            "weights": self._weights,
            "max_tokens": self.max_tokens,
            "no_repeat": self.no_repeat,
        }

    def load(self) -> Any:
        """Returns the model and how it is asked."""
        decoder = foreign_decoder(self.name, self.max_length)
        return decoder, foreign_prompt(self.name, decoder, image_tokens=1)

    def answer(self, loaded: Any, text: str) -> str:
        """Returns the likeliest answer."""
        decoder, prompt = loaded
        options = self.max_tokens, self.no_repeat
        return answer_texts(decoder, prompt, [text], *options)[0]


class FunctionLanguageModel:
    """Any function from a text to a text.

    Args:
        function: of a module: it travels to other processes by its name.
        version: as of `FunctionCaptioner`.

    Example:
        >>> model = FunctionLanguageModel(str.upper, version="1")
        >>> model.answer(model.load(), "an owl")
        'AN OWL'
    """

    def __init__(
        self, function: Callable[[str], str], version: str | None = None
    ) -> None:
        self.function = function
        self.version = source_of(function) if version is None else version

    def settings(self) -> Mapping[str, Any]:
        """Returns the function's name and version."""
        name = name_of(self.function)
        return {"function": name, "version": self.version}

    def load(self) -> Any:
        """Returns nothing."""
        return None

    def answer(self, loaded: Any, text: str) -> str:
        """Returns what the function does."""
        return self.function(text)
