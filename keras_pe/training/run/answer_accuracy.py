"""How many questions of a validation set a model answers as it should."""

from collections import defaultdict
from typing import Any

import numpy as np

from keras_pe.data.image_text import opened_image
from keras_pe.data.questions import questions_of
from keras_pe.data.sample_errors import SampleError
from keras_pe.data.shard_files import IMAGE_EXTENSIONS
from keras_pe.data.tar_shards import open_shards
from keras_pe.evaluation.language import box_accuracy, exact_match, parse_box
from keras_pe.language.vision_language_model import VisionLanguageModel
from keras_pe.preprocessing.image_errors import ImageError

MOST_QUESTIONS = 1000
CANT_ASK = "a question that can't be asked"


class AnswerAccuracy:
    """Shares of questions that a model answers as it should, by their kind.

    Where the right answer is a box, one counts that covers it by half; others count if
    they are equal but for capitals, articles, a period at the end and what the
    model's vocabulary does not keep. An answer may be as long as the longest right one,
    and one that has not ended by then is wrong.

    Args:
        data: pattern of the shards; samples are drawn until there are enough questions.
        model: that answers.
        most_questions: that are asked.

    Raises:
        SampleError: if one of those samples has no sound questions or image, or one
            that the model can't be asked. It is said here, before anything is trained.
    """

    def __init__(
        self,
        data: str,
        model: VisionLanguageModel,
        most_questions: int = MOST_QUESTIONS,
    ) -> None:
        self.model = model
        self.images: list[Any] = []
        self.asked: list[Any] = []
        self.right: list[str] = []
        lengths: list[tuple[int, int, str]] = []
        source = open_shards(data)
        # Of all shards, which may be of several sets; the same ones every time.
        for number in np.random.default_rng(0).permutation(len(source)).tolist():
            sample = source[number]
            where = f"{data}, {source.describe(number)}"
            try:
                questions = questions_of(sample)
                shown = any(name in sample for name in IMAGE_EXTENSIONS)
                image = opened_image(sample) if shown else None
                if shown:  # what can't be decoded would end the first evaluation
                    model.image_converter.convert(opened_image(sample))
                for one in questions:
                    asked, answer = _token_counts(model, one, shown)
                    lengths.append((asked, answer, where))
                    self.right.append(model.prompt.written(one.answer))
            except (SampleError, ImageError) as error:
                raise SampleError(error.reason, f"{where}: {error.detail}") from error
            except ValueError as error:
                raise SampleError(CANT_ASK, f"{where}: {error}") from error
            self.asked += questions
            self.images += [image] * len(questions)
            if len(self.asked) >= most_questions:
                break
        for found in (self.asked, self.images, self.right, lengths):
            del found[most_questions:]
        # One more than the longest: what has not ended there is no right answer.
        self.max_tokens = 1 + max(answer for _, answer, _ in lengths)
        longest, _, where = max(lengths)
        if longest + self.max_tokens > model.decoder.max_length:
            raise SampleError(
                CANT_ASK,
                f"{where}: {longest} tokens of a question and up to {self.max_tokens} "
                f"of an answer are more than the {model.decoder.max_length} that the "
                f"language model reads. Give longer rows, or shorter texts.",
            )

    def __call__(self) -> dict[str, float]:
        """Returns `answers` for all, and `answers/KIND` for each kind."""
        questions = [asked.question for asked in self.asked]
        given = self.model.generate(self.images, questions, self.max_tokens)
        kinds = defaultdict(list)
        for asked, answer, right in zip(self.asked, given, self.right, strict=True):
            kinds[asked.kind].append(_score(answer, right))
        found = {
            f"answers/{kind}": float(np.mean(scores))
            for kind, scores in sorted(kinds.items())
            if kind
        }
        total = sum(sum(scores) for scores in kinds.values())
        return {"answers": total / len(self.asked), **found}


def _token_counts(
    model: VisionLanguageModel, asked: Any, shown: bool
) -> tuple[int, int]:
    """Returns the tokens of a question, its image's among them, and of its answer."""
    question = model.prompt.question(asked.question, shown)
    return len(question), len(model.prompt.answer(asked.answer, asked.question))


def _score(answer: str, right: str) -> float:
    box = parse_box(right)
    if box is None:
        return exact_match([answer], [[right]]).mean
    return box_accuracy([answer], [box]).mean
