"""Words, numbers and short lines in many fonts, with the question what they say."""

import dataclasses
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
from PIL import Image

from keras_pe.data.questions import Question, question_member, write_question_shards
from keras_pe.data.shard_files import Sample
from recipes.language_data.fonts import Face
from recipes.language_data.parts import part_of
from recipes.language_data.word_images import WordStyle, draw_words

READING, LETTER = "reading", "letter"
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
QUESTIONS = (
    "What does it say?",
    "What is written here?",
    "Read the text.",
    "What does the text say?",
    "Which text do you see?",
)
WORD_SHARES = {"train": 0.8, "validation": 0.08, "test": 0.12}
FONT_SHARES = {"train": 0.75, "test": 0.25}
# Of single words, numbers, and lines of two short words.
MIXTURE = {"word": 0.7, "number": 0.15, "line": 0.15}
# Where letters stand in no order, nobody can guess the word from the first of them: in
# training, they make a reader of what would learn some thousand words by heart. And one
# letter or two, of any size and anywhere, are what can be learned first.
IN_TRAINING = {"word": 0.5, "number": 0.12, "line": 0.13, "letters": 0.25}
MIXTURES = {
    "train": IN_TRAINING,
    "reshaped": IN_TRAINING,
    "letters": {"letters": 0.85, "number": 0.15},
}
MOST_OF_LETTERS = {"letters": 2}  # letters in a row in no order; else six
CASES = {"lower": 0.5, "capital": 0.25, "upper": 0.25}
MOST_LETTERS = 1  # questions about letters of a picture
TRIES = 200
FEWER = {
    "train": 1,
    "letters": 3,
    "reshaped": 1,
}  # times fewer pictures than in training; else 30


@dataclasses.dataclass(frozen=True)
class Cell:
    """Which fonts and which words a set of pictures shows.

    Attributes:
        number: part of the seed; never changes.
        fonts: part of the fonts.
        words: part of the words.
    """

    number: int
    fonts: str
    words: str


CELLS = {
    "train": Cell(0, "train", "train"),
    "validation": Cell(1, "train", "validation"),
    "test_seen_fonts_seen_words": Cell(2, "train", "train"),
    "test_seen_fonts_unseen_words": Cell(3, "train", "test"),
    "test_unseen_fonts_seen_words": Cell(4, "test", "train"),
    "test_unseen_fonts_unseen_words": Cell(5, "test", "test"),
    "letters": Cell(6, "train", "train"),
    "reshaped": Cell(7, "train", "train"),
}
# Of pictures in which the fonts of training look like others.
RESHAPED: dict[str, Any] = {
    "most_stretch": 1.5,
    "most_bend": 0.12,
    "thinned": 0.2,
    "most_slant": 0.3,
}


def read_words(path: Path, longest: int = 6) -> list[str]:
    """Reads a list of words, one a line; keeps those of small letters only.

    Args:
        path: the list.
        longest: most letters of a word.

    Raises:
        ValueError: if no word is left.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split()
    plain = re.compile("[a-z]+")
    words = sorted(
        {word for word in lines if 2 <= len(word) <= longest and plain.fullmatch(word)}
    )
    if not words:
        raise ValueError(
            f"{path}: none of {len(lines)} lines is a word of 2 to {longest} letters "
            "from a to z."
        )
    return words


def fonts_by_part(
    faces: Sequence[Face], test: Sequence[Face] | None = None
) -> dict[str, list[Face]]:
    """Deals fonts to "train" and "test", a family as a whole.

    Args:
        faces: the fonts.
        test: those that are kept back; None deals the families by hash.

    Raises:
        ValueError: if a family is in both, or a part is empty.
    """
    if test is None:
        parts = {face.family: _font_part(face.family) for face in faces}
        dealt = {
            part: [face for face in faces if parts[face.family] == part]
            for part in FONT_SHARES
        }
    else:
        dealt = {"train": list(faces), "test": list(test)}
    families = {part: {face.family for face in of} for part, of in dealt.items()}
    both = families["train"] & families["test"]
    if both:
        raise ValueError(
            f"Fonts to train and to test on share {', '.join(sorted(both)[:5])}, "
            f"expected families of which all fonts are on one side. Move them out of "
            f"one of the folders."
        )
    if not all(families.values()):
        counts = {part: len(names) for part, names in families.items()}
        raise ValueError(
            f"Families of fonts: {counts}, expected some on each side. Give a folder "
            f"with more families, or keep some back yourself, by --test-fonts FOLDER."
        )
    return dealt


def _font_part(family: str) -> str:
    return part_of(family, FONT_SHARES, "language-fonts-v1")


def word_part(word: str) -> str:
    """Returns the part of a word or number: "train", "validation" or "test"."""
    return part_of(word.lower(), WORD_SHARES, "language-words-v1")


def words_by_part(words: Sequence[str]) -> dict[str, list[str]]:
    """Deals words to parts by hash.

    Raises:
        ValueError: if a part is empty.
    """
    dealt: dict[str, list[str]] = {part: [] for part in WORD_SHARES}
    for word in words:
        dealt[word_part(word)].append(word)
    if not all(dealt.values()):
        raise ValueError(f"{len(words)} words are too few for {list(dealt)}.")
    return dealt


def write_words(
    output: Path,
    faces: Mapping[str, Sequence[Face]],
    words: Mapping[str, Sequence[str]],
    count: int = 30_000,
    style: WordStyle | None = None,
    seed: int = 0,
) -> dict[str, int]:
    """Writes `words_train`, `_reshaped`, `_letters`, `_validation`, four test sets.

    Args:
        output: folder of the shards.
        faces: fonts by part, of `fonts_by_part`.
        words: words by part, of `words_by_part`.
        count: pictures of training, as many whose letters are stretched and bent, and
            a third as many of letters; the others have a thirtieth of it.
        style: how much the pictures differ.
        seed: seed of everything random.

    Returns:
        How many pictures each set has.
    """
    written = {}
    for cell in CELLS:
        here = max(count // FEWER.get(cell, 30), 1)
        samples = word_samples(cell, faces, words, here, style or WordStyle(), seed)
        write_question_shards(output, f"words_{cell}", samples)
        written[f"words_{cell}"] = here
    return written


def word_samples(
    cell: str,
    faces: Mapping[str, Sequence[Face]],
    words: Mapping[str, Sequence[str]],
    count: int,
    style: WordStyle,
    seed: int = 0,
) -> Iterator[Sample]:
    """Yields pictures of texts; picture i depends on seed, cell and i alone.

    Args:
        cell: one of `CELLS`.
        faces: fonts by part.
        words: words by part.
        count: how many.
        style: how much the pictures differ.
        seed: seed of everything random.

    Yields:
        `__key__`, `png` and `json`, which names font and family too.

    Raises:
        RuntimeError: if no text fits.
    """
    how = CELLS[cell]
    families: dict[str, list[Face]] = {}
    if cell == "letters":
        style = dataclasses.replace(style, least_width=0.0)
    if cell == "reshaped":
        style = dataclasses.replace(style, **RESHAPED)
    for face in faces[how.fonts]:
        families.setdefault(face.family, []).append(face)
    for number in range(count):
        rng = np.random.default_rng([seed, how.number, number])
        text, face, image = _picture(cell, families, words[how.words], style, rng)
        asked = QUESTIONS[int(rng.integers(len(QUESTIONS)))]
        about = {"family": face.family, "style": face.style, "font": face.path.name}
        letters = letter_questions(text)
        letters = [letters[k] for k in rng.permutation(len(letters))[:MOST_LETTERS]]
        yield {
            "__key__": f"{cell}-{number:06d}",
            "png": png_bytes(image),
            "json": question_member([Question(asked, text, READING), *letters], about),
        }


def letter_questions(text: str) -> list[Question]:
    """Returns what may be asked of the letters of one word, or digits of a number.

    Whoever can't read yet learns from them where the letters stand.

    Example:
        >>> [(one.question, one.answer) for one in letter_questions("Cat")][1:3]
        [('What is the second letter?', 'a'), ('What is the third letter?', 't')]
    """
    what = "digit" if text.isdigit() else "letter"
    if not (text.isdigit() or text.isalpha()) or not 1 < len(text) <= len(ORDINALS):
        return []
    asked = [
        (f"What is the {ordinal} {what}?", sign)
        for ordinal, sign in zip(ORDINALS, text, strict=False)
    ]
    asked += [
        (f"What is the last {what}?", text[-1]),
        (f"How many {what}s are there?", str(len(text))),
    ]
    return [Question(question, answer, LETTER) for question, answer in asked]


def _picture(
    cell: str,
    families: Mapping[str, Sequence[Face]],
    words: Sequence[str],
    style: WordStyle,
    rng: np.random.Generator,
) -> tuple[str, Face, Image.Image]:
    """Draws a text in a font of a family, each of them as often as the others."""
    names = list(families)
    text = _text(cell, words, rng)
    for attempt in range(TRIES):
        if attempt and attempt % 20 == 0:
            text = _text(cell, words, rng)
        group = families[names[int(rng.integers(len(names)))]]
        face = group[int(rng.integers(len(group)))]
        image = draw_words(text, face, style, rng) if face.draws(text) else None
        if image is not None:
            return text, face, image
    raise RuntimeError(
        f"No text fits into {style.size} pixels with an x of {style.least_x_height}: "
        "give a larger size, shorter words or narrower fonts."
    )


def _text(cell: str, words: Sequence[str], rng: np.random.Generator) -> str:
    """Returns a word, a number, a line of two words, or letters, all of one part."""
    mixture, part = MIXTURES.get(cell, MIXTURE), CELLS[cell].words
    kind = rng.choice(list(mixture), p=list(mixture.values()))
    if kind == "number":
        return _number(part, rng)
    cased = rng.choice(list(CASES), p=list(CASES.values()))
    chosen = [words[int(rng.integers(len(words)))]]
    if kind == "line":
        short = [word for word in words if len(word) <= 3] or list(words)
        chosen = [short[int(rng.integers(len(short)))] for _ in range(2)]
    if kind == "letters":
        most = MOST_OF_LETTERS.get(cell, len(ORDINALS))
        chosen = [_letters(part, most, rng)]
    text = " ".join(chosen)
    return {"lower": text, "capital": text.capitalize(), "upper": text.upper()}[cased]


def _number(part: str, rng: np.random.Generator) -> str:
    while True:
        digits = int(rng.integers(1, 6))
        least = 10 ** (digits - 1) if digits > 1 else 0
        number = str(int(rng.integers(least, 10**digits)))
        if word_part(number) == part:
            return number


def _letters(part: str, most: int, rng: np.random.Generator) -> str:
    while True:
        count = int(rng.integers(1, most + 1))
        letters = "".join(rng.choice(list(ascii_lowercase), count))
        if word_part(letters) == part:
            return letters


def png_bytes(image: Image.Image) -> bytes:
    """Returns an image as a PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
