"""Videos and captions in a table: MSR-VTT, MSVD and others as upstream lists them."""

import os

from keras_pe.data.table_files import PairTableError, read_rows, word_of
from keras_pe.evaluation.datasets.dataset_files import check_there, folder
from keras_pe.evaluation.datasets.types import Captioned


def read_video_captions(
    table: str | os.PathLike[str],
    videos: str | os.PathLike[str],
    suffix: str = ".mp4",
    separator: str | None = None,
) -> Captioned:
    """Reads videos and captions from a table.

    Args:
        table: a `.csv`, `.tsv`, `.jsonl` or `.parquet` file with the columns `video_id`
            and `sentence`. Lines of one video may follow each other or not; their
            captions are collected.
        videos: folder of the files `<video_id><suffix>`.
        suffix: of the files.
        separator: what stands between the captions in one `sentence`; upstream's lists
            for several captions use "@". None: each is one.

    Returns:
        `Captioned`, in the order of the table.

    Raises:
        FileNotFoundError: naming videos that are missing.
        ValueError: if it is no such table, naming the line of what is wrong.

    Source: upstream `video_retrieval_dataset.py`.

    Example:
        >>> from pathlib import Path
        >>> Path("videos").mkdir()
        >>> _ = Path("videos/1.mp4").write_bytes(b"")    # is not opened
        >>> _ = Path("test.csv").write_text("video_id,sentence\\n1,a man runs\\n")
        >>> read_video_captions("test.csv", "videos").texts
        (('a man runs',),)
    """
    if separator == "":
        raise ValueError("separator='': expected what stands between, such as '@'.")
    directory = folder(videos, "the videos")
    captions: dict[str, list[str]] = {}
    path = os.fspath(table)
    rows = read_rows(path)
    columns = {name for _, row in rows for name in row}
    if not {"video_id", "sentence"} <= columns:
        raise PairTableError(
            f"{path} has columns {sorted(columns)}; expected video_id, sentence."
        )
    for number, row in rows:
        video, text = word_of(row.get("video_id")), row.get("sentence")
        if not video:
            raise PairTableError(f"{path}, line {number}: no video_id.")
        found = captions.setdefault(video, [])
        if not isinstance(text, str):  # of a line that ends early, or null
            continue
        several = [text] if separator is None else text.split(separator)
        found += [one.strip() for one in several if one.strip()]
    silent = [name for name, texts in captions.items() if not texts]
    if silent:
        raise PairTableError(f"{path} has no sentence for {', '.join(silent[:3])}.")
    paths = tuple(directory / f"{name}{suffix}" for name in captions)
    check_there(paths, "videos")
    return Captioned(paths, tuple(map(tuple, captions.values())))
