"""Which question is about which image, and in which batch it is asked."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from keras_pe.preprocessing.given_images import as_sequence, image_name

MOST_QUESTIONS = 1_000_000  # about one image


@dataclasses.dataclass(frozen=True)
class Asked:
    """A question, its image, and where its answer goes.

    Attributes:
        text: the question.
        image: what was given; None for none.
        name: what to call the image in an error.
        key: the same for questions about the same image.
        place: of the answer among all.
    """

    text: str
    image: Any
    name: str
    key: Any
    place: int


def paired(images: Any, questions: Any) -> tuple[list[Asked], bool]:
    """Returns the questions with their images, and whether it is one of each.

    Args:
        images: one image or many, None alone or among them.
        questions: one for all images, or one each, or several about one image.

    Raises:
        ImageError: if neither an image nor several of them were given.
        TypeError: if questions are neither a text nor a list.
        ValueError: if there is not a question an image.

    Example:
        >>> asked, alone = paired("owl.png", ["What is this?", "What does it say?"])
        >>> [(one.text, one.name) for one in asked], alone
        ([('What is this?', 'owl.png'), ('What does it say?', 'owl.png')], False)
    """
    one_image = images is None
    listed: Sequence[Any] = [None]
    if images is not None:
        listed = as_sequence(images)
        one_image = bool(len(listed)) and _is_one(images, listed[0])
    if getattr(questions, "shape", None) == ():  # an array of one text
        questions = questions.item()
    one_question = isinstance(questions, str)
    unordered = isinstance(questions, bytes | bytearray | Mapping | Set)
    if unordered or not hasattr(questions, "__iter__"):
        raise TypeError(
            f"Questions are one text or a list of texts, got {questions!r:.80} "
            f"({type(questions).__name__})."
        )
    most = MOST_QUESTIONS if one_image else len(listed)
    if isinstance(questions, Iterator):  # which may have no end
        questions = list(itertools.islice(questions, most + 1))
    texts = [questions] * len(listed) if one_question else list(questions)
    if one_image and len(texts) > most:
        raise ValueError(
            f"More than {most:,} questions about one image: do they have an end? Ask "
            f"fewer at a time."
        )
    if one_image:
        listed = [listed[0]] * len(texts)
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong or len(texts) != len(listed):
        what = f"{len(texts)}"
        if wrong:
            shown = " ".join(f"{wrong[0]!r:.80}".split())  # arrays have lines
            what = f"{shown} ({type(wrong[0]).__name__})"
        raise ValueError(
            f"Expected one question, or one for each of {len(listed)} images, got "
            f"{what}."
        )
    asked = [
        Asked(text, image, image_name(image, place), _key(image), place)
        for place, (text, image) in enumerate(zip(texts, listed, strict=True))
    ]
    return asked, one_image and one_question


def _is_one(images: Any, first: Any) -> bool:
    """Returns whether a call was given one image, of which a list was made."""
    shape = getattr(images, "shape", ())  # of a tensor, which is made an array
    return first is images or len(shape) in (2, 3)


def _key(image: Any) -> Any:
    """Returns what tells an image from others without a look at its content."""
    return image if isinstance(image, str | os.PathLike) else id(image)


def question_batches(
    asked: list[Asked], lengths: list[int], rows: int
) -> Iterator[list[Asked]]:
    """Yields questions, those about one image together: it is then encoded once.

    Images with short questions come first: what is shorter than others of its batch
    waits for them.

    Args:
        asked: all questions.
        lengths: tokens of each.
        rows: most questions of a batch.

    Example:
        >>> asked, _ = paired(["a.png", "b.png", "a.png"], "What is this?")
        >>> batches = question_batches(asked, [4, 4, 4], rows=2)
        >>> [[one.place for one in batch] for batch in batches]
        [[0, 2], [1]]
    """
    longest: dict[Any, int] = {}
    for one, length in zip(asked, lengths, strict=True):
        longest[one.key] = max(length, longest.get(one.key, 0))
    first = {one.key: one.place for one in reversed(asked)}
    ordered = sorted(asked, key=lambda one: (longest[one.key], first[one.key]))
    for start in range(0, len(ordered), rows):
        yield ordered[start : start + rows]
