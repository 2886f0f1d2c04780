"""Questions about images, as targets of a probe: what is asked, what is right."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from keras_pe.arrays import is_whole
from keras_pe.probing.feature_store import TARGETS, Samples


class Asked(Protocol):
    """A question with its answer, such as `keras_pe.data.questions.Question`."""

    @property
    def question(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def kind(self) -> str: ...


class ImageQuestion(NamedTuple):
    """A question about one image of a set.

    Attributes:
        image: its place in the set, from 0.
        question: what is asked.
        answer: what is to be said.
        kind: what it asks for ("name", "count", ...): each kind has a curve of its own.

    Example:
        >>> question = ImageQuestion(0, "How many owls?", "two", kind="count")
        >>> question.answer
        'two'
    """

    image: int
    question: str
    answer: str
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class QuestionSet:
    """Images, and what is asked of them.

    Args:
        images: paths, PIL images or uint8 arrays, or a float array `(images, height,
            width, 3)` that is prepared already.
        questions: one `ImageQuestion` each, or a tuple of the same.

    Raises:
        TypeError: if a question is none.
        ValueError: if there are none, or one is of an image that is not there.

    Example:
        >>> images = np.zeros((2, 16, 16, 3), "float32")
        >>> found = QuestionSet(images, [(0, "What is this?", "a cat", "name"),
        ...     (1, "How many?", "two", "count"), (1, "What is this?", "mice", "name")])
        >>> len(found), found.kinds
        (2, ('count', 'name'))
    """

    images: Any
    questions: Sequence[ImageQuestion]

    def __post_init__(self) -> None:
        rows = tuple(_checked(place, row) for place, row in enumerate(self.questions))
        if not rows:
            raise ValueError("There are no questions.")
        for place, row in enumerate(rows):
            if not is_whole(row.image) or not 0 <= row.image < len(self.images):
                raise ValueError(
                    f"Question {place} is about image {row.image!r}: there are "
                    f"{len(self.images)}, counted from 0."
                )
        object.__setattr__(self, "questions", rows)

    @classmethod
    def of_samples(cls, images: Any, questions: Sequence[Sequence[Asked]]) -> Any:
        """Returns a set of which each image has a list of questions.

        Args:
            images: as above.
            questions: those of each image, as `keras_pe.data.questions` reads them.

        Raises:
            ValueError: if there is not one list an image.
        """
        if len(images) != len(questions):
            raise ValueError(
                f"Got {len(images)} images and {len(questions)} lists of questions."
            )
        rows = [
            ImageQuestion(image, one.question, one.answer, one.kind)
            for image, several in enumerate(questions)
            for one in several
        ]
        return cls(images, rows)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of questions, in the order of the alphabet."""
        return tuple(sorted({row.kind for row in self.questions}))


def _checked(place: int, row: Any) -> ImageQuestion:
    if not isinstance(row, tuple) or not 3 <= len(row) <= 4:
        raise TypeError(
            f"Question {place} must be (image, question, answer, kind), got {row!r:.80}"
        )
    found = ImageQuestion(*row)
    for name in ("question", "answer", "kind"):
        text = getattr(found, name)
        if not isinstance(text, str) or (name != "kind" and not text.strip()):
            raise TypeError(
                f"The {name} of question {place} must be a text that is not blank, "
                f"got {text!r:.80}."
            )
    return found


# === As targets of a sweep: one row an image ===
def question_targets(*sets: QuestionSet) -> list[np.ndarray]:
    """Returns the targets of sets of questions, for one sweep over all of them.

    Returns:
        For each set texts `(images, most questions of an image, 3)`: question, answer
        and kind; where an image has fewer questions, empty ones.

    Example:
        >>> images = np.zeros((2, 16, 16, 3), "float32")
        >>> (found,) = question_targets(QuestionSet(images, [(1, "Is it?", "no")]))
        >>> found.tolist()
        [[['', '', '']], [['Is it?', 'no', '']]]
    """
    listed = [_by_image(each) for each in sets]
    most = max(len(rows) for several in listed for rows in several)
    texts = (text for each in sets for row in each.questions for text in row[1:])
    longest = max(map(len, texts))
    found = []
    for several in listed:
        table = np.zeros((len(several), most, 3), f"<U{longest}")
        for image, rows in enumerate(several):
            for place, row in enumerate(rows):
                table[image, place] = row[1:]
        found.append(table)
    return found


def _by_image(questions: QuestionSet) -> list[list[ImageQuestion]]:
    found: list[list[ImageQuestion]] = [[] for _ in range(len(questions))]
    for row in questions.questions:
        found[row.image].append(row)
    return found


def questions_of_samples(samples: Samples) -> Iterator[ImageQuestion]:
    """Yields the questions of samples; `image` is a sample's place among them.

    Raises:
        ValueError: if the targets are no questions.
    """
    first = 0
    for targets in samples.targets(256):
        if targets.dtype.kind != "U" or targets.ndim != 3 or targets.shape[2] != 3:
            raise ValueError(
                f"The language probe needs questions as targets, as question_targets "
                f"makes them of a QuestionSet; got {targets.dtype} {targets.shape[1:]} "
                f"each."
            )
        for number, several in enumerate(targets, first):
            for question, answer, kind in several.tolist():
                if question:
                    yield ImageQuestion(number, question, answer, kind)
        first += len(targets)


def asked_of(samples: Samples, what: str = "these") -> list[ImageQuestion]:
    """Returns the questions of samples, at least one.

    Args:
        samples: see `questions_of_samples`.
        what: which samples, for the error.

    Raises:
        ValueError: if there are none, or the targets are no questions.
    """
    found = list(questions_of_samples(samples))
    if not found:
        raise ValueError(
            f"Nothing is asked about {what} images, {len(samples)} in all. Give more "
            f"questions, or sets of your own for training, validation and test."
        )
    return found


def kinds_of(samples: Samples) -> tuple[str, ...]:
    """Returns the kinds of all questions of a store, of these samples or not."""
    store, found = samples.store, set()
    for start in range(0, store.count(TARGETS), 1024):
        targets = store.read(TARGETS, start, start + 1024)
        found |= set(targets[..., 2][targets[..., 0] != ""].tolist())
    return tuple(sorted(found))
