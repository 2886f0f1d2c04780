"""Read The Cauldron's format: parquet with columns `images` and `texts`.

A row holds images `[{"bytes": ..., "path": ...}]` and texts
`[{"user": ..., "assistant": ..., "source": ...}]`. Source: Laurençon et al. 2024, "What
matters when building vision-language models?".
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_pe.data import SampleError, SkippedSamples
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

COLUMNS = ("images", "texts")
ROWS = 64  # read at a time


def cauldron_samples(
    paths: Sequence[Path], skipped: SkippedSamples
) -> Iterator[Sample]:
    """Yields the rows of parquet files.

    Args:
        paths: the files, in their order.
        skipped: where every row is counted.

    Raises:
        ImportError: if pyarrow is not installed.
        ValueError: if a file is no parquet file of these columns.
    """
    name = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files"
    return samples_of_rows(parquet_rows(paths), cauldron_sample, name, skipped)


def parquet_rows(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yields rows, a few in memory at a time."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise ImportError(
            "Parquet is read with pyarrow, which is not installed: pip install "
            '"keras-pe[parquet]".'
        ) from error
    for path in paths:
        try:
            with ParquetFile(path) as file:
                names = file.schema_arrow.names
                if not set(COLUMNS) <= set(names):
                    raise ValueError(
                        f"{path} has columns {names}; expected {list(COLUMNS)}."
                    )
                for batch in file.iter_batches(ROWS, columns=list(COLUMNS)):
                    yield from batch.to_pylist()
        except ArrowException as error:
            raise ValueError(f"{path}: {error}") from error


def cauldron_sample(row: Row) -> Sample:
    """Returns a row as a sample; without images it is text alone.

    Raises:
        SampleError: if there are several images, or turns are no texts.
        ImageError: if the image is none.
    """
    images, texts = row.get("images") or [], row.get("texts")
    if not isinstance(texts, list) or not isinstance(images, list):
        raise SampleError(
            ODD_ROW, f"texts={str(texts)[:80]}: expected lists of images and texts."
        )
    if len(images) > 1:
        raise SampleError(SEVERAL_IMAGES, f"There are {len(images)}.")
    image = None
    if images:
        image = images[0].get("bytes") if isinstance(images[0], dict) else None
        if not isinstance(image, bytes):
            raise SampleError(NO_IMAGE, f"Its image is {str(images[0])[:80]}.")
    questions = []
    for turn in texts:
        if not isinstance(turn, dict):
            raise SampleError(ODD_ROW, f"A text is {str(turn)[:80]}.")
        kind = turn.get("source")
        questions.append(
            row_question(
                turn.get("user"),
                turn.get("assistant"),
                kind if isinstance(kind, str) else "",
            )
        )
    return row_sample(questions, image)
