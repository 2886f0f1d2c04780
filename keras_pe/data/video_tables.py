"""Videos that lie in folders, listed by a table or by the folders themselves."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from keras_pe.data.table_files import (
    NumberedRow,
    PairTableError,
    read_rows,
    word_of,
)
from keras_pe.data.video_rows import (
    NO_TEXT,
    VideoDataError,
    VideoRow,
    VideoRows,
    check_files,
    text_of,
)
from keras_pe.preprocessing.media_folders import VIDEO_SUFFIXES, list_classes

FilePath = str | os.PathLike[str]
# YouTube's id and the seconds at which the clip was cut, as Kinetics names its files.
_KINETICS = re.compile(r"(?P<id>.{11})_(?P<start>\d{6})_(?P<end>\d{6})")
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")


def read_msrvtt(
    table: FilePath,
    videos: FilePath,
    *,
    split: str | None = None,
    suffix: str = ".mp4",
    on_missing: str = "raise",
) -> VideoRows:
    """Reads a CSV file with a sentence a line, several for a video.

    Args:
        table: with columns `video_id` and `sentence`; others become metadata, of the
            video's first line. MSR-VTT, MSVD and the benchmark of PVD are listed so.
        videos: folder of `<video_id><suffix>`.
        split: what the rows are of, such as "test".
        suffix: of the files.
        on_missing: "raise", or "skip" for leaving out and counting what has no file.

    Returns:
        A row a video, in the order of the table; lines of one video may lie anywhere.

    Raises:
        VideoDataError: naming table and line of what is wrong.
        FileNotFoundError: naming the files that are missing, and their lines.

    Source: upstream `video_retrieval_dataset.py`.

    Example:
        >>> import os
        >>> os.mkdir("clips")
        >>> _ = open("clips/video7.mp4", "wb").close()    # is not opened
        >>> with open("msrvtt.csv", "w") as file:
        ...     _ = file.write("video_id,sentence\\nvideo7,a man\\nvideo7,a race\\n")
        >>> read_msrvtt("msrvtt.csv", "clips")[0].captions
        ('a man', 'a race')
    """
    found: dict[str, VideoRow] = {}
    for number, row in _rows(table, ("video_id", "sentence")):
        place = _place(table, number)
        key = _name(row, "video_id", place)
        text = _text(row, "sentence", place)
        more = {k: v for k, v in row.items() if k not in ("video_id", "sentence")}
        path = os.path.join(videos, key + suffix)
        seen = found.setdefault(
            key, VideoRow(key, path, (), split, metadata=more, place=place)
        )
        if text is not None and text not in seen.captions:
            captions = (*seen.captions, text)
            found[key] = VideoRow(
                key, path, captions, split, metadata=seen.metadata, place=seen.place
            )
    return check_files(list(found.values()), on_missing, table)


def read_webvid(
    table: FilePath,
    videos: FilePath,
    *,
    split: str | None = None,
    on_missing: str = "raise",
) -> VideoRows:
    """Reads a CSV file as WebVid's.

    Args:
        table: with columns `videoid`, `contentUrl`, `duration` ("PT00H00M16S"),
            `page_dir` and `name`, which is the caption. Nothing is downloaded.
        videos: folder of `<page_dir>/<videoid>.mp4`, as its downloaders write it.
        split: what the rows are of.
        on_missing: "raise", or "skip" for leaving out and counting what has no file.

    Returns:
        A row a video.

    Raises:
        VideoDataError: naming table and line of what is wrong.
        FileNotFoundError: naming the files that are missing, and their lines.

    Source: https://github.com/m-bain/webvid.

    Example:
        >>> import os
        >>> os.makedirs("webvid/000001_000050")
        >>> _ = open("webvid/000001_000050/12.mp4", "wb").close()    # is not opened
        >>> with open("webvid.csv", "w") as file:
        ...     _ = file.write("videoid,contentUrl,duration,page_dir,name\\n12,"
        ...         "https://example.org/12.mp4,PT00H00M16S,000001_000050,A lake.\\n")
        >>> row = read_webvid("webvid.csv", "webvid")[0]
        >>> row.caption, row.duration
        ('A lake.', 16.0)
    """
    rows: dict[str, VideoRow] = {}
    for number, row in _rows(table, ("videoid", "duration", "page_dir", "name")):
        place = _place(table, number)
        key = _name(row, "videoid", place)
        if key in rows:
            raise VideoDataError(
                f"{place} repeats videoid {key} of {rows[key].place}: leave one out."
            )
        folder = word_of(row.get("page_dir"))
        text = _text(row, "name", place)
        rows[key] = VideoRow(
            key,
            os.path.join(videos, _inside(folder, "page_dir", place), f"{key}.mp4"),
            () if text is None else (text,),
            split,
            duration=_seconds(row.get("duration"), place),
            metadata={"contentUrl": row.get("contentUrl"), "page_dir": folder},
            place=place,
        )
    return check_files(list(rows.values()), on_missing, table)


def read_kinetics(root: FilePath, *, split: str | None = None) -> VideoRows:
    """Reads videos in folders of their class.

    Args:
        root: holds a folder for each class; a class is called as its folder, with
            spaces for underscores. The times in names such as
            `abcdefghijk_000012_000022.mp4` become duration and metadata.
        split: a folder of `root` with the classes in it; None if they lie there.

    Returns:
        A row a video, sorted by class and name.

    Raises:
        FileNotFoundError: if there is no such folder.
        VideoDataError: if it holds no video in a folder.

    Source: https://github.com/cvdfoundation/kinetics-dataset.

    Example:
        >>> import os
        >>> os.makedirs("k400/val/long_jump")
        >>> _ = open("k400/val/long_jump/abcdefghijk_000012_000022.mp4", "wb").close()
        >>> row = read_kinetics("k400", split="val")[0]
        >>> row.class_name, row.duration, row.metadata["start"]
        ('long jump', 10.0, 12.0)
    """
    folder = os.path.join(root, split) if split else os.fspath(root)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"No folder {folder}: expected folders of classes.")
    rows = []
    for name, files in list_classes(folder, VIDEO_SUFFIXES).items():
        for path in files:
            cut = _KINETICS.fullmatch(path.stem)
            times = {}
            if cut is not None:
                times = {"start": float(cut["start"]), "end": float(cut["end"])}
            length = times["end"] - times["start"] if times else 0.0
            rows.append(
                VideoRow(
                    f"{name}/{path.name}",
                    os.fspath(path),
                    (),
                    split,
                    name.replace("_", " "),
                    length if length > 0 else None,
                    {"youtube_id": cut["id"], **times} if cut is not None else {},
                    os.fspath(path),
                )
            )
    if not rows:
        raise VideoDataError(
            f"{folder} has no folders with videos ({', '.join(VIDEO_SUFFIXES[:4])}, "
            "...): expected <class>/<video>.mp4."
        )
    return VideoRows(rows)


# === Parts ===
def _rows(table: FilePath, columns: Iterable[str]) -> list[NumberedRow]:
    try:
        rows = read_rows(os.fspath(table))
    except PairTableError as error:
        raise VideoDataError(str(error)) from error
    there = {name for _, row in rows for name in row}
    missing = [name for name in columns if name not in there]
    if missing:
        raise VideoDataError(
            f"{os.fspath(table)} has no column {', '.join(missing)}: its columns are "
            f"{', '.join(sorted(there))}; expected {', '.join(columns)}."
        )
    return rows


def _place(table: FilePath, number: int) -> str:
    return f"line {number} of {os.path.basename(table)}"


def _name(row: Mapping[str, Any], column: str, place: str) -> str:
    name = word_of(row.get(column))
    if not name:
        raise VideoDataError(
            f"{place} has no {column}: expected a text or a number, got "
            f"{row.get(column)!r:.60}."
        )
    return _inside(name, column, place)


def _text(row: Mapping[str, Any], column: str, place: str) -> str | None:
    """Returns a caption, or None where there is none; refuses what is no text."""
    value = row.get(column)
    if value is not None and value == value and not isinstance(value, str):
        raise VideoDataError(
            f"{place}: {column} is {value!r:.60}; expected a text, or null."
        )
    return text_of(value)


def _inside(name: str, column: str, place: str) -> str:
    """Refuses a name that would lead out of the folder of the videos."""
    parts = re.split(r"[\\/]", name)
    if os.path.isabs(name) or ".." in parts or "\0" in name:
        raise VideoDataError(
            f"{place}: {column} {name!r} leads out of the folder of the videos."
        )
    return name


def _seconds(value: Any, place: str) -> float | None:
    """Reads a duration of ISO 8601, or a number of seconds."""
    text = str(value if value is not None else "").strip()
    if text.lower() in NO_TEXT:
        return None
    found = _DURATION.fullmatch(text)
    if found is not None and any(found.groups()):
        hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise VideoDataError(
            f"{place}: duration {text!r}; expected seconds, or such as PT00H00M16S."
        )
    return seconds
