"""Questions about images in ChatML, for language models that were taught to chat."""

from typing import Any

import numpy as np

from keras_pe.arrays import check_sizes
from keras_pe.data.packing import Document
from keras_pe.language.prompts import Prompt

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
START, END = "<|im_start|>", "<|im_end|>"


class ChatPrompt(Prompt):
    """How a chat model is asked: system, user with image and question, assistant.

    The image's tokens stand where the user's words begin.

    Args:
        tokenizer: of the package `tokenizers`, with ChatML's marks.
        image_tokens: tokens of an image.
        system: what the model is told first; SmolLM2's own by default. None for
            nothing.

    Raises:
        ValueError: if the tokenizer lacks a mark.
    """

    def __init__(
        self, tokenizer: Any, image_tokens: int, system: str | None = SYSTEM
    ) -> None:
        check_sizes(image_tokens=image_tokens)
        self.tokenizer, self.image_tokens, self.system = tokenizer, image_tokens, system
        marks = {mark: tokenizer.token_to_id(mark) for mark in (START, END)}
        for mark, number in marks.items():
            if number is None:
                raise ValueError(
                    f"The tokenizer has no {mark}: it is of a model that was not "
                    f"taught ChatML."
                )
        self._special = {
            number
            for number, token in tokenizer.get_added_tokens_decoder().items()
            if token.special
        }
        self.stop_id = int(marks[END])
        self.vocabulary_size = int(tokenizer.get_vocab_size())
        self._user = self._marked(f"{START}user\n")
        self._asked = self._marked(f"{END}\n{START}assistant\n")
        told = "" if system is None else f"{START}system\n{system}{END}\n"
        self._start = self._marked(told) + self._user

    def question(self, question: str, image: bool = True) -> Document:
        """Returns a question without an answer: what `generate` goes on from."""
        shown = self.image_tokens if image else 0
        ids = [*self._start, *[0] * shown, *self._words(question), *self._asked]
        of_image = np.zeros(len(ids), bool)
        of_image[len(self._start) : len(self._start) + shown] = True
        return Document(np.array(ids, "int32"), np.zeros(len(ids), bool), of_image)

    def text(self, token_ids: Any) -> str:
        """Returns the text of an answer's tokens, up to its end."""
        ids = np.asarray(token_ids)
        ends = np.flatnonzero(ids == self.stop_id)
        ids = ids[: ends[0]] if len(ends) else ids
        return str(self.tokenizer.decode(ids.tolist())).strip()

    def next_question(self, question: str) -> np.ndarray:
        """Returns the ids of a question that comes after an answer."""
        asked = [*self._marked("\n"), *self._user, *self._words(question)]
        return np.array([*asked, *self._asked], "int32")

    def answer(self, text: str) -> np.ndarray:
        """Returns the ids of an answer, its end among them.

        Raises:
            ValueError: if it has a mark of the template in it.
        """
        return np.array([*self._words(text), self.stop_id], "int32")

    def _words(self, text: str) -> list[int]:
        """Returns the ids of a text, in which a mark would speak for another one."""
        ids = self._marked(text)
        marks = [number for number in ids if number in self._special]
        if marks:
            raise ValueError(
                f"A text has {self.tokenizer.id_to_token(marks[0])} in it, a mark of "
                f"the model's template: {text[:80]!r}. Take it out."
            )
        return ids

    def _marked(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)
