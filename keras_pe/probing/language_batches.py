"""Questions of a probe in rows: packed to learn from, padded to be answered."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from keras_pe.data.packing import Document, pack_documents, packed_row
from keras_pe.language.prompts import Prompt, padded
from keras_pe.probing.feature_store import Samples
from keras_pe.probing.language_controls import OtherImages
from keras_pe.probing.language_data import ImageQuestion, asked_of

SLOTS_STEP = 8  # places of answers in a row come in eights: one shape for all seeds
WIDTH_STEP = 8  # and tokens of rows


@dataclasses.dataclass(frozen=True)
class ImageDocument(Document):
    """A question with its answer, as tokens.

    Attributes:
        image_number: place of its image among the samples.
    """

    image_number: int = 0


class Documents:
    """Makes documents of questions, each text's tokens once."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self._made: dict[tuple[str, str], Document] = {}
        self._written: dict[str, str] = {}

    def written(self, answer: str) -> str:
        """Returns a right answer as the prompt writes it."""
        if answer not in self._written:
            self._written[answer] = self.prompt.written(answer)
        return self._written[answer]

    def as_written(self, rows: Sequence[ImageQuestion]) -> list[ImageQuestion]:
        """Returns questions whose right answers are as the prompt writes them."""
        return [row._replace(answer=self.written(row.answer)) for row in rows]

    def __call__(self, rows: Sequence[ImageQuestion]) -> list[ImageDocument]:
        """Returns a document of each question with its answer."""
        found = []
        for row in rows:
            key = (row.question, row.answer)
            if key not in self._made:
                source = f"{row.question!r} with {row.answer!r}"
                self._made[key] = self.prompt.document(*key, source=source)
            found.append(ImageDocument(**vars(self._made[key]), image_number=row.image))
        return found


def check_answers_end(
    documents: Sequence[ImageDocument], max_tokens: int, what: str
) -> None:
    """Refuses right answers that nobody could give in so many tokens.

    Raises:
        ValueError: if one is longer, its end among its tokens.
    """
    lengths = [int(document.answer.sum()) for document in documents]
    longest = max(lengths)
    if longest > max_tokens:
        source = documents[lengths.index(longest)].source
        raise ValueError(
            f"A right answer of the {what} images has {longest} tokens with its end "
            f"({source:.80}), and an answer may have max_tokens={max_tokens}: every "
            f"layer would be wrong. Give LanguageProbe(max_tokens={longest}), or "
            f"shorter answers."
        )


class TrainingRows:
    """The packed rows of a training, the same for every layer and learning rate.

    Every question comes once before any comes twice.

    Args:
        documents: the questions with their answers.
        length: tokens of a row.
        questions: of a step, on average.
        steps: how many.
        packs: whether several documents may stand in a row.
        seed: of their order.

    Attributes:
        fill: share of the tokens of all rows that are documents'.
    """

    def __init__(
        self,
        documents: Sequence[ImageDocument],
        length: int,
        questions: int,
        steps: int,
        packs: bool,
        seed: int,
    ) -> None:
        self.length, self.seed = length, seed
        lengths = [len(document) for document in documents]
        per_row = max(1.0, length * len(lengths) / sum(lengths)) if packs else 1.0
        self.rows_a_step = max(1, round(questions / per_row))
        self.most_images = length // min(lengths) if packs else 1
        self.rows = _rows(documents, length, self.rows_a_step * steps, packs, seed)
        answers = (sum(int(each.answer.sum()) for each in row) for row in self.rows)
        self.slots = -(-max(answers) // SLOTS_STEP) * SLOTS_STEP
        used = sum(len(document) for row in self.rows for document in row)
        self.fill = used / (len(self.rows) * length)

    def batch(
        self, samples: Samples, step: int, others: OtherImages | None = None
    ) -> dict[str, np.ndarray]:
        """Returns the arrays of a step, with features of the layer.

        Args:
            samples: those that the documents' image numbers count.
            step: from 0.
            others: of these samples, if each question is to come with the features
                of any other image; None for those of its own.
        """
        rows = self.rows[step * self.rows_a_step : (step + 1) * self.rows_a_step]
        numbers = np.zeros((len(rows), self.most_images), "int64")
        for place, row in enumerate(rows):
            numbers[place, : len(row)] = [each.image_number for each in row]
        if others is not None:
            rng = np.random.default_rng((self.seed, step))
            numbers = others.drawn(numbers, rng)
        features = features_of(samples, numbers.ravel())
        arrays = [packed_row(row, self.length, self.slots) for row in rows]
        return {
            "features": features.reshape(*numbers.shape, *features.shape[1:]),
            **{name: np.stack([row[name] for row in arrays]) for name in arrays[0]},
        }


def _rows(
    documents: Sequence[ImageDocument], length: int, count: int, packs: bool, seed: int
) -> list[list[ImageDocument]]:
    rng = np.random.default_rng(seed)
    found: list[list[ImageDocument]] = []
    while len(found) < count:
        shuffled = [documents[number] for number in rng.permutation(len(documents))]
        if packs:
            found.extend(pack_documents(shuffled, length))  # type: ignore[arg-type]
        else:
            found.extend([document] for document in shuffled)
    return found[:count]


def features_of(samples: Samples, positions: np.ndarray) -> np.ndarray:
    """Returns float32 features of samples, each read once."""
    places, where = np.unique(positions, return_inverse=True)
    rows = samples.rows[places]
    order = np.argsort(rows)
    found = np.empty((len(rows), *samples.store.shape(samples.features)), "float32")
    found[order] = samples.store.take(samples.features, rows[order])
    return found[where]


def row_length(documents: Sequence[Document], most: int, packs: bool) -> int:
    """Returns how many tokens a training row has: twice the longest document.

    Longer rows are fuller, but each token is multiplied with all of its row.
    """
    longest = max(map(len, documents))
    wanted = 2 * longest if packs else longest
    return max(longest, min(-(-wanted // WIDTH_STEP) * WIDTH_STEP, most))


# === To be answered ===
@dataclasses.dataclass(frozen=True)
class Prompts:
    """Questions that are answered at once, as arrays of one shape.

    Attributes:
        questions: what is asked, without the rows that fill up the batch.
        features: `(rows, patch rows, patch columns, channels)`.
        token_ids: int32 `(rows, width)`.
        image_slots: int32 `(rows, width)`.
        lengths: int32 `(rows,)`.
    """

    questions: list[ImageQuestion]
    features: np.ndarray
    token_ids: np.ndarray
    image_slots: np.ndarray
    lengths: np.ndarray


def prompts_of(samples: Samples, prompt: Prompt, size: int) -> Iterator[Prompts]:
    """Yields the questions of samples with features of their images, batch by batch.

    Args:
        samples: a layer's features and the questions.
        prompt: how they are asked.
        size: questions at once.

    Raises:
        ValueError: if nothing is asked of these samples.
    """
    asked = asked_of(samples)
    # Of one length, as far as there are: a batch waits for its longest.
    known = {row.question: prompt.question(row.question) for row in asked}
    asked.sort(key=lambda row: (len(known[row.question]), row.image))
    width = max(len(document) for document in known.values())
    for start in range(0, len(asked), size):
        chunk = asked[start : start + size]
        filled = [*chunk, *[chunk[-1]] * (size - len(chunk))]
        found = padded([known[row.question] for row in filled])
        missing = ((0, 0), (0, width - found["token_ids"].shape[1]))
        shown = np.pad(found["image"], missing)
        yield Prompts(
            chunk,
            features_of(samples, np.array([row.image for row in filled])),
            np.pad(found["token_ids"], missing),
            np.where(shown, np.cumsum(shown, axis=1), 0).astype("int32"),
            found["lengths"],
        )


def targets_digest(samples: Samples) -> bytes:
    """Returns what tells samples with these targets from others."""
    digest = hashlib.sha256(np.ascontiguousarray(samples.rows).tobytes())
    for targets in samples.targets():
        digest.update(np.ascontiguousarray(targets).tobytes())
    return digest.digest()
