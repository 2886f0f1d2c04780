"""Videos and captions in a table: MSR-VTT, MSVD and others as upstream lists them."""

import csv
import os

from keras_pe.evaluation.datasets.dataset_files import check_there, folder
from keras_pe.evaluation.datasets.types import Captioned


def read_video_captions(
    table: str | os.PathLike[str],
    videos: str | os.PathLike[str],
    suffix: str = ".mp4",
    separator: str | None = None,
) -> Captioned:
    """Reads videos and captions from a CSV file.

    Args:
        table: a CSV file with the columns `video_id` and `sentence`. Lines of one
            video may follow each other or not; their captions are collected.
        videos: folder of the files `<video_id><suffix>`.
        suffix: of the files.
        separator: what stands between the captions in one `sentence`; upstream's lists
            for several captions use "@". None: each is one.

    Returns:
        `Captioned`, in the order of the table.

    Raises:
        FileNotFoundError: naming videos that are missing.
        ValueError: if it is no such table.

    Source: upstream `video_retrieval_dataset.py`.

    Example:
        >>> from pathlib import Path
        >>> Path("videos").mkdir()
        >>> _ = Path("videos/1.mp4").write_bytes(b"")    # is not opened
        >>> _ = Path("test.csv").write_text("video_id,sentence\\n1,a man runs\\n")
        >>> read_video_captions("test.csv", "videos").texts
        (('a man runs',),)
    """
    directory = folder(videos, "the videos")
    captions: dict[str, list[str]] = {}
    with open(table, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or ())
        if not {"video_id", "sentence"} <= columns:
            raise ValueError(
                f"{table} has columns {sorted(columns)}; expected video_id, sentence."
            )
        for row in reader:
            text = row["sentence"] or ""
            several = [text] if separator is None else text.split(separator)
            found = captions.setdefault(row["video_id"], [])
            found += [one.strip() for one in several if one.strip()]
    silent = [name for name, texts in captions.items() if not texts]
    if silent or not captions:
        raise ValueError(
            f"{table} has no sentence for {', '.join(silent[:3]) or 'any video'}."
        )
    paths = tuple(directory / f"{name}{suffix}" for name in captions)
    check_there(paths, "videos")
    return Captioned(paths, tuple(map(tuple, captions.values())))
