"""Questions about pictures, answered by a vision language model of the page's own."""

import html
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.thumbnails import data_uri, thumbnail
from keras_pe.presets.checksums import read_metadata
from keras_pe.presets.hub import LANGUAGE, resolve
from keras_pe.presets.report import CheckpointError
from keras_pe.printable_text import printable

if TYPE_CHECKING:
    from keras_pe.language import VisionLanguageModel

BUNDLED_CAPTIONER = "pe_captioner_emoji_patch8_64"
MOST_PICTURES = 32
LONGEST_QUESTION = 200  # characters
MOST_TOKENS = 32  # of an answer
MOST_QUESTIONS = 50  # that a preset may suggest
ANY_QUESTIONS = ("What is this?", "What does it say?")  # where a preset names none


class Captioner:
    """A vision language model that is loaded when it is asked for the first time.

    Until then its metadata alone is read: a page that nobody asks anything starts as
    fast, and needs as little memory, as one without it.

    Args:
        preset: as of `VisionLanguageModel.from_preset`.

    Attributes:
        preset: its name or place.
        trained_for: the questions that it was trained to answer, if the preset says so.

    Raises:
        CheckpointError: if there is no such preset, or it has no language model.

    Example:
        >>> captioner = Captioner("pe_captioner_emoji_patch8_64")
        >>> captioner.trained_for[0]
        'What is this?'
    """

    def __init__(self, preset: str | os.PathLike[str]) -> None:
        self.preset = os.fspath(preset)
        directory = resolve(preset, need="config").directory
        metadata = {} if directory is None else read_metadata(directory)
        if LANGUAGE not in metadata.get("files", {}):
            raise CheckpointError(
                f"{self.preset} has no language model to answer questions. Expected "
                f"{BUNDLED_CAPTIONER}, or what VisionLanguageModel.save_to_preset "
                f"wrote."
            )
        self.trained_for = _questions(metadata)
        self._model: VisionLanguageModel | None = None
        self._loading = threading.Lock()

    @property
    def suggested(self) -> tuple[str, ...]:
        """Questions to begin with."""
        return self.trained_for or ANY_QUESTIONS

    @property
    def model(self) -> "VisionLanguageModel":
        """The model, loaded now if it was not before."""
        with self._loading:  # once, whoever asks first
            if self._model is None:
                from keras_pe.language import VisionLanguageModel

                self._model = VisionLanguageModel.from_preset(self.preset)
            return self._model


def _questions(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the questions that a preset's metadata names; none if they are odd."""
    found = metadata.get("questions", ())
    if not isinstance(found, list) or len(found) > MOST_QUESTIONS:
        return ()
    right = all(isinstance(q, str) and 0 < len(q) <= LONGEST_QUESTION for q in found)
    return tuple(map(printable, found)) if right else ()


class AnsweredPicture(NamedTuple):
    """A picture and the answer.

    Attributes:
        path: the file.
        answer: what the model said; may be empty.
    """

    path: Path
    answer: str


class Answered(NamedTuple):
    """What became of the pictures.

    Attributes:
        pictures: those that were asked about.
        notes: what the visitor should know, such as which could not be read.
    """

    pictures: list[AnsweredPicture]
    notes: list[str]


def ask_pictures(
    captioner: Captioner, paths: Sequence[Path], question: str, batch_size: int = 8
) -> Answered:
    """Asks one question about pictures.

    Args:
        captioner: what answers.
        paths: the pictures.
        question: as typed.
        batch_size: pictures a forward pass.

    Raises:
        ValueError: if there are no pictures, too many, none that can be read, no
            question, or one that is too long.
    """
    if not paths:
        raise ValueError("There is no picture yet. Drop one or more, then try again.")
    if len(paths) > MOST_PICTURES:
        raise ValueError(
            f"{len(paths)} pictures; this page asks about at most {MOST_PICTURES} at a "
            f"time. Use `keras-pe ask` for more."
        )
    asked = checked_question(question)
    model = captioner.model
    size = min(batch_size, len(paths))
    batches = load_batches(
        list(paths), model.image_converter, size, max_skipped_share=1.0
    )
    found = [
        AnsweredPicture(paths[place], answer)
        for places, images in batches
        for place, answer in zip(
            places, model.answer(images, asked, MOST_TOKENS, size), strict=True
        )
    ]
    notes = [
        printable(f"{Path(each.name).name}: {each.reason}. {each.detail}")
        for each in batches.report.skipped
    ]
    if not found:
        raise ValueError("None of the pictures could be read. " + " ".join(notes))
    return Answered(found, notes)


def checked_question(question: Any) -> str:
    """Returns a question without spaces around it.

    Raises:
        ValueError: if it is none, or too long.

    Example:
        >>> checked_question(" What is this? ")
        'What is this?'
    """
    asked = " ".join(question.split()) if isinstance(question, str) else ""
    if not asked:
        raise ValueError("There is no question yet. Type one, or choose one.")
    if len(asked) > LONGEST_QUESTION:
        raise ValueError(
            f"A question of {len(asked):,} characters; expected at most "
            f"{LONGEST_QUESTION}: {printable(asked[:60])}..."
        )
    return asked


# === As HTML ===
def answered_as_html(answered: Answered) -> str:
    """Returns pictures with their answers, as HTML that is safe to show.

    Args:
        answered: from `ask_pictures`.
    """
    cards = "\n".join(map(_card, answered.pictures))
    return f'<div class="pe-cards pe-small">\n{cards}\n</div>'


def _card(picture: AnsweredPicture) -> str:
    name = html.escape(printable(picture.path.name))
    said = html.escape(printable(picture.answer)) or "no answer"
    return (
        f'<figure class="pe-card"><img src="{data_uri(thumbnail(picture.path))}" '
        f'alt="{name}">\n<p class="pe-answer">{said}</p>\n'
        f"<figcaption>{name}</figcaption></figure>"
    )
