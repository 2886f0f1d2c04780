"""Questions about single drawings: name, kind, group, and whether it is a thing."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_pe.data.questions import Question, question_member
from keras_pe.data.shard_files import Sample
from projects.emoji.data.shards import Record
from projects.emoji.data.splits import unit_hash
from projects.emoji.pairs import Augmentation, crop, varied
from recipes.language_data.words import png_bytes

ASKED = {
    "name": (
        "What is this?",
        "What does the picture show?",
        "What do you see?",
        "Name this.",
    ),
    "kind": ("What kind of thing is this?", "Of which kind is this?"),
    "group": ("Which group does this belong to?", "In which group is this?"),
    "yesno": ("Is this {}?", "Does the picture show {}?", "Is {} shown here?"),
}
VARIED_KINDS = ("name", "kind")
YES, NO = "yes", "no"
# What of a record goes into the shards, for scores of subsets.
ABOUT = ("key", "vendor", "concept", "family", "subgroup", "is_flag", "is_symbol")


def drawing_samples(
    images: np.ndarray,
    records: Sequence[Record],
    size: int,
    wordings: str,
) -> Iterator[Sample]:
    """Yields drawings on white with all their questions.

    Args:
        images: uint8 `(drawings, height, width, 4)`.
        records: what the shards say of them.
        size: side of the pictures, pixels.
        wordings: part of the seed that words the questions.

    Yields:
        `__key__`, `png` and `json`.
    """
    for place, sample in enumerate(_samples(records, wordings)):
        shown = on_white(Image.fromarray(images[place]), size)
        yield {**sample, "png": png_bytes(shown)}


def varied_samples(
    images: np.ndarray,
    records: Sequence[Record],
    size: int,
    wordings: str,
    how: Augmentation,
    count: int,
) -> Iterator[Sample]:
    """Yields drawings several times, each time varied and asked in other words.

    They are asked what they are and of which kind: what says most of a drawing, and so
    teaches most in the time that an image takes. What tells left from right is not
    mirrored.

    Args:
        images: uint8 `(drawings, height, width, 4)`.
        records: what the shards say of them.
        size: side of the pictures, pixels.
        wordings: part of the seed of questions and pictures.
        how: how pictures are varied.
        count: how often each drawing comes.

    Yields:
        `__key__`, with the number of the variant at its end, `png` and `json`.
    """
    cropped = [crop(image) for image in images]
    for variant in range(count):
        seed = f"{wordings}-{variant}"
        for place, sample in enumerate(_samples(records, seed, VARIED_KINDS)):
            record = records[place]
            rng = np.random.default_rng(list(f"{seed}:{record['key']}".encode()))
            pixels = varied(cropped[place], record, size, how, rng)
            shown = Image.fromarray(np.rint(pixels).astype("uint8"))
            key = f"{sample['__key__']}-{variant}"
            yield {**sample, "__key__": key, "png": png_bytes(shown)}


def _samples(
    records: Sequence[Record], wordings: str, kinds: Sequence[str] = tuple(ASKED)
) -> Iterator[Sample]:
    """Yields the key and the questions of each drawing, those of some kinds."""
    others = other_names(records)
    for record, other in zip(records, others, strict=True):
        questions = [
            _asked(record, "name", wordings, answer=name_of(record)),
            _asked(record, "kind", wordings, answer=kind_of(record)),
            _asked(record, "group", wordings, answer=group_of(record)),
            _asked(record, "yesno", wordings, name_of(record), YES),
        ]
        if other is not None:
            questions.append(_asked(record, "yesno", wordings, other, NO))
        about = {name: record[name] for name in ABOUT}
        kept = [question for question in questions if question.kind in kinds]
        yield {
            "__key__": record["key"].replace(".", "-"),
            "json": question_member(kept, about),
        }


def _asked(
    record: Record, kind: str, wordings: str, about: str = "", answer: str = ""
) -> Question:
    """Returns a question in one of its wordings, always the same one."""
    place = unit_hash(wordings, f"{record['key']}:{kind}:{about}:{answer}")
    wording = ASKED[kind][int(place * len(ASKED[kind]))]
    return Question(wording.format(about), answer, kind)


def name_of(record: Record) -> str:
    """Returns what a drawing shows, as training captions call it."""
    return str(record["label"].lower())


def kind_of(record: Record) -> str:
    """Returns the subgroup of a drawing: "animal mammal"."""
    return str(record["subgroup"].replace("-", " "))


def group_of(record: Record) -> str:
    """Returns the group of a drawing: "animals and nature"."""
    return str(record["group"].replace("-", " and "))


def other_names(records: Sequence[Record]) -> list[str | None]:
    """Returns for each drawing the name of another one, mostly of the same subgroup.

    In a subgroup names are handed on in a circle, past a drawing's own family: every
    name is asked for as often where "no" is right as where "yes" is, so that the
    question alone tells nothing. Subgroups in which one family is more than half of
    all are put together with what else of their group is alone like this, or get any
    other name; None where there is one family alone.
    """
    names: list[str | None] = [None] * len(records)
    alone: dict[str, list[int]] = {}
    for places in _grouped(records, range(len(records)), "subgroup").values():
        if not _hand_on(records, places, names):
            alone.setdefault(records[places[0]]["group"], []).extend(places)
    rest = [
        place
        for places in alone.values()
        if not _hand_on(records, places, names)
        for place in places
    ]
    if not _hand_on(records, rest, names):
        # One family is most of what is left: any other drawing's name will do.
        for place in rest:
            key, family = records[place]["key"], records[place]["family"]
            strange = [one for one in records if one["family"] != family]
            if strange:
                chosen = int(unit_hash("no", key) * len(strange))
                names[place] = name_of(strange[chosen])
    return names


def _grouped(
    records: Sequence[Record], places: Sequence[int], field: str
) -> dict[Any, list[int]]:
    grouped: dict[Any, list[int]] = {}
    for place in places:
        grouped.setdefault(records[place][field], []).append(place)
    return grouped


def _hand_on(
    records: Sequence[Record], places: Sequence[int], names: list[str | None]
) -> bool:
    """Hands names on by as many places as the largest family has; says if it can."""
    families = _grouped(records, places, "family")
    most = max(map(len, families.values()), default=0)
    if 2 * most > len(places) or not places:
        return False
    # Families side by side: whoever is `most` places further is of another one.
    ordered = [
        place
        for family in sorted(families, key=lambda name: unit_hash("no", name))
        for place in sorted(families[family], key=lambda p: records[p]["key"])
    ]
    for position, place in enumerate(ordered):
        names[place] = name_of(records[ordered[position - most]])
    return True


def on_white(image: Image.Image, size: int) -> Image.Image:
    """Returns a drawing with an alpha channel on white, at a size."""
    # Premultiplied, so that hidden colours do not bleed into the edge.
    small = image.convert("RGBa").resize((size, size), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", small.size, "white")
    return Image.alpha_composite(canvas, small.convert("RGBA")).convert("RGB")
