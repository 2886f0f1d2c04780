"""Captions that people wrote as questions, to fine-tune the captioner on.

Run:      python -m projects.video_engine.edits_to_questions --output pairs \\
              --questions questions
Expect:   questions/train-00000.tar and so on, and validation-00000.tar with every tenth
          clip. Then
          python -m recipes.align_language --config smoke --phase align \\
              --start CAPTIONER --encoder CAPTIONER \\
              --data 'questions/train-*.tar' --output runs/captioner

A clip becomes as many images as --frames says, each with the question that the
captioner is asked and the person's caption as its answer. What a person refused is left
out.
"""

import argparse
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from keras_pe.data.questions import (
    Question,
    question_member,
    write_question_shards,
)
from keras_pe.data.shard_files import Sample
from keras_pe.data_engine import Row, StageFailure, read_edits
from keras_pe.data_engine.captioners import pixels
from keras_pe.data_engine.captions import clean
from keras_pe.data_engine.frames import frames_of
from keras_pe.preprocessing.video import PEVideoConverter
from keras_pe.printable_text import printable
from projects.video_engine.refine import EDITS
from projects.video_engine.refine_clips import rows_of

VALIDATION = 10  # of so many clips one is kept back, by its content


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        "python -m projects.video_engine.edits_to_questions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", required=True, help="folder that the engine wrote")
    parser.add_argument("--edits", help=f"file of the edits; {EDITS} there by default")
    parser.add_argument("--questions", required=True, help="folder of the shards")
    parser.add_argument("--question", default="What is this?", help="that is asked")
    parser.add_argument("--frames", type=int, default=4, help="images of a clip")
    parser.add_argument("--image-size", type=int, default=224, help="of these, pixels")
    return parser.parse_args(arguments)


def samples_of(
    row: Row, caption: str, question: str, converter: PEVideoConverter
) -> Iterator[Sample]:
    """Yields frames of a clip with the question about each.

    Args:
        row: of the engine.
        caption: that a person wrote.
        question: to which it is the answer.
        converter: which frames, of which size.

    Raises:
        StageFailure: if the clip can't be used, or is another one by now.
    """
    about, caption = {"video_id": row["key"]}, clean(caption, "The edit")
    member = question_member([Question(question, caption, "caption")], about)
    for number, frame in enumerate(pixels(frames_of(row, converter))):
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "PNG")
        key = f"{row['content'][:32]}-{number}"
        yield {"__key__": key, "json": member, "png": file.getvalue()}


def write(settings: argparse.Namespace) -> dict[str, int]:
    """Writes the shards; returns how many clips are in each set, and left out.

    Raises:
        ValueError: if there is no edit of any clip.
    """
    output = Path(settings.output)
    rows = rows_of(output / "rows.jsonl") + rows_of(output / "failures.jsonl")
    edits = read_edits(settings.edits or output / EDITS)
    converter = PEVideoConverter(settings.image_size, settings.frames)
    sets: dict[str, list[Sample]] = {"train": [], "validation": []}
    counts = {"train": 0, "validation": 0, "left out": 0}
    for row in rows:
        caption = edits.get(str(row.get("content")))
        if caption is None:
            continue
        try:
            found = list(samples_of(row, caption, settings.question, converter))
        except StageFailure as failure:
            print(printable(f"{row['key']}: {failure}"), file=sys.stderr)
            counts["left out"] += 1
            continue
        name = "train" if int(row["content"], 16) % VALIDATION else "validation"
        sets[name] += found
        counts[name] += 1
    if not sets["train"]:
        raise ValueError(
            f"No edit of {output} can be trained on: write captions with "
            f"`python -m projects.video_engine.refine --output {output}`."
        )
    for name, samples in sets.items():
        if samples:
            write_question_shards(settings.questions, name, samples)
    return counts


def main(arguments: list[str] | None = None) -> None:
    """Writes the shards and says how many clips are in them."""
    try:
        counts: Mapping[str, Any] = write(parse(arguments))
    except (ValueError, OSError) as error:
        raise SystemExit(printable(error)) from error
    print(", ".join(f"{name}: {count:,} clips" for name, count in counts.items()))


if __name__ == "__main__":
    main()
