"""Videos and their classes in a table of one's own."""

import os

from keras_pe.data.table_files import (
    PairTableError,
    read_rows,
    table_ending,
    word_of,
)
from keras_pe.evaluation.datasets.types import Labelled

COLUMNS = ("video", "class")


def read_video_classes(
    table: str | os.PathLike[str], videos: str | os.PathLike[str] | None = None
) -> Labelled:
    """Reads a table of videos and classes.

    Args:
        table: a `.csv`, `.tsv`, `.jsonl` or `.parquet` file with columns `video`, the
            path of a file, and `class`, its name as it goes into prompts.
        videos: folder that relative paths start from; None: that of the table.

    Returns:
        `Labelled`, with the classes in the order of their names.

    Raises:
        ValueError: naming table and line of what is wrong, a video that comes twice
            among it.
        FileNotFoundError: naming videos that are missing, with their lines.

    Example:
        >>> _ = open("1.mp4", "wb").close()    # is not opened
        >>> with open("classes.csv", "w") as file:
        ...     _ = file.write("video,class\\n1.mp4,a long jump\\n")
        >>> read_video_classes("classes.csv").class_names
        ('a long jump',)
    """
    path = os.fspath(table)
    folder = os.fspath(videos) if videos is not None else os.path.dirname(path)
    if table_ending(path) is None:
        raise PairTableError(
            f"{path}: expected a table that ends in .csv, .tsv, .jsonl or .parquet, "
            f"with columns {' and '.join(COLUMNS)}."
        )
    rows = read_rows(path)
    there = {name for _, row in rows for name in row}
    if not set(COLUMNS) <= there:
        raise PairTableError(
            f"{path} has columns {sorted(there)}; expected {' and '.join(COLUMNS)}."
        )
    samples, names, missing = [], [], []
    lines: dict[str, int] = {}
    for number, row in rows:
        video, name = (word_of(row.get(column)) for column in COLUMNS)
        if not video or not name:
            raise PairTableError(
                f"{path}, line {number}: no video, or no class; expected texts."
            )
        if video in lines:
            raise PairTableError(
                f"{path}, line {number} repeats the video of line {lines[video]} "
                f"({video}), which would be counted twice: leave one out."
            )
        lines[video] = number
        samples.append(os.path.join(folder, video))
        names.append(name)
        if not os.path.exists(samples[-1]):
            missing.append(f"{samples[-1]} (line {number})")
    if missing:
        more = f", and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FileNotFoundError(
            f"Missing videos of {path}: {', '.join(missing[:3])}{more}."
        )
    classes = sorted(set(names))
    labels = tuple(classes.index(name) for name in names)
    return Labelled(tuple(samples), labels, tuple(classes))
