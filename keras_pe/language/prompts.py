"""Questions about images as sequences of tokens, for training and for answering."""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pe.arrays import check_sizes, check_switches
from keras_pe.data.packing import Document
from keras_pe.language.word_spacing import spaced_as_written
from keras_pe.preprocessing.tokenizer import (
    END_TEXT,
    SMALLEST_VOCABULARY_SIZE,
    START_TEXT,
    PETokenizer,
)

_HAS_MARK = "A text has {mark} in it: {text!r:.82}. Take it out."


class Prompt(abc.ABC):
    """How a language model is asked about an image, in its own marks.

    Attributes:
        image_tokens: tokens of an image.
        stop_id: token that ends an answer.
        vocabulary_size: how many token ids there are.
        packs: whether its documents may stand in a row with others: some decoders can't
            tell them apart.

    Example:
        >>> from keras_pe import PETokenizer
        >>> prompt: Prompt = QuestionPrompt(PETokenizer(16, 600), image_tokens=4)
        >>> prompt.written("A cat!")    # as its vocabulary can say it
        'a cat!'
    """

    image_tokens: int
    stop_id: int
    vocabulary_size: int
    packs: bool = True

    @abc.abstractmethod
    def question(self, question: str, image: bool = True) -> Document:
        """Returns a question without an answer: what `generate` goes on from."""

    @abc.abstractmethod
    def next_question(self, question: str) -> np.ndarray:
        """Returns the ids of a question that comes after an answer."""

    @abc.abstractmethod
    def answer(self, text: str, question: str | None = None) -> np.ndarray:
        """Returns the ids of an answer, its end among them.

        Args:
            text: the answer.
            question: that it answers, where the way it is written depends on it.
        """

    @abc.abstractmethod
    def text(self, token_ids: Any) -> str:
        """Returns the text of an answer's tokens, up to its end."""

    def written(self, answer: str) -> str:
        """Returns a right answer as a model says it that says it rightly.

        Scores compare answers with this: a vocabulary may keep neither capitals nor
        how marks and words stand together.

        Raises:
            ValueError: if it can't be tokens.
        """
        return self.text(self.answer(answer))

    def document(
        self, question: str, answer: str, image: bool = True, source: str = "a question"
    ) -> Document:
        """Returns a question and its answer, which is to be learned with its end.

        Args:
            question: of any text.
            answer: of any text.
            image: whether it is asked of an image.
            source: what it comes from, for errors.

        Raises:
            ValueError: if a text can't be tokens: too long, or with a mark in it.
        """
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
            ValueError: if there are none, or a text can't be tokens.

        Example:
            >>> prompt = QuestionPrompt(PETokenizer(16), image_tokens=2)
            >>> turns = [("What is this?", "a dog"), ("Is it big?", "no")]
            >>> len(prompt.conversation(turns)), len(prompt.question("Is it big?"))
            (18, 8)
        """
        if not turns:
            raise ValueError(f"{source}: a conversation has at least one question.")
        asked = self.question(turns[0][0], image)
        pieces = [asked.token_ids, self.answer(turns[0][1], turns[0][0])]
        for question, answer in turns[1:]:
            pieces += [self.next_question(question), self.answer(answer, question)]
        answered = [np.full(len(ids), k % 2 == 1) for k, ids in enumerate(pieces)]
        shown = np.zeros(sum(map(len, pieces)), bool)
        shown[: len(asked)] = asked.image
        ids = np.concatenate(pieces).astype("int32")
        return Document(ids, np.concatenate(answered), shown, source)

    def questions(
        self,
        asked: Sequence[tuple[str, str]],
        image: bool = True,
        source: str = "questions",
    ) -> Document:
        """Returns questions of one image and their answers, none seeing another's.

        Each stands in a branch behind the image: it costs what `document` would make it
        cost, and the image is there once. In a conversation an answer can be copied
        from those before; here it has to be seen. The decoder has to read positions:
        those of KerasHub do not.

        Args:
            asked: (question, answer), at least one.
            image: whether they are asked of an image.
            source: what they come from, for errors.

        Raises:
            ValueError: if there are none, or a text can't be tokens.

        Example:
            >>> prompt = QuestionPrompt(PETokenizer(16), image_tokens=2)
            >>> asked = [("What is this?", "a dog"), ("Is it big?", "no")]
            >>> prompt.questions(asked).branches.tolist()
            [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]
        """
        if not asked:
            raise ValueError(f"{source}: there is no question.")
        alone = [self.document(*pair, image, source) for pair in asked]
        first = alone[0]
        trunk = int(np.flatnonzero(first.image)[-1]) + 1 if first.image.any() else 1
        shared = first.token_ids[:trunk]
        if not all(np.array_equal(each.token_ids[:trunk], shared) for each in alone):
            raise ValueError(
                f"{source}: what this prompt has before the image differs from one "
                "question to another, so they can't share it. Join them by "
                "conversation."
            )
        lengths = [trunk, *(len(each) - trunk for each in alone)]

        def joined(name: str) -> np.ndarray:
            parts = [getattr(each, name)[trunk:] for each in alone]
            return np.concatenate([getattr(first, name)[:trunk], *parts])

        return Document(
            joined("token_ids"),
            joined("answer"),
            joined("image"),
            source,
            np.repeat(np.arange(len(lengths)), lengths),
        )


class QuestionPrompt(Prompt):
    """How the small decoder is asked: start, image, question, end, answer, end.

    The end token stands behind the question and behind the answer, so a question needs
    no mark of its own and an answer ends where the model says so.

    Args:
        tokenizer: whose ids the decoder reads.
        image_tokens: tokens of an image.
        spell_answers: whether answers are written letter by letter. A word that no
            answer of the training had can be said then, as in reading: of the tokens
            of such words many never came in an answer.
        spelled_questions: those whose answers are, where others are not; none for all.
            Names are learned sooner as the words that they are. How it is asked later
            need not be one of them: what is spelled is learned with the questions.

    Example:
        >>> prompt = QuestionPrompt(PETokenizer(16), image_tokens=2)
        >>> found = prompt.document("What is this?", "a dog")
        >>> prompt.text(found.token_ids[found.answer])
        'a dog'
        >>> prompt.question("What is this?").token_ids.tolist()
        [49406, 0, 0, 768, 533, 589, 286, 49407]
    """

    def __init__(
        self,
        tokenizer: PETokenizer,
        image_tokens: int,
        spell_answers: bool = False,
        spelled_questions: Sequence[str] = (),
    ) -> None:
        check_sizes(image_tokens=image_tokens)
        check_switches(spell_answers=spell_answers)
        check_spelled_questions(spell_answers, spelled_questions)
        config = {**tokenizer.get_config(), "on_truncation": "error"}
        self.tokenizer = PETokenizer.from_config(config)
        # A vocabulary without merges: its letters have the ids of every larger one.
        letters = {**config, "vocabulary_size": SMALLEST_VOCABULARY_SIZE}
        self.spell_answers = spell_answers
        self.spelled_questions = tuple(spelled_questions)
        self._letters = PETokenizer.from_config(letters)
        self.image_tokens = image_tokens
        self.stop_id = self.tokenizer.end_id
        self.vocabulary_size = self.tokenizer.vocabulary_size

    def question(self, question: str, image: bool = True) -> Document:
        """Returns a question without an answer: what `generate` goes on from."""
        shown = self.image_tokens if image else 0
        words = self._ids(self.tokenizer, question)
        ids = np.concatenate([[self.tokenizer.start_id], np.zeros(shown, int), words])
        of_image = np.zeros(len(ids), bool)
        of_image[1 : 1 + shown] = True
        return Document(ids.astype("int32"), np.zeros(len(ids), bool), of_image)

    def next_question(self, question: str) -> np.ndarray:
        """Returns the ids of a question that comes after an answer."""
        return self._ids(self.tokenizer, question)

    def answer(self, text: str, question: str | None = None) -> np.ndarray:
        """Returns the ids of an answer, its end among them; spelled without a question.

        Args:
            text: the answer.
            question: that it answers.
        """
        some = bool(self.spelled_questions) and question is not None
        spelled = not some or question in self.spelled_questions
        return self._ids(
            self._letters if self.spell_answers and spelled else self.tokenizer, text
        )

    def text(self, token_ids: Any) -> str:
        """Returns the text of an answer's tokens, up to its end."""
        ids = np.asarray(token_ids)
        ends = np.flatnonzero(ids == self.stop_id)
        found = self.tokenizer.detokenize(ids[: ends[0]] if len(ends) else ids)
        assert isinstance(found, str)
        return spaced_as_written(found)

    def _ids(self, tokenizer: PETokenizer, text: str) -> np.ndarray:
        """Returns the ids of a text, and the end.

        Raises:
            TypeError: if it is no text.
            ValueError: if it can't be tokens.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"A question or an answer is one text, got {text!r:.80} "
                f"({type(text).__name__})."
            )
        for mark in (START_TEXT, END_TEXT):
            if mark in text:  # as a token it would begin or end what it stands in
                raise ValueError(_HAS_MARK.format(mark=mark, text=text))
        try:
            (row,) = tokenizer(text)
        except ValueError as error:
            raise ValueError(
                f"The text {text!r:.82} is longer than the context of its tokenizer, "
                f"{tokenizer.context_length} tokens with start and end. Shorten it, or "
                f"make the prompt with PETokenizer(context_length=..., vocabulary_size="
                f"{self.tokenizer.vocabulary_size})."
            ) from error
        # The tokenizer makes them of capitals and of &lt;end_of_text&gt; too.
        marks = {START_TEXT: tokenizer.start_id, END_TEXT: tokenizer.end_id}
        for mark, token in marks.items():
            if (row == token).sum() > 1:
                raise ValueError(_HAS_MARK.format(mark=mark, text=text))
        words = row[1 : int(np.flatnonzero(row == tokenizer.end_id)[0])]
        if not len(words):
            raise ValueError(
                f"The text {text!r:.82} has no word, letter or mark in it."
            )
        return np.append(words, self.stop_id).astype(row.dtype)


def check_spelled_questions(spell_answers: bool, questions: Sequence[str]) -> None:
    """Raises ValueError for what names no questions, or none that could be spelled."""
    if isinstance(questions, str) or not all(isinstance(q, str) for q in questions):
        raise ValueError(
            f"spelled_questions are the texts of questions, got {questions!r:.80}."
        )
    if questions and not spell_answers:
        raise ValueError(
            f"{len(questions)} spelled_questions need spell_answers=True, or no answer "
            f"is spelled."
        )


def padded(documents: Sequence[Document]) -> dict[str, np.ndarray]:
    """Returns documents as rows of one length, padded on the right.

    Returns:
        `token_ids` and `image`, each `(documents, longest)`, and `lengths`.
    """
    lengths = np.array([len(document) for document in documents], "int32")
    ids = np.zeros((len(documents), int(lengths.max())), "int32")
    shown = np.zeros(ids.shape, bool)
    for row, document in enumerate(documents):
        ids[row, : len(document)] = document.token_ids
        shown[row, : len(document)] = document.image
    return {"token_ids": ids, "image": shown, "lengths": lengths}
