"""Tables of images and captions as rows: CSV, TSV, JSON, COCO's captions, parquet."""

import csv
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

Row = dict[str, Any]
NumberedRow = tuple[int, Row]  # the line or the row of the table, from 1

# What a folder of images is looked through for, as Hugging Face's imagefolder does.
METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


class PairTableError(ValueError):
    """A table of pairs that can't be read; it says where and what to do."""


def read_rows(path: str) -> list[NumberedRow]:
    """Reads a table.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl`, `.json` or `.parquet` file. A JSON file holds
            a list of objects, or COCO's captions.

    Returns:
        For each row its number, as an editor counts lines, and its values by column.

    Raises:
        PairTableError: if it is no such table, or empty.
        FileNotFoundError: if there is no such file.

    Example:
        >>> with open("pairs.csv", "w") as stream:
        ...     _ = stream.write("image,caption\\nowl.png,an owl\\n")
        >>> read_rows("pairs.csv")
        [(2, {'image': 'owl.png', 'caption': 'an owl'})]
    """
    ending = table_ending(path)
    if ending is None:
        raise PairTableError(
            f"{path}: expected a table that ends in {', '.join(READERS)}, a folder "
            f"with {METADATA_NAMES[0]}, or tar shards."
        )
    try:
        rows = list(READERS[ending](path))
    except UnicodeDecodeError as error:
        raise PairTableError(
            f"{path} is no UTF-8 text (byte {error.start}). Save it as UTF-8."
        ) from error
    if not rows:
        raise PairTableError(f"{path} has no rows: expected one for each image.")
    return rows


def table_ending(path: str) -> str | None:
    """Returns by which ending a file is a table, or None.

    Example:
        >>> table_ending("data/Pairs.CSV"), table_ending("data/000.tar")
        ('.csv', None)
    """
    ending = os.path.splitext(path)[1].lower()
    return ending if ending in READERS else None


def word_of(value: Any) -> str:
    """Returns an id, a class or a path of a table as text.

    Returns:
        "" for null, NaN, blanks, and what is neither a text nor a number.

    Example:
        >>> word_of(" owl "), word_of(0), word_of(float("nan")), word_of(["owl"])
        ('owl', '0', '', '')
    """
    known = isinstance(value, str | int | float) and not isinstance(value, bool)
    return str(value).strip() if known and value == value else ""


# === Text with a column a field ===
def _delimited(path: str) -> Iterator[NumberedRow]:
    with open(path, encoding="utf-8-sig", newline="") as stream:
        header = stream.readline()
        # open_clip's tables end in .csv and are divided by tabs.
        signs = "\t" if path.lower().endswith(".tsv") else ",\t;"
        delimiter = max(signs, key=header.count)
        stream.seek(0)
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            columns = [name.strip() for name in next(reader, [])]
            _check_header(path, columns)
            for values in reader:
                if not values:  # a blank line
                    continue
                if len(values) > len(columns):
                    raise PairTableError(
                        f"{path}, line {reader.line_num}: {len(values)} fields under "
                        f"{len(columns)} columns ({', '.join(columns)}). Put captions "
                        f"that hold {delimiter!r} in double quotes."
                    )
                # A row that ends early has no caption, and counts as a bad sample.
                yield reader.line_num, dict(zip(columns, values, strict=False))
        except csv.Error as error:
            raise PairTableError(
                f"{path}, line {reader.line_num}: {error}. Double the quotes inside of "
                "quoted fields, and close each."
            ) from error


def _check_header(path: str, columns: list[str]) -> None:
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise PairTableError(f"{path} has two columns {twice[0]!r}. Rename one.")


# === JSON ===
def _json_lines(path: str) -> Iterator[NumberedRow]:
    with open(path, encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                row = _parsed(line, f"{path}, line {number}")
                yield number, _object(row, path, number)


def _json(path: str) -> Iterator[NumberedRow]:
    with open(path, encoding="utf-8-sig") as stream:
        content = _parsed(stream.read(), path)
    if isinstance(content, list):
        for number, row in enumerate(content, 1):
            yield number, _object(row, path, number)
    else:
        yield from _coco(content, path)


def _coco(content: Any, path: str) -> Iterator[NumberedRow]:
    """Yields an image and all of its captions.

    Source: https://cocodataset.org/#format-data, "Image Captioning".
    """
    try:
        captions: dict[Any, list[Any]] = {
            entry["id"]: [] for entry in content["images"]
        }
        for entry in content["annotations"]:
            captions[entry["image_id"]].append(entry["caption"])
        rows = [
            {"file_name": entry["file_name"], "caption": captions[entry["id"]]}
            for entry in content["images"]
        ]
    except (KeyError, TypeError) as error:
        raise PairTableError(
            f"{path} is neither a list of objects nor COCO's captions "
            f"({type(error).__name__}: {error}): expected images with id and file_name "
            "and annotations with image_id and caption."
        ) from error
    # COCO lists images without a caption too, in its unlabelled parts.
    yield from ((n, row) for n, row in enumerate(rows, 1) if row["caption"])


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PairTableError(f"{where}: no JSON ({error}).") from error


def _object(row: Any, path: str, number: int) -> Row:
    if not isinstance(row, dict):
        raise PairTableError(
            f"{path}, row {number} is {row!r:.60}: expected an object, such as "
            '{"file_name": "owl.png", "text": "an owl"}.'
        )
    return row


# === Parquet ===
def _parquet(path: str) -> Iterator[NumberedRow]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise PairTableError(
            f"{path}: parquet is read with pyarrow, which is not installed: pip "
            "install pyarrow. Or write the table as .jsonl."
        ) from error
    os.stat(path)  # says plainly that there is no such file
    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise PairTableError(f"{path} is no sound parquet file: {error}") from error
    yield from enumerate(rows, 1)


READERS: dict[str, Callable[[str], Iterator[NumberedRow]]] = {
    ".csv": _delimited,
    ".tsv": _delimited,
    ".jsonl": _json_lines,
    ".json": _json,
    ".parquet": _parquet,
}
