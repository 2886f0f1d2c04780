"""Read LLaVA's format: a JSON list of conversations, and a folder of images.

    {"id": "1", "image": "coco/1.jpg", "conversations": [
        {"from": "human", "value": "<image>\\nWhat is it?"},
        {"from": "gpt", "value": "A cat."}]}

Each pair of turns becomes a question; those of a row are a conversation, whose later
turns see earlier ones.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_pe.data import SampleError, SkippedSamples
from keras_pe.data.questions import CONVERSATION, Question
from keras_pe.data.sample_errors import NO_IMAGE
from keras_pe.data.shard_files import Sample
from recipes.language_data.foreign_rows import (
    ODD_ROW,
    SEVERAL_IMAGES,
    Row,
    row_question,
    row_sample,
    samples_of_rows,
)

TOKEN = "<image>"
TURNS = ("human", "gpt")


def llava_samples(
    path: Path, images: Path, skipped: SkippedSamples
) -> Iterator[Sample]:
    """Yields the conversations of a file.

    Args:
        path: a JSON list, or a `.jsonl` file with one conversation a line, of which
            those that are broken are counted too.
        images: folder that the names of images are relative to.
        skipped: where every conversation is counted.

    Raises:
        ValueError: if the file is no list of conversations.
    """
    rows = _read(path)
    folder = images.resolve()
    return samples_of_rows(
        rows, lambda row: llava_sample(row, folder), str(path), skipped
    )


def _read(path: Path) -> list[Any]:
    content = path.read_bytes()
    if path.suffix == ".jsonl":
        # Texts may hold other ends of lines, such as U+2028.
        lines = enumerate(content.split(b"\n"), 1)
        return [_line(number, line) for number, line in lines if line.strip()]
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list, found {type(rows).__name__}.")
    return rows


def _line(number: int, line: bytes) -> Any:
    """Returns what a line holds, or what is wrong with it."""
    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return SampleError(ODD_ROW, f"Line {number} is no JSON: {error}.")


def llava_sample(row: Row, folder: Path) -> Sample:
    """Returns a conversation as a sample; without "image" it is text alone.

    Args:
        row: the conversation.
        folder: of the images; nothing outside of it is read.

    Raises:
        SampleError: if turns do not alternate, an image is missing, or there are two.
        ImageError: if the image is none.
    """
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns or len(turns) % 2:
        raise SampleError(
            ODD_ROW, f"conversations={str(turns)[:80]}: expected pairs of turns."
        )
    questions, tokens = [], 0
    for place in range(0, len(turns), 2):
        asked, said = (_value(turns[place + i], TURNS[i]) for i in range(2))
        if TOKEN in said:
            raise SampleError(ODD_ROW, f"An answer holds {TOKEN}: {said[:80]!r}.")
        tokens += asked.count(TOKEN)
        questions.append(_question(asked, said))
    about = {"id": row.get("id"), CONVERSATION: True}
    return row_sample(questions, _image(row, tokens, folder), about)


def _value(turn: Any, speaker: str) -> str:
    if (
        not isinstance(turn, dict)
        or turn.get("from") != speaker
        or not isinstance(turn.get("value"), str)
    ):
        raise SampleError(
            ODD_ROW, f"A turn is {str(turn)[:80]}: expected a text from {speaker!r}."
        )
    return str(turn["value"])


def _question(asked: str, said: str) -> Question:
    return row_question(asked.replace(TOKEN, "").strip(), said.strip())


def _image(row: Row, tokens: int, folder: Path) -> bytes | None:
    name = row.get("image")
    if tokens > 1 or isinstance(name, list):
        raise SampleError(SEVERAL_IMAGES, f"image={name!r}, {tokens} times {TOKEN}.")
    if name is None:
        if tokens:
            raise SampleError(NO_IMAGE, f"It says {TOKEN} and names no image.")
        return None
    try:
        path = (folder / str(name)).resolve()
        if path.is_relative_to(folder):
            return path.read_bytes()
    # Of names that no file can have: NUL, half a surrogate pair, a loop of links.
    except (OSError, ValueError, RuntimeError) as error:
        raise SampleError(NO_IMAGE, f"image={name!r}: {error}") from None
    raise SampleError(ODD_ROW, f"image={name!r} leads out of the folder.")
