"""Pictures named by words of a visitor's choice."""

import html
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from keras_pe.evaluation.zero_shot import Prediction, ZeroShotClassifier
from keras_pe.models.preset_parts import PresetParts
from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.prompts import known_classes
from keras_pe.preprocessing.thumbnails import data_uri, thumbnail
from keras_pe.printable_text import printable

MOST_PICTURES = 32
MOST_LINES = 200
LONGEST_LINE = 300  # characters; a model reads a few dozen words


class NamedPicture(NamedTuple):
    """A picture and its best names.

    Attributes:
        path: the file.
        best: names with probability and cosine, best first.
    """

    path: Path
    best: list[Prediction]


class Named(NamedTuple):
    """What became of the pictures.

    Attributes:
        pictures: those that were named.
        notes: what the visitor should know, such as which could not be read.
    """

    pictures: list[NamedPicture]
    notes: list[str]


def lines_of(text: str, what: str, least: int = 1, most: int = MOST_LINES) -> list[str]:
    """Returns the lines of a text, without empty ones.

    Args:
        text: as typed, one a line.
        what: what a line is, for messages: "name" or "text".
        least: fewest lines.
        most: most lines.

    Raises:
        ValueError: if there are fewer or more, or one is too long.

    Example:
        >>> lines_of("an owl\\n\\n a pizza ", "name")
        ['an owl', 'a pizza']
    """
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not least <= len(found) <= most:
        several = "" if len(found) == 1 else "s"
        raise ValueError(
            f"Got {len(found) or 'no'} {what}{several}; expected {least} to {most}, "
            f"one a line."
            + (" One alone would always be 100 %." if least == 2 and found else "")
        )
    for line in found:
        if len(line) > LONGEST_LINE:
            raise ValueError(
                f"A {what} of {len(line):,} characters; expected at most "
                f"{LONGEST_LINE}: {printable(line[:60])}..."
            )
    return found


def name_pictures(
    parts: PresetParts,
    paths: Sequence[Path],
    names: Sequence[str] | None,
    top_k: int = 8,
    batch_size: int = 8,
) -> Named:
    """Names pictures.

    Args:
        parts: the model.
        paths: the pictures.
        names: two or more, of the visitor; None for those that the preset knows.
        top_k: how many names are kept of each picture.
        batch_size: pictures a forward pass.

    Raises:
        ValueError: if there are no pictures, too many, none that can be read, or the
            preset knows no names.
    """
    if not paths:
        raise ValueError("There is no picture yet. Drop one or more, then try again.")
    if len(paths) > MOST_PICTURES:
        raise ValueError(
            f"{len(paths)} pictures; this page names at most {MOST_PICTURES} at a "
            f"time. Use `keras-pe classify` for more."
        )
    known = known_classes(parts.metadata)
    matrix = None
    if names is None:
        if known is None:
            raise ValueError("This model knows no names of its own. Type some.")
        names, matrix = known[0], parts.class_matrix
        on_truncation = "ignore"  # a few long names of known classes
    else:
        on_truncation = "warn"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokenizer = type(parts.tokenizer).from_config(
            {**parts.tokenizer.get_config(), "on_truncation": on_truncation}
        )
        classifier = ZeroShotClassifier(
            parts.model,
            tokenizer,
            names,
            None if known is None else known[1],
            parts.image_converter,
            batch_size,
            class_matrix=matrix,
        )
        batches = load_batches(
            list(paths), parts.image_converter, batch_size, max_skipped_share=1.0
        )
        found = [
            NamedPicture(paths[place], best)
            for place, best in classifier.predict_batches(batches, top_k)
        ]
    notes = [
        str(each.message) for each in caught if issubclass(each.category, UserWarning)
    ]
    if matrix is not None:
        notes = []  # of the preset's own names, which nobody here chose
    notes += [
        f"{Path(skipped.name).name}: {skipped.reason}. {skipped.detail}"
        for skipped in batches.report.skipped
    ]
    if not found:
        raise ValueError("None of the pictures could be read. " + " ".join(notes))
    return Named(found, [printable(note) for note in notes])


# === As HTML ===
def named_as_html(named: Named) -> str:
    """Returns pictures with bars of their names, as HTML that is safe to show.

    Args:
        named: from `name_pictures`.
    """
    cards = "\n".join(map(_card, named.pictures))
    return f'<div class="pe-cards">\n{cards}\n</div>'


def _card(picture: NamedPicture) -> str:
    name = html.escape(printable(picture.path.name))
    address = data_uri(thumbnail(picture.path))
    bars = "\n".join(map(_bar, picture.best))
    return (
        f'<figure class="pe-card"><img src="{address}" alt="{name}">\n'
        f"<figcaption>{name}</figcaption>\n"
        f'<ol class="pe-bars">\n{bars}\n</ol></figure>'
    )


def _bar(prediction: Prediction) -> str:
    name = html.escape(printable(prediction.name))
    share = f"{prediction.probability:.1%}"
    return (
        f'<li><span class="pe-name">{name}</span>'
        f'<span class="pe-share">{share}</span>'
        f'<span class="pe-cosine">cosine {prediction.similarity:.3f}</span>'
        f'<span class="pe-bar"><span style="width:{prediction.probability:.2%}">'
        f"</span></span></li>"
    )
