"""Rounds the weights of a bundled dual encoder, and says what that changes.

Run:      python -m projects.emoji.rounded_preset \\
              keras_pe/presets/pe_core_emoji_patch8_64 --data data/emoji --bits 9 8 7
Expect:   a line for the preset as it is and one for each number of bits: bytes of the
          weights in a wheel, cosines of its embeddings with those of before, top-1 of
          each test set, and recall of the unseen vendor's images by their names.
          `--write` with one number writes the preset: the weights by plane, the vectors
          of its classes, and in metadata and card the results of these weights.
"""

import argparse
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_pe.files import write_atomically
from keras_pe.models.embedding import embed_texts
from keras_pe.models.preset_parts import PresetParts, load_parts
from keras_pe.preprocessing.prompts import fill
from keras_pe.presets.checksums import SELF_CHECKSUM
from projects.emoji.byte_planes import packed_bytes, store_by_planes
from projects.emoji.card import stored
from projects.emoji.card_head import headed
from projects.emoji.data.captions import class_prompts
from projects.emoji.data.shards import load_arrays
from projects.emoji.evaluation import Score, plain_classes
from projects.emoji.preset import TEST_VENDOR, all_scores, as_metadata, score_rows
from projects.emoji.rounding import round_weights

# What `save_to_preset` writes itself, and refuses to be given.
OWN = ("keras_version", "keras_pe_version", "parameter_count", "date_saved", "dtype")
STORED = re.compile(r"Stored as float16[^\n]*\.$", re.MULTILINE)


class Embedded(NamedTuple):
    """Embeddings of the unseen vendor, row by row of the same concept.

    Attributes:
        images: `(concepts, output_dim)`, of unit length.
        texts: likewise, of the concepts' names.
    """

    images: np.ndarray
    texts: np.ndarray

    def recall(self) -> float:
        """Returns the share of names that find their image first."""
        similarities = self.texts @ self.images.T
        right = np.diag(similarities)[:, None]
        return float(np.mean((similarities >= right).sum(axis=1) == 1))


def embedded(parts: PresetParts, data: Path) -> Embedded:
    """Embeds the unseen vendor's drawings and their names."""
    arrays, records = load_arrays(data, "test")
    row = {record["concept"]: number for number, record in enumerate(records)}
    concepts = [c for c in plain_classes(data, TEST_VENDOR) if c["id"] in row]
    pictures = parts.image_converter([arrays[row[c["id"]]] for c in concepts])
    images = [
        np.asarray(parts.model.encode_image(pictures[first : first + 64]))
        for first in range(0, len(pictures), 64)
    ]
    template = next(iter(class_prompts()))
    names = [fill(template, concept["label"]) for concept in concepts]
    texts = embed_texts(parts.model, parts.tokenizer, names, 128)
    return Embedded(np.concatenate(images), texts)


def save_rounded(
    parts: PresetParts, output: Path, bits: int | None, scores: Any = None
) -> None:
    """Writes a preset whose weights have so many bits, by plane.

    Args:
        parts: the preset; its weights are rounded in place.
        output: folder of the new one.
        bits: of the fraction; None leaves the weights as they are.
        scores: in place of those that the metadata has; None keeps these.
    """
    if bits is not None:
        round_weights(parts.model, bits)
    left_out = (*OWN, "files", SELF_CHECKSUM)
    metadata = {k: v for k, v in parts.metadata.items() if k not in left_out}
    if scores is not None:
        metadata["scores"] = scores
    parts.model.save_to_preset(
        output,
        tokenizer=parts.tokenizer,
        image_converter=parts.image_converter,
        metadata=metadata,
        dtype=parts.metadata["dtype"],
    )
    store_by_planes(output)


def renewed_card(card: str, scores: dict[str, dict[str, Score]], bits: int) -> str:
    """Returns a card with the results of rounded weights.

    Args:
        card: of the weights before.
        scores: of all test sets.
        bits: of the fraction that are kept.

    Raises:
        ValueError: if the card has no row for a score, or does not say how the weights
            are stored.
    """
    lines = card.splitlines()
    for row in score_rows(scores):
        label = row.split(" | ")[0]
        places = [n for n, line in enumerate(lines) if line.split(" | ")[0] == label]
        if len(places) != 1:
            raise ValueError(f"The card has {len(places)} rows {label!r}, expected 1.")
        lines[places[0]] = row
    text, count = STORED.subn(stored(bits), "\n".join(lines) + "\n")
    if count != 1:
        raise ValueError(f"The card says {count} times how it is stored, expected 1.")
    return headed(text)


def _line(
    name: str, parts: PresetParts, old: Embedded, new: Embedded, scores: Any
) -> str:
    assert parts.directory is not None
    cosines = [
        np.sum(a * b, axis=1)
        for a, b in ((old.images, new.images), (old.texts, new.texts))
    ]
    said = ", ".join(
        f"{what} {1 - cosine.mean():.1e} mean {1 - cosine.min():.1e} most"
        for what, cosine in zip(("images", "texts"), cosines, strict=True)
    )
    size = packed_bytes(parts.directory / "model.weights.h5")
    return (
        f"{name}: {size:,} bytes; 1 - cosine: {said}; image by name first "
        f"{100 * new.recall():.1f} %; {_top1(scores)}"
    )


def _top1(scores: dict[str, dict[str, Score]]) -> str:
    return "top-1 " + ", ".join(
        f"{name} {100 * found['all'].top1[0]:.1f} %" for name, found in scores.items()
    )


def main() -> None:
    """Measures, and writes if it is told to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("preset", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bits", type=int, nargs="+", required=True)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.write and len(options.bits) != 1:
        parser.error("--write takes one number of --bits")
    parts = load_parts(options.preset)
    before = embedded(parts, options.data)
    scores = all_scores(*parts[:3], options.data)
    print(_line("as it is", parts, before, before, scores), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for bits in options.bits:
            place = Path(folder) / options.preset.name
            save_rounded(load_parts(options.preset), place, bits)
            parts = load_parts(place)  # what is in the file, and nothing else
            scores = all_scores(*parts[:3], options.data)
            after = embedded(parts, options.data)
            print(_line(f"{bits} bits", parts, before, after, scores), flush=True)
        if options.write:
            save_rounded(parts, options.preset, None, as_metadata(scores))
            path = options.preset.with_suffix(".md")
            card = renewed_card(path.read_text("utf-8"), scores, options.bits[0])
            write_atomically(path, card)


if __name__ == "__main__":
    main()
