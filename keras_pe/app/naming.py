"""Pictures named by words of a visitor's choice."""

import html
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from keras_pe.app.texts import cut_texts, silent
from keras_pe.evaluation.zero_shot import (
    DEFAULT_TEMPLATES,
    Prediction,
    ZeroShotClassifier,
)
from keras_pe.models.preset_parts import PresetParts
from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.prompts import known_classes
from keras_pe.preprocessing.thumbnails import data_uri, thumbnail
from keras_pe.printable_text import printable

MOST_PICTURES = 32


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
    templates = DEFAULT_TEMPLATES if known is None else known[1]
    matrix, notes = None, []
    if names is None:
        if known is None:
            raise ValueError("This model knows no names of its own. Type some.")
        names, matrix = known[0], parts.class_matrix
    else:
        notes = cut_texts(parts.tokenizer, names, templates)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier = ZeroShotClassifier(
            parts.model,
            silent(parts.tokenizer),
            names,
            templates,
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
    if matrix is None:  # else of the preset's names, which nobody here chose
        notes += [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
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
