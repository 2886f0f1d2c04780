"""Write the questions of language alignment on emoji: drawings, scenes, text.

    python -m projects.emoji.language.data --data data/emoji --output data/language

after the recipes of the emoji data; it takes about half an hour on one core. What is
fetched are 19 MB of Debian packages: fonts and a list of words.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_pe.data.questions import write_question_shards
from projects.emoji.data import openclipart
from projects.emoji.data.packages import PackageError
from projects.emoji.data.shards import Record, load_arrays
from projects.emoji.language.captions import caption_sets
from projects.emoji.language.cut_outs import cut_outs
from projects.emoji.language.drawings import drawing_samples, varied_samples
from projects.emoji.language.packages import read_list, unpack_fonts, unpack_words
from projects.emoji.pairs import AUGMENTATIONS, FIRST_EXTRA_CONCEPT
from recipes.language_data.fonts import read_fonts
from recipes.language_data.scenes import scene_samples
from recipes.language_data.word_images import WordStyle
from recipes.language_data.words import (
    fonts_by_part,
    read_words,
    words_by_part,
)
from recipes.language_data.words import write_words as write_word_sets

SIZE = 64  # of the pictures, pixels
WRITERS = ("drawings", "varied", "captions", "scenes", "words")
# Plainer than the recipe's own: at 64 px a patch holds about a letter.
# A small encoder learns to read from some ten thousand pictures: texts are as wide as
# the picture, where they are not short, and stand out.
STYLE = WordStyle(
    SIZE,
    least_width=0.85,
    most_angle=4.0,
    least_contrast=0.5,
    most_noise=5.0,
    plain=0.7,
)
VARIED = "varied_train"
VARIANTS = 8
# Shards of drawings: split of the emoji data, and whether concepts are held out.
DRAWINGS = {
    "train": ("train", False),
    "validation": ("val_seen", False),
    "test_vendor": ("test", False),
    "test_heldout": ("heldout", True),
    "test_vendor_heldout": ("test", True),
}
# Scenes: split of the emoji data, and how many. The number is part of the seed.
SCENES = {
    "scenes_train": (0, "train", 20_000),
    "scenes_validation": (1, "val_seen", 1000),
    "scenes_test": (2, "test", 2000),
}


def read_drawings(
    data: Path, split: str, heldout: bool
) -> tuple[np.ndarray, list[Record]]:
    """Returns images and records of a split, of seen or of held-out concepts."""
    images, records = load_arrays(data, split)
    kept = [i for i, record in enumerate(records) if record["heldout"] == heldout]
    return images[kept], [records[i] for i in kept]


def write_drawings(data: Path, output: Path) -> None:
    """Writes the drawings of each split with all their questions."""
    for name, (split, heldout) in DRAWINGS.items():
        images, records = read_drawings(data, split, heldout)
        samples = drawing_samples(images, records, SIZE, f"language-{name}")
        write_question_shards(output, name, samples)
        print(f"{name}: {len(records)} drawings", flush=True)


def training_emoji(data: Path) -> tuple[np.ndarray, list[Record]]:
    """Returns all emoji of training: those of the splits by vendor, and extra ones."""
    images, records = read_drawings(data, "train", heldout=False)
    extra, their = load_arrays(data, "extra_train")
    # Icons and clip art have titles of their own: they are captioned.
    named = [
        i
        for i, one in enumerate(their)
        if one["concept"] < FIRST_EXTRA_CONCEPT and one["vendor"] != openclipart.VENDOR
    ]
    return np.concatenate([images, extra[named]]), [
        *records,
        *(their[i] for i in named),
    ]


def write_varied(data: Path, output: Path) -> None:
    """Writes the training emoji again, varied as pretraining varies them."""
    images, records = training_emoji(data)
    how = AUGMENTATIONS["strong"]
    wordings = f"language-{VARIED}"
    samples = varied_samples(images, records, SIZE, wordings, how, VARIANTS)
    write_question_shards(output, VARIED, samples)
    print(f"{VARIED}: {len(records)} drawings, {VARIANTS} times", flush=True)


def write_scenes(data: Path, output: Path, share: float = 1.0) -> None:
    """Writes composed scenes of the drawings of each split, of seen concepts alone."""
    for name, (number, split, count) in SCENES.items():
        things = cut_outs(*read_drawings(data, split, heldout=False))
        count = max(round(share * count), 1)
        samples = scene_samples(things, count, SIZE, (0, number), name)
        write_question_shards(output, name, samples)
        print(f"{name}: {count} scenes of {len(things)} drawings", flush=True)


def write_captions(data: Path, output: Path) -> None:
    """Writes titled clip art to train and validate on, and photographs to test on."""
    for name, samples in caption_sets(data, SIZE).items():
        write_question_shards(output, name, samples)
        print(f"{name}: {len(samples)} captions", flush=True)


def write_words(output: Path, cache: Path, count: int) -> None:
    """Writes words in the fonts of the listed packages."""
    listed = read_list()
    unpack_fonts(cache / "fonts", cache, listed)
    unpack_words(cache / "words.txt", cache, listed)
    folders = {part: cache / "fonts" / part for part in ("train", "test")}
    faces = {part: read_fonts(folder)[0] for part, folder in folders.items()}
    fonts = fonts_by_part(faces["train"], faces["test"])
    words = words_by_part(read_words(cache / "words.txt"))
    print(write_word_sets(output, fonts, words, count, STYLE), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and writes the shards."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the emoji data")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--words", type=int, default=120_000, help="of training")
    parser.add_argument("--only", choices=WRITERS, nargs="*", default=WRITERS)
    parser.add_argument(
        "--scenes", type=float, default=1.0, help="how many times 20,000 of training"
    )
    options = parser.parse_args(arguments)
    cache = options.cache or options.output / "cache"
    try:
        if "drawings" in options.only:
            write_drawings(options.data, options.output)
        if "varied" in options.only:
            write_varied(options.data, options.output)
        if "captions" in options.only:
            write_captions(options.data, options.output)
        if "scenes" in options.only:
            write_scenes(options.data, options.output, options.scenes)
        if "words" in options.only:
            write_words(options.output, cache, options.words)
    except PackageError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
