"""Rows of other people's data sets as samples; odd ones are counted by name."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from keras_pe.data import SampleError, SkippedSample, SkippedSamples
from keras_pe.data.questions import NO_QUESTIONS, Question, question_member
from keras_pe.data.shard_files import Sample
from keras_pe.preprocessing.image_decoding import DEFAULT_FORMATS, read_header
from keras_pe.preprocessing.image_errors import ImageError

SEVERAL_IMAGES = "several images"
ODD_ROW = "odd row"
ENDINGS = {
    "JPEG": "jpg",
    "MPO": "jpg",  # a JPEG with more behind it, as cameras and phones write
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "PPM": "ppm",
}

Row = Mapping[str, Any]
LONGEST_NAME = 80  # letters of an id, where it is told


def samples_of_rows(
    rows: Iterable[Row | SampleError],
    convert: Callable[[Row], Sample],
    source: str,
    skipped: SkippedSamples,
) -> Iterator[Sample]:
    """Yields a sample for each row that can be used, and counts the others.

    Args:
        rows: the rows, or what is wrong with one.
        convert: makes a sample without a key of a row, or raises `SampleError`.
        source: what the rows are of, for messages; a path.
        skipped: where every row is counted.

    Yields:
        Samples; their keys are the numbers of the rows.
    """
    for number, row in enumerate(rows):
        key = f"{number:09d}"
        try:
            if isinstance(row, SampleError):
                raise row
            if not isinstance(row, Mapping):
                raise SampleError(ODD_ROW, f"It is {type(row).__name__}, no mapping.")
            sample = convert(row)
        except (SampleError, ImageError) as error:
            said = _printable(row.get("id", key)) if isinstance(row, Mapping) else key
            one = SkippedSample(number, said, source, error.reason, error.detail)
            skipped.add_batch(0, [one])
            continue
        skipped.add_batch(1, [])
        yield {"__key__": key, **sample}


def _printable(name: Any) -> str:
    # Half a surrogate pair can't be printed.
    return str(name)[:LONGEST_NAME].encode("utf-8", "backslashreplace").decode()


def row_sample(
    questions: list[Question], image: bytes | None, about: Row | None = None
) -> Sample:
    """Returns a sample without a key.

    Args:
        questions: what is asked.
        image: content of an image file, or None.
        about: what else is to be kept.

    Raises:
        SampleError: if nothing is asked, or what is to be kept is no JSON.
        ImageError: if the image is none, by its header.
    """
    if not questions:
        raise SampleError(NO_QUESTIONS, "Nothing is asked.")
    try:
        sample: Sample = {"json": question_member(questions, about)}
    except (TypeError, ValueError) as error:  # NaN, half a surrogate pair
        shown = ascii(about)[:LONGEST_NAME]
        raise SampleError(ODD_ROW, f"{shown} is no JSON in UTF-8: {error}.") from None
    if image is not None:
        opened = read_header(io.BytesIO(image), "image", DEFAULT_FORMATS)
        sample[ENDINGS[str(opened.format)]] = image
    return sample


def row_question(question: Any, answer: Any, kind: str = "") -> Question:
    """Returns a question of a row.

    Raises:
        SampleError: if one of them is blank or no text.
    """
    try:
        return Question(question, answer, kind)
    except (TypeError, ValueError) as error:
        raise SampleError(ODD_ROW, str(error)) from None
