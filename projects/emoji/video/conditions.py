"""What the experiment trains on: whose captions, of which clips, with which frames."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe.data_engine import clips_of_folder
from keras_pe.data_engine.clips import with_content
from keras_pe.data_engine.pair_shards import write_pair_shards
from projects.emoji.data.splits import unit_hash

VALIDATION_SHARE = 0.1
SUMMARIES = "summary of all"
Row = dict[str, Any]
Caption = Callable[[Row], str]


def title(row: Row) -> str:
    """Returns the name alone."""
    return str(row["metadata"]["title"])


def with_tags(row: Row) -> str:
    """Returns the name and what it is tagged with."""
    return ", ".join(dict.fromkeys([title(row), *row["metadata"].get("tags", ())]))


def with_video(row: Row) -> str:
    """Returns the name, and what the captioner says of all frames."""
    return _joined([title(row), row["refined_caption"]])


def with_frames(row: Row) -> str:
    """Returns that, and what it says of single frames."""
    said = [title(row), row["refined_caption"], *row["frame_captions"]]
    return _joined(said)


def summed_up(row: Row) -> str:
    """Returns what a language model made of the name, the tags and all of that."""
    return str(row["caption"])


def captioner_alone(row: Row) -> str:
    """Returns what the captioner says, without the name."""
    return _joined([row["refined_caption"], *row["frame_captions"]])


def _joined(parts: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(parts))


@dataclass(frozen=True)
class Condition:
    """A training set.

    Attributes:
        caption: of a row.
        data: "clips" or "motions".
        num_frames: of a clip; 1 shows the first frame's place alone.
        shuffled: whether each clip has the caption of another one.
    """

    caption: Caption
    data: str = "clips"
    num_frames: int = 8
    shuffled: bool = False


# In the order of the paper's table of what each part is worth; controls behind.
CONDITIONS = {
    "title": Condition(title),
    "title, tags": Condition(with_tags),
    "title, video caption": Condition(with_video),
    "title, video and frame captions": Condition(with_frames),
    SUMMARIES: Condition(summed_up),
    "captioner alone": Condition(captioner_alone),
    "title, first frame": Condition(title, num_frames=1),
    "title of another clip": Condition(title, shuffled=True),
    "motions": Condition(title, data="motions"),
    "motions, first frame": Condition(title, data="motions", num_frames=1),
}


def read_rows(clips: Path, engine: Path | None = None) -> list[Row]:
    """Returns rows of clips, with what an engine said of each where there is one.

    Args:
        clips: folder of clips, each with its JSON.
        engine: output of `projects.video_engine` on that folder.

    Raises:
        ValueError: if the engine's output is of other clips.
    """
    found = [with_content(row) for row in clips_of_folder(clips)]
    if engine is None:
        return found
    said: dict[str, Row] = {}
    with open(engine / "rows.jsonl", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            said[row["content"]] = row
    both = [{**said[row["content"]], **row} for row in found if row["content"] in said]
    if len(both) < 0.9 * len(found):
        raise ValueError(
            f"{engine} knows {len(both)} of the {len(found)} clips of {clips}: it is "
            f"the output of another engine, or most clips failed there."
        )
    return both


def check_summaries(engine: Path, rows: Sequence[Row]) -> None:
    """Refuses captions that no language model made.

    Raises:
        ValueError: if each has the captioner's caption as one of its parts.
    """
    if all(row["refined_caption"] in row["caption"].split("; ") for row in rows):
        raise ValueError(
            f"{engine} put captions one behind the other: for {SUMMARIES!r} give "
            f"the output of projects.video_engine with --decoder or --endpoint."
        )


def is_validation(row: Row) -> bool:
    """Returns whether a clip of training is kept back to choose by."""
    family = str(row["metadata"]["family"])
    return unit_hash("emoji-video-validation-v1", family) < VALIDATION_SHARE


def write_condition(
    folder: Path, condition: Condition, rows: Sequence[Row], seed: int
) -> Path:
    """Writes the pairs of a condition; returns the folder of the shards.

    Args:
        folder: where.
        condition: whose captions.
        rows: of training.
        seed: of the exchange of captions, where there is one.
    """
    captions = [condition.caption(row) for row in rows]
    if condition.shuffled:
        order = np.random.default_rng(seed).permutation(len(rows))
        moved = np.empty(len(rows), int)
        moved[order] = np.roll(order, 1)  # none keeps its own
        captions = [captions[place] for place in moved]
    folder.mkdir(parents=True, exist_ok=True)
    write_pair_shards(
        folder,
        [
            {**row, "caption": caption}
            for row, caption in zip(rows, captions, strict=True)
        ],
    )
    return folder
