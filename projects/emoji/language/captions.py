"""Captions: titles of clip art to train on, sentences about photographs to test on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_pe.data.questions import Question, question_member
from keras_pe.data.shard_files import Sample
from projects.emoji.data import openclipart, tuxpaint
from projects.emoji.data.shards import Record, load_arrays
from projects.emoji.data.splits import unit_hash
from projects.emoji.language.drawings import on_white
from recipes.language_data.words import png_bytes

CAPTION = "caption"
ASKED = (
    "Describe the picture in a few words.",
    "What would be a title for this?",
    "Give a short caption.",
)
VALIDATION_SHARE = 0.08


def caption_sets(data: Path, size: int) -> dict[str, list[Sample]]:
    """Returns the samples of each set; no title is in two of them.

    Titles that name a held-out concept are not among the training images, see
    `projects.emoji.data.openclipart`.

    Args:
        data: output of the recipes of the emoji data.
        size: side of the pictures, pixels.
    """
    images, records = load_arrays(data, "extra_train")
    sets: dict[str, list[Sample]] = {"captions_train": [], "captions_validation": []}
    titled = [i for i, r in enumerate(records) if r["vendor"] == openclipart.VENDOR]
    for sample, title in _captioned(images, records, titled, size, "label"):
        chosen = unit_hash("language-titles-v1", title.lower())
        part = "validation" if chosen < VALIDATION_SHARE else "train"
        sets[f"captions_{part}"].append(sample)
    images, records = load_arrays(data, tuxpaint.SHARDS)
    every = range(len(records))
    described = _captioned(images, records, every, size, "description")
    return {**sets, "captions_test": [sample for sample, _ in described]}


def _captioned(
    images: np.ndarray,
    records: Sequence[Record],
    places: Sequence[int],
    size: int,
    field: str,
) -> Iterator[tuple[Sample, str]]:
    for place in places:
        record, key = records[place], records[place]["key"].replace(".", "-")
        chosen = unit_hash("language-captions", key)
        asked = ASKED[int(chosen * len(ASKED))]
        about = {name: record[name] for name in ("key", "vendor", "concept", "heldout")}
        question = Question(asked, record[field], CAPTION)
        sample = {
            "__key__": key,
            "png": png_bytes(on_white(Image.fromarray(images[place]), size)),
            "json": question_member([question], about),
        }
        yield sample, record[field]
