"""Questions about images in ChatML, for language models that were taught to chat."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pe.arrays import check_sizes
from keras_pe.data.packing import Document

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
START, END = "<|im_start|>", "<|im_end|>"


class ChatPrompt:
    """How a chat model is asked: system, user with image and question, assistant.

    The image's tokens stand where the user's words begin. The same methods as
    `QuestionPrompt`'s.

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

    def document(
        self, question: str, answer: str, image: bool = True, source: str = "a question"
    ) -> Document:
        """Returns a question and its answer, which is to be learned with its end."""
        return self.conversation([(question, answer)], image, source)

    def conversation(
        self,
        turns: Sequence[tuple[str, str]],
        image: bool = True,
        source: str = "a conversation",
    ) -> Document:
        """Returns questions of one image and their answers, each after those before.

        Args:
            turns: (question, answer), at least one.
            image: whether they are asked of an image.
            source: what they come from, for errors.

        Raises:
            ValueError: if there are none, or a text has a mark of the template in it.
        """
        if not turns:
            raise ValueError(f"{source}: a conversation has at least one question.")
        first = self.question(turns[0][0], image)
        pieces = [first.token_ids.tolist(), self._answer(turns[0][1])]
        for question, answer in turns[1:]:
            asked = [*self._marked("\n"), *self._user, *self._words(question)]
            pieces += [[*asked, *self._asked], self._answer(answer)]
        answered = [np.full(len(ids), k % 2 == 1) for k, ids in enumerate(pieces)]
        shown = np.zeros(sum(map(len, pieces)), bool)
        shown[: len(first)] = first.image
        ids = np.concatenate(pieces).astype("int32")
        return Document(ids, np.concatenate(answered), shown, source)

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

    def _answer(self, text: str) -> list[int]:
        return [*self._words(text), self.stop_id]

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
