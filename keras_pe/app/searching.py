"""Searching pictures by words or by a picture, with thumbnails of what is found."""

import html
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from keras_pe.app.texts import silent
from keras_pe.models.embedding import embed_images
from keras_pe.models.preset_parts import PresetParts
from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.image_errors import ImageError
from keras_pe.preprocessing.thumbnails import data_uri, thumbnail
from keras_pe.printable_text import printable
from keras_pe.search import ImageIndex
from keras_pe.search.build import fingerprint

Progress = Callable[[float, str], Any]
MOST_PICTURES = 2_000  # indexed in the page; more by `keras-pe index`
MOST_RESULTS = 60
PLACEHOLDER = (192, 192), (235, 235, 235)


class Found(NamedTuple):
    """A picture that was found.

    Attributes:
        picture: its thumbnail; grey if it can't be read any more.
        similarity: cosine with the query.
        name: of its file.
    """

    picture: Image.Image
    similarity: float
    name: str


def index_pictures(
    parts: PresetParts,
    paths: Sequence[Path],
    progress: Progress = lambda share, what: None,
    batch_size: int = 16,
) -> tuple[ImageIndex, list[str]]:
    """Returns an index in memory, and what the visitor should know.

    Args:
        parts: the model.
        paths: the pictures; those that can't be read are left out and named.
        progress: is told how far it is, from 0 to 1, and what is done.
        batch_size: pictures a forward pass.

    Raises:
        ValueError: if there are none, too many, or none that can be read.
    """
    if not paths:
        raise ValueError("There are no pictures to search yet. Drop some, then index.")
    if len(paths) > MOST_PICTURES:
        raise ValueError(
            f"{len(paths):,} pictures; this page indexes at most {MOST_PICTURES:,}. "
            f"Index them by `keras-pe index`, and start the page with --index."
        )
    batches = load_batches(
        list(paths), parts.image_converter, batch_size, max_skipped_share=1.0
    )
    kept: list[Path] = []
    rows = []
    for places, images in batches:
        progress(len(kept) / len(paths), f"picture {places[0] + 1:,} of {len(paths):,}")
        kept += [paths[place] for place in places]
        rows.append(embed_images(parts.model, images, batch_size))
    skipped = batches.report.skipped
    notes = [
        printable(f"left out: {Path(each.name).name}: {each.reason}. {each.detail}")
        for each in skipped
    ]
    if not rows:
        raise ValueError("None of the pictures could be read. " + " ".join(notes))
    vectors = np.concatenate(rows)
    return ImageIndex(kept, vectors, fingerprint(parts.model)), notes


def search_pictures(
    parts: PresetParts,
    index: ImageIndex | None,
    text: str = "",
    picture: str | os.PathLike[str] | None = None,
    top_k: int = 12,
) -> list[Found]:
    """Returns the pictures that are nearest to a text, or to a picture.

    Args:
        parts: the model.
        index: from `index_pictures` or `ImageIndex.open`; None if there is none yet.
        text: what to look for.
        picture: the file of a picture to look for; None for the text.
        top_k: how many.

    Raises:
        ValueError: if there is no index, no query or two.
        ImageError: if the picture can't be read.
    """
    if index is None:
        raise ValueError("There are no pictures to search yet: index some first.")
    text = text.strip()
    if bool(text) == (picture is not None):
        found = "both" if text else "neither"
        raise ValueError(
            f"Type what to look for or drop a picture: one of the two, got {found}."
        )
    if picture is not None:
        query = index.query_image(parts.model, picture, parts.image_converter)
    else:
        query = index.query_text(parts.model, silent(parts.tokenizer), text)
    return [
        Found(_thumbnail(match.path), match.similarity, printable(match.path.name))
        for match in index.search(query, min(int(top_k), MOST_RESULTS))
    ]


def found_as_html(found: Sequence[Found]) -> str:
    """Returns what was found as HTML that is safe to show.

    Args:
        found: from `search_pictures`, best first.
    """
    cards = "\n".join(
        f'<figure class="pe-card"><img src="{data_uri(each.picture)}" '
        f'alt="{html.escape(each.name)}"><figcaption><b>{each.similarity:.3f}</b> '
        f"{html.escape(each.name)}</figcaption></figure>"
        for each in found
    )
    return f'<div class="pe-cards pe-small">\n{cards}\n</div>'


def _thumbnail(path: Path) -> Image.Image:
    try:
        return thumbnail(path)
    except ImageError:  # moved or changed since it was indexed
        return Image.new("RGB", *PLACEHOLDER)
