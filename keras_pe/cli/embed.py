"""Embed pictures or texts and write the vectors to an .npz file."""

import argparse
import os
from pathlib import Path

import numpy as np

from keras_pe.cli.common import (
    add_batch_size,
    add_preset,
    load,
    say_skipped,
    show_progress,
)

HELP = "write embeddings of pictures or texts"
EPILOG = """examples:
  keras-pe embed photos --output photos.npz
  keras-pe embed --texts "a cat" "a dog" --output texts.npz

The file holds `embeddings` (count, channels), float32 of unit length, and `names`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="file or folder")
    parser.add_argument("--texts", nargs="+", metavar="TEXT", help="texts to embed")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the .npz to write"
    )
    add_preset(parser)
    add_batch_size(parser)


def run(options: argparse.Namespace) -> int:
    """Embeds and writes; returns the exit code."""
    from keras_pe.evaluation.zero_shot import embed_images, embed_texts
    from keras_pe.preprocessing.batches import load_batches
    from keras_pe.search.picture_index import find_pictures

    if bool(options.pictures) == bool(options.texts):
        raise ValueError("Give pictures or --texts, one of the two.")
    code = 0
    if options.texts:
        loaded = load(options.preset)
        size = min(options.batch_size, len(options.texts))
        names = list(options.texts)
        embeddings = embed_texts(loaded.model, loaded.tokenizer, names, size)
    else:
        paths = [p for given in options.pictures for p in find_pictures(given)]
        loaded = load(options.preset)
        size = min(options.batch_size, len(paths))
        batches = load_batches(
            paths,
            loaded.image_converter,
            size,
            max_skipped_share=1.0,
            progress=show_progress(),
        )
        names, parts = [], [np.empty((0, loaded.model.output_dim), "float32")]
        for places, images in batches:
            parts.append(embed_images(loaded.model, images, size))
            names.extend(str(paths[place]) for place in places)
        embeddings = np.concatenate(parts)
        code = say_skipped(batches.report)
    write_npz(options.output, embeddings, names)
    print(f"{len(names)} embeddings of {embeddings.shape[1]} numbers: {options.output}")
    return code


def write_npz(path: Path, embeddings: np.ndarray, names: list[str]) -> None:
    """Writes an .npz whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            np.savez(file, embeddings=embeddings, names=np.array(names, dtype=str))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
