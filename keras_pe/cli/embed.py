"""Embed images or texts and write the vectors to a file."""

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_pe.cli.common import (
    FAILED,
    add_batch_size,
    add_images,
    add_json,
    add_preset,
    chosen_preset,
    find_all,
    load,
    path,
    say_skipped,
    show_progress,
)
from keras_pe.cli.output import print_json, printable

if TYPE_CHECKING:
    import numpy as np

HELP = "write embeddings of images or texts"
EPILOG = """examples:
  keras-pe embed photos --output photos.npz
  keras-pe embed photos --output photos.csv
  keras-pe embed --texts "a cat" "a dog" --output texts.npz

The suffix of the file says how it is written; vectors are float32 of unit length:
  .npz    `embeddings` (count, channels) and `names`
  .npy    the embeddings alone
  .csv    a line an image: its name, then its numbers; a header above
  .json   a list of {"name": ..., "embedding": [...]}
  .jsonl  the same, one object a line
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_images(parser, nargs="*")
    parser.add_argument("--texts", nargs="+", metavar="TEXT", help="texts to embed")
    parser.add_argument(
        "--output",
        type=path,
        required=True,
        metavar="FILE",
        help=f"the file to write: {', '.join(WRITERS)}",
    )
    add_json(parser, "the summary")
    add_preset(parser)
    add_batch_size(parser)


def run(options: argparse.Namespace) -> int:
    """Embeds and writes; returns the exit code."""
    from keras_pe.files import check_file_target, file_aside

    if bool(options.images) == bool(options.texts):
        raise ValueError("Give images or --texts, one of the two.")
    write = WRITERS.get(options.output.suffix.lower())
    if write is None:
        raise ValueError(
            f"--output {options.output}: expected a name that ends in "
            f"{', '.join(WRITERS)}, which says how it is written."
        )
    check_file_target(options.output)  # before hours of embedding
    embed = _embed_texts if options.texts else _embed_images
    names, embeddings, code = embed(options)
    if code == FAILED:
        return code
    with file_aside(options.output) as aside:
        write(aside, embeddings, names)
    count, channels = embeddings.shape
    if options.json:
        print_json(
            {"output": str(options.output), "count": count, "channels": channels}
        )
    else:
        where = printable(options.output)
        print(f"{count} embeddings of {channels} numbers: {where}")
    return code


def _embed_texts(options: argparse.Namespace) -> tuple[list[str], "np.ndarray", int]:
    from keras_pe.arrays import check_finite
    from keras_pe.models.embedding import embed_texts

    loaded = load(chosen_preset(options.preset))
    names = list(options.texts)
    size = min(options.batch_size, len(names))
    vectors = embed_texts(loaded.model, loaded.tokenizer, names, size)
    return names, check_finite(vectors, "text embeddings", "text", names), 0


def _embed_images(options: argparse.Namespace) -> tuple[list[str], "np.ndarray", int]:
    import numpy as np

    from keras_pe.arrays import check_finite
    from keras_pe.models.embedding import embed_images
    from keras_pe.preprocessing.batches import load_batches

    paths = find_all(options.images)
    loaded = load(chosen_preset(options.preset))
    size = min(options.batch_size, len(paths))
    batches = load_batches(
        paths,
        loaded.image_converter,
        size,
        max_skipped_share=1.0,
        progress=show_progress(),
    )
    names: list[str] = []
    parts = [np.empty((0, loaded.model.output_dim), "float32")]
    for places, images in batches:
        new = [str(paths[place]) for place in places]
        vectors = embed_images(loaded.model, images, size)
        parts.append(check_finite(vectors, "image embeddings", "image", new))
        names += new
    return names, np.concatenate(parts), say_skipped(batches.report)


# === Files ===
def write_npz(path: Path, embeddings: "np.ndarray", names: Sequence[str]) -> None:
    """Writes vectors and names as NumPy arrays."""
    import numpy as np

    with path.open("wb") as file:
        np.savez(file, embeddings=embeddings, names=np.array(names, dtype=str))


def write_npy(path: Path, embeddings: "np.ndarray", names: Sequence[str]) -> None:
    """Writes the vectors alone."""
    import numpy as np

    with path.open("wb") as file:
        np.save(file, embeddings)


def write_csv(path: Path, embeddings: "np.ndarray", names: Sequence[str]) -> None:
    """Writes a line a vector; a name that is no UTF-8 is written escaped."""
    # repr of a float32 is the shortest text that gives the same number again.
    with path.open(
        "w", newline="", encoding="utf-8", errors="backslashreplace"
    ) as file:
        writer = csv.writer(file)
        writer.writerow(["name", *range(embeddings.shape[1])])
        for name, row in zip(names, embeddings, strict=True):
            writer.writerow([name, *(str(number) for number in row)])


def write_json(path: Path, embeddings: "np.ndarray", names: Sequence[str]) -> None:
    """Writes a list of objects."""
    lines = ",\n".join(_objects(embeddings, names))
    path.write_text(f"[\n{lines}\n]\n", encoding="ascii")


def write_jsonl(path: Path, embeddings: "np.ndarray", names: Sequence[str]) -> None:
    """Writes an object a line."""
    text = "".join(f"{line}\n" for line in _objects(embeddings, names))
    path.write_text(text, encoding="ascii")


def _objects(embeddings: "np.ndarray", names: Sequence[str]) -> list[str]:
    rows = zip(names, embeddings, strict=True)
    return [
        f'{{"name": {json.dumps(name)}, "embedding": [{", ".join(map(str, row))}]}}'
        for name, row in rows
    ]


WRITERS: dict[str, Callable[[Path, "np.ndarray", Sequence[str]], None]] = {
    ".npz": write_npz,
    ".npy": write_npy,
    ".csv": write_csv,
    ".json": write_json,
    ".jsonl": write_jsonl,
}
