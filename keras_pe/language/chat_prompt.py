"""Questions about images in the template that a chat model was taught."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pe.arrays import check_sizes
from keras_pe.data.packing import Document
from keras_pe.language.chat_templates import CHATML, ChatTemplate
from keras_pe.language.chat_tokenizers import ChatTokenizer, chat_tokenizer
from keras_pe.language.prompts import Prompt

SYSTEM = CHATML.told


class ChatPrompt(Prompt):
    """How a chat model is asked: system, user with image and question, assistant.

    The image's tokens stand where the user's words begin. Marks are looked up, never
    read out of a text; what lies between two marks, or a mark and an image, becomes
    tokens as one text, as in the template that the model was taught.

    Args:
        tokenizer: whose ids the decoder reads: of the package `tokenizers`, or one of
            KerasHub's, with the template's marks.
        image_tokens: tokens of an image.
        system: what the model is told first; SmolLM2's own by default. None for
            nothing.
        template: what stands around all texts.
        vocabulary_size: how many ids the decoder knows; None for as many as the
            tokenizer has. Many decoders have more, which nothing is.

    Attributes:
        tokenizer: of the library that makes the ids.

    Raises:
        ValueError: if the tokenizer lacks a mark or has more ids than the decoder, or
            the system text has a mark in it.

    Example:
        >>> from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        >>> words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *CHATML.tokens]
        >>> ids = {word: number for number, word in enumerate(words)}
        >>> tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
        >>> tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        >>> tokenizer.decoder = decoders.ByteLevel()
        >>> _ = tokenizer.add_special_tokens(list(CHATML.tokens))
        >>> prompt = ChatPrompt(tokenizer, image_tokens=4)
        >>> int(prompt.question("What is this?").image.sum())
        4
        >>> prompt.text(prompt.answer("a cat"))
        'a cat'
    """

    def __init__(
        self,
        tokenizer: Any,
        image_tokens: int,
        system: str | None = SYSTEM,
        template: ChatTemplate = CHATML,
        vocabulary_size: int | None = None,
    ) -> None:
        check_sizes(image_tokens=image_tokens)
        self.words: ChatTokenizer = chat_tokenizer(tokenizer)
        self.tokenizer = self.words.tokenizer
        self.image_tokens, self.system, self.template = image_tokens, system, template
        missing = missing_marks(self.words, template)
        if missing:
            raise ValueError(
                f"The tokenizer has no {', '.join(missing)}: it is of a model that was "
                f"not taught the template {template.name}."
            )
        self._marks: dict[str, int] = {
            mark: number
            for mark in template.tokens
            if (number := self.words.id_of(mark)) is not None
        }
        self._special = self.words.special | set(self._marks.values())
        self.stop_id = self._marks[template.stop]
        size = self.words.size if vocabulary_size is None else vocabulary_size
        if self.words.size > size:
            raise ValueError(
                f"The tokenizer has {self.words.size} ids, and the decoder {size}: it "
                f"is another model's."
            )
        self.vocabulary_size = int(size)
        self._known: dict[str, list[int]] = {}  # texts of the template alone
        split = re.compile(f"({'|'.join(map(re.escape, template.tokens))})")
        before, self._asked = (self._parts(split, x) for x in template.question)
        self._next = [*self._parts(split, template.between), *before]
        self._answer = [self._parts(split, x) for x in template.answer]
        told: list[str | int] = []
        if system is not None:
            opened, closed = (self._parts(split, x) for x in template.system)
            told = [*opened, self._checked(system), *closed]
        told = [*before, *told] if template.inside else [*told, *before]
        self._first = [*self._parts(split, template.start), *told]
        self._first_ids = self._ids(self._first)

    def question(self, question: str, image: bool = True) -> Document:
        """Returns a question without an answer: what `generate` goes on from."""
        asked = [self._checked(question), *self._asked]
        if not image:
            ids, shown = self._ids([*self._first, *asked]), 0
        else:
            ids, shown = self._ids(asked), self.image_tokens
            ids = np.concatenate([self._first_ids, np.zeros(shown, "int32"), ids])
        of_image = np.zeros(len(ids), bool)
        of_image[len(self._first_ids) :][:shown] = True
        return Document(ids, np.zeros(len(ids), bool), of_image)

    def text(self, token_ids: Any) -> str:
        """Returns the text of an answer's tokens, up to its end."""
        ids = np.asarray(token_ids)
        ends = np.flatnonzero(ids == self.stop_id)
        ids = ids[: ends[0]] if len(ends) else ids
        words = [number for number in ids.tolist() if number not in self._special]
        return self.words.decode(words).strip()

    def next_question(self, question: str) -> np.ndarray:
        """Returns the ids of a question that comes after an answer."""
        return self._ids([*self._next, self._checked(question), *self._asked])

    def answer(self, text: str, question: str | None = None) -> np.ndarray:
        """Returns the ids of an answer, its end among them.

        Args:
            text: the answer.
            question: makes no difference.

        Raises:
            ValueError: if it has a mark of the template in it.
        """
        before, after = self._answer
        return self._ids([*before, self._checked(text), *after, self.stop_id])

    def _parts(self, split: re.Pattern[str], text: str) -> list[str | int]:
        """Returns a piece of the template: ids of its marks, and texts."""
        found = [self._marks.get(x, x) for x in split.split(text) if x]
        for part in found:
            if isinstance(part, str):
                self._known[part] = self.words.encode(part)
        return found

    def _ids(self, parts: Sequence[str | int]) -> np.ndarray:
        """Returns the ids of texts, those that follow each other as one text."""
        ids: list[int] = []
        text = ""
        for part in parts:
            if isinstance(part, str):
                text += part
            else:
                ids += [*self._text_ids(text), part]
                text = ""
        return np.array([*ids, *self._text_ids(text)], "int32")

    def _text_ids(self, text: str) -> list[int]:
        known = self._known.get(text)
        found = self.words.encode(text) if known is None else known
        marks = [number for number in found if number in self._special]
        if marks:
            raise ValueError(_REFUSED.format(self.words.token_of(marks[0]), text))
        return found

    def _checked(self, text: str) -> str:
        """Returns a text, in which a mark would speak for another one."""
        for mark in (*self.template.tokens, *self.template.words):
            if mark in text:
                raise ValueError(_REFUSED.format(mark, text))
        return text


_REFUSED = "A text has {} in it, a mark of the model's template: {!r:.82}. Take it out."


def missing_marks(words: ChatTokenizer, template: ChatTemplate) -> list[str]:
    """Returns the marks of a template that are no tokens of a vocabulary."""
    return [mark for mark in template.tokens if words.id_of(mark) is None]
