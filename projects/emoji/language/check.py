"""Check that nothing of a test set is in training, and show how answers are shared out.

    python -m projects.emoji.language.check --data data/emoji --input data/language

Vendors, concepts, families of fonts, words and titles are read off the shards.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_pe.data.questions import questions_of
from projects.emoji.data.shards import Record, read_shards, shard_paths
from projects.emoji.language.data import DRAWINGS, SCENES, VARIED
from projects.emoji.language.drawings import name_of
from recipes.language_data.answer_table import (
    answer_counts,
    answer_table,
    set_samples,
    top_share,
)
from recipes.language_data.words import CELLS

SPLITS = ("train", "val_seen", "test", "heldout", "extra_train", "tuxpaint")
CAPTIONS = ("captions_train", "captions_validation", "captions_test")
TRAINING = ("train", VARIED, "scenes_train", "captions_train")
VALIDATION = ("validation", "scenes_validation", "captions_validation")
BALANCED = {"yesno": 2, "relation": 2, "position": 4}  # answers, equally often
SLACK = 0.06
ENOUGH = 300  # questions, for shares to be judged


class LeakError(ValueError):
    """Something of a test set is in training, or answers can be guessed."""


@dataclass
class SetContent:
    """What a set of shards shows and asks.

    Attributes:
        keys: drawings.
        answers: of questions of each kind.
        families: of fonts.
    """

    keys: set[str] = field(default_factory=set)
    answers: dict[str, set[str]] = field(default_factory=dict)
    families: set[str] = field(default_factory=set)

    def words(self) -> set[str]:
        """Returns the words and numbers that are to be read, in small letters."""
        return {
            word
            for text in self.answers.get("reading", ())
            for word in text.lower().split()
        }


def read_set(folder: Path, name: str) -> SetContent:
    """Reads what a set of shards shows and asks."""
    content = SetContent()
    for sample in set_samples(folder, name):
        about: dict[str, Any] = json.loads(sample["json"])
        content.keys.update(thing["source"] for thing in about.get("things", ()))
        if "key" in about:
            content.keys.add(about["key"])
        if "family" in about and "font" in about:
            content.families.add(about["family"])
        for question in questions_of(sample):
            content.answers.setdefault(question.kind, set()).add(question.answer)
    return content


def read_records(data: Path) -> dict[str, Record]:
    """Returns what the emoji data say of each drawing, by its key."""
    return {
        record["key"]: record
        for split in SPLITS
        for record, _ in read_shards(shard_paths(data, split))
    }


def check(data: Path, folder: Path) -> dict[str, SetContent]:
    """Checks all sets of a folder.

    Args:
        data: output of the recipes of the emoji data.
        folder: output of `projects.emoji.language.data`.

    Returns:
        What each set shows.

    Raises:
        LeakError: naming what is where it should not be.
        FileNotFoundError: if a set is missing.
    """
    records = read_records(data)
    names = (*DRAWINGS, VARIED, *SCENES, *CAPTIONS)
    drawn = {name: read_set(folder, name) for name in names}
    check_drawings(records, drawn)
    written = {cell: read_set(folder, f"words_{cell}") for cell in CELLS}
    check_words(written)
    return {**drawn, **{f"words_{cell}": of for cell, of in written.items()}}


def check_drawings(records: dict[str, Record], sets: dict[str, SetContent]) -> None:
    """Checks vendors, concepts, names and titles of the sets that show drawings."""
    shown = {
        name: [records[key] for key in sorted(content.keys)]
        for name, content in sets.items()
    }
    learned = [r for name in (*TRAINING, *VALIDATION) for r in shown[name]]
    vendors = {record["vendor"] for record in learned}
    heldout = [record for record in records.values() if record["heldout"]]
    for name in ("concept", "family"):
        kept_back = {record[name] for record in heldout}
        _disjoint(f"{name} held out", kept_back, {r[name] for r in learned})
    names = {name_of(record) for record in heldout}
    for name in (*TRAINING, *VALIDATION):
        for kind in ("name", "caption"):
            asked = {a.lower() for a in sets[name].answers.get(kind, ())}
            _disjoint(f"{kind} in {name}", names, asked)
    for name in ("test_vendor", "test_vendor_heldout", "scenes_test", "captions_test"):
        _disjoint(f"vendor in {name}", {r["vendor"] for r in shown[name]}, vendors)
    for name, (_, expected) in DRAWINGS.items():
        if any(record["heldout"] != expected for record in shown[name]):
            raise LeakError(f"{name}: expected concepts with heldout={expected} only.")
    for other in VALIDATION:
        for trained in TRAINING:
            _disjoint(f"{other}, {trained}", sets[other].keys, sets[trained].keys)
    titles = [sets[name].answers["caption"] for name in CAPTIONS[:2]]
    _disjoint("titles", *({title.lower() for title in those} for those in titles))


def check_words(sets: dict[str, SetContent]) -> None:
    """Checks fonts and words of the cells."""
    for name, cell in CELLS.items():
        for other, there in CELLS.items():
            if cell.fonts != there.fonts:
                fonts = sets[name].families, sets[other].families
                _disjoint(f"fonts of {name}, {other}", *fonts)
            if cell.words != there.words:
                words = sets[name].words(), sets[other].words()
                _disjoint(f"words of {name}, {other}", *words)


def check_balance(name: str, counts: dict[str, Any]) -> None:
    """Checks that no answer is right much more often than its share.

    Raises:
        LeakError: naming the kind of question.
    """
    for kind, answers in BALANCED.items():
        if kind in counts and counts[kind].total() >= ENOUGH:
            found = top_share(counts[kind])
            if found > 1 / answers + SLACK:
                raise LeakError(
                    f"{name}: {found:.3f} of the answers to {kind!r} are one of "
                    f"{answers}."
                )


def _disjoint(what: str, one: Iterable[Any], other: Iterable[Any]) -> None:
    both = sorted(set(one) & set(other))
    if both:
        raise LeakError(f"{what}: {len(both)} are on both sides, such as {both[:5]}.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line, checks and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        sets = check(options.data, options.input)
        for name, content in sets.items():
            counts = answer_counts(set_samples(options.input, name))
            check_balance(name, counts)
            print(f"\n{name}: {len(content.keys)} drawings")
            print(answer_table(counts))
    except (LeakError, FileNotFoundError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print("\nNothing of a test set is in training.")


if __name__ == "__main__":
    main()
