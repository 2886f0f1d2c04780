"""How a language probe asks and what it trains, for the shape of a layer."""

from collections.abc import Callable
from typing import Any

import keras

from keras_pe.arrays import check_sizes
from keras_pe.language.prompts import Prompt, QuestionPrompt
from keras_pe.language.small_decoder import SmallDecoder
from keras_pe.layers.projector import Merge, VisionProjector, check_projection
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.probing.language_batches import Documents
from keras_pe.probing.language_head import AnswerHead


class LanguageParts:
    """Makes prompt and head for features `(patch rows, patch columns, channels)`.

    Args:
        decoder: as of `LanguageProbe`, and so are the others.
        prompt: from the number of an image's tokens to how they are asked.
        pooling: side of the squares of patches that become one token.
        merge: how they do.
        depth: matrices of the projector.

    Raises:
        ValueError: if a setting makes no sense, or a decoder comes without its prompt.

    Example:
        >>> parts = LanguageParts({"hidden_dim": 32, "num_layers": 1}, pooling=2)
        >>> parts.prompt((8, 8, 96)).image_tokens
        16
        >>> parts.head((8, 8, 96)).decoder.hidden_dim
        32
    """

    def __init__(
        self,
        decoder: Any = None,
        prompt: Callable[[int], Prompt] | None = None,
        pooling: int = 1,
        merge: Merge = "average",
        depth: int = 2,
    ) -> None:
        check_sizes(pooling=pooling)
        check_projection(merge, depth)
        if decoder is not None and not isinstance(decoder, dict) and prompt is None:
            raise ValueError(
                "A decoder of your own reads its own tokenizer's ids: give prompt, a "
                "function from the number of an image's tokens to its QuestionPrompt."
            )
        self.decoder, self.make_prompt = decoder, prompt or small_prompt
        self.pooling, self.merge, self.depth = pooling, merge, depth
        self._documents: dict[int, Documents] = {}

    # === How it is asked ===
    def prompt(self, shape: tuple[int, ...]) -> Prompt:
        """Returns how a decoder is asked about features of a shape.

        Raises:
            ValueError: if the squares of patches do not fill it.
        """
        if shape[0] % self.pooling or shape[1] % self.pooling:
            raise ValueError(
                f"pooling={self.pooling} fills no layer of {shape[0]}x{shape[1]}"
                f" patches. Give a divisor of both, or images of another size."
            )
        return self.make_prompt(shape[0] * shape[1] // self.pooling**2)

    def documents(self, prompt: Prompt) -> Documents:
        """Returns what makes documents of questions; each is made but once."""
        return self._documents.setdefault(prompt.image_tokens, Documents(prompt))

    def written(self, answer: str) -> str:
        """Returns an answer as the decoder's vocabulary can write it."""
        # A prompt of any number of tokens writes alike.
        documents = next(iter(self._documents.values()), None)
        documents = documents or self.documents(self.make_prompt(1))
        return documents.written(answer)

    # === What is trained ===
    def head(self, shape: tuple[int, ...]) -> AnswerHead:
        """Returns a head of first weights, drawn with Keras' seed.

        Raises:
            ValueError: if the prompt was made for another decoder.
        """
        decoder, trained = self.decoder, True
        if decoder is None or isinstance(decoder, dict):
            prompt = self.prompt(shape)
            if not isinstance(prompt, QuestionPrompt):
                raise ValueError(
                    f"A {type(prompt).__name__} asks a language model that was taught "
                    f"its template: give that as decoder."
                )
            tokenizer = prompt.tokenizer
            longest = prompt.image_tokens + 2 * tokenizer.context_length
            options: dict[str, Any] = {
                "hidden_dim": 128,
                "num_layers": 3,
                "max_length": 2 * longest,
            }
            options.update(decoder or {})
            decoder = SmallDecoder(tokenizer.vocabulary_size, **options)
        elif isinstance(decoder, keras.Model):
            trained = False
        else:
            decoder = decoder()
        words = self.prompt(shape).vocabulary_size
        if words > decoder.vocabulary_size:
            raise ValueError(
                f"The prompt's tokenizer has {words} ids, and the decoder "
                f"{decoder.vocabulary_size}: give the tokenizer that it was made for."
            )
        projector = VisionProjector(
            shape[2],
            decoder.hidden_dim,
            pooling=self.pooling,
            merge=self.merge,
            depth=self.depth,
            norm=True,
        )
        return AnswerHead(projector, decoder, trained)


def small_prompt(image_tokens: int) -> QuestionPrompt:
    """Returns how decoders that are made here are asked."""
    return QuestionPrompt(PETokenizer(64, 6000), image_tokens)
