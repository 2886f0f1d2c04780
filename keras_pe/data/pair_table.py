"""Images and captions that a table lists, as samples by number.

A table is the user's own: its paths may be absolute, climb out of its folder or be
links. What is wrong with the table as a whole is an error at once; what is wrong with
one row is a bad sample, which training skips and counts.
"""

import functools
import hashlib
import json
import operator
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, SupportsIndex

from keras_pe.data.array_record_shards import ArrayRecordShards
from keras_pe.data.sample_errors import NO_CAPTION, NO_IMAGE, SampleError
from keras_pe.data.shard_files import (
    IMAGE_EXTENSIONS,
    Paths,
    Sample,
    expand_paths,
    is_url,
    open_shard_file,
)
from keras_pe.data.table_files import (
    METADATA_NAMES,
    NumberedRow,
    PairTableError,
    read_rows,
    table_ending,
)
from keras_pe.data.tar_shards import TarShards, open_shards
from keras_pe.preprocessing.image_errors import MISSING

# In the order in which columns are looked for, whatever their capitals.
IMAGE_COLUMNS = (
    *("image", "file_name", "filename", "filepath", "file_path", "image_path"),
    *("path", "image_file", "file", "img"),
)
CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "title", "description")
# What tables made by pandas hold where there was no caption.
NO_TEXT = ("nan", "NaN", "null", "None")
_DIGEST_FILES, _DIGEST_BYTES = 16, 4096


class TableSample(NamedTuple):
    """An image of a table and its captions.

    Attributes:
        name: the image as the table calls it.
        image: its path, or its content.
        captions: its texts, stripped; none for a bad sample.
        place: where it stands first, for messages.
    """

    name: str
    image: str | bytes
    captions: tuple[str, ...]
    place: str


class PairTable:
    """The images of tables with their captions, by number, in the order of the tables.

    Rows of one image become one sample with several captions, of which one is drawn
    each time: else the captions of an image would count as wrong for each other. Images
    in a parquet file are held in memory, those in files are read when they are needed.

    Can be pickled, forked and used from several threads.

    Args:
        paths: paths or patterns of `.csv`, `.tsv`, `.jsonl`, `.json` (COCO's captions,
            or a list of objects) or `.parquet` files; or a folder with a
            `metadata.jsonl`, as Hugging Face's imagefolder has.
        images: folder that relative paths start from; None: that of their table.
        image_column: what the column of images is called; None looks for the usual
            names (`image`, `file_name`, `filepath`, `path`, ...).
        caption_column: that of captions; None likewise (`caption`, `text`, `title`).

    Attributes:
        paths: the tables.

    Raises:
        PairTableError: if a table can't be read, has no rows, or no such column.
        FileNotFoundError: if there is no such table.

    Source: https://huggingface.co/docs/datasets/image_dataset, "ImageFolder".

    Example:
        >>> with open("pairs.csv", "w") as stream:
        ...     _ = stream.write("path,caption\\nowl.png,an owl\\nowl.png,a bird\\n")
        >>> table = PairTable("pairs.csv")
        >>> len(table), table.captions(0), table.describe(0)
        (1, ('an owl', 'a bird'), 'owl.png (line 2 of pairs.csv)')
    """

    def __init__(
        self,
        paths: Paths,
        *,
        images: str | os.PathLike[str] | None = None,
        image_column: str | None = None,
        caption_column: str | None = None,
    ) -> None:
        if images is not None and not os.path.isdir(images):
            raise FileNotFoundError(f"images={os.fspath(images)!r}: no such folder.")
        self.paths = table_paths(paths)
        found: dict[str | bytes, TableSample] = {}
        for path in self.paths:
            folder = os.fspath(images) if images else os.path.dirname(path)
            rows = read_rows(path)
            columns = (
                _column(path, rows, IMAGE_COLUMNS, image_column, "image"),
                _column(path, rows, CAPTION_COLUMNS, caption_column, "caption"),
            )
            if columns[0] == columns[1]:
                raise PairTableError(
                    f"{path}: the column {columns[0]!r} can't be both image and "
                    "caption (--image-column, --caption-column)."
                )
            for number, row in rows:
                sample = _sample(path, folder, number, row, *columns)
                key = sample.image or f"{path}: {sample.place}"
                seen = found.setdefault(key, sample)
                if seen is not sample:
                    texts = dict.fromkeys((*seen.captions, *sample.captions))
                    found[key] = seen._replace(captions=tuple(texts))
        self._samples = list(found.values())

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: SupportsIndex) -> Sample:
        """Reads one sample.

        Args:
            number: its position, 0 to `len(self) - 1`.

        Returns:
            `__key__`, `__shard__` (the table), the bytes of the image by its ending,
            and its caption as `txt`, or several as a list in `json`.

        Raises:
            SampleError: if there is no such file, or no caption.
        """
        sample = self._sample(number)
        if not sample.captions:
            raise SampleError(
                NO_CAPTION,
                f"{sample.place} has none: expected a text that is not empty or NaN.",
            )
        ending = os.path.splitext(sample.name)[1][1:].lower()
        record: Sample = {
            "__key__": sample.name,
            "__shard__": sample.place.partition(" of ")[2],
            # The content decides what it is; without a known ending any name will do.
            ending if ending in IMAGE_EXTENSIONS else "jpg": _content(sample),
        }
        if len(sample.captions) == 1:
            return record | {"txt": sample.captions[0].encode()}
        return record | {"json": json.dumps(sample.captions).encode()}

    def captions(self, number: SupportsIndex) -> tuple[str, ...]:
        """Returns the captions of an image; none of a bad sample."""
        return self._sample(number).captions

    def describe(self, number: SupportsIndex) -> str:
        """Names a sample for messages, without reading it: image, line and table."""
        sample = self._sample(number)
        return f"{sample.name} ({sample.place})"

    @functools.cached_property
    def digest(self) -> str:
        """Tells these data from others of the same names and counts, wherever they lie.

        A SHA-256, as hexadecimal digits, of names, captions, sizes of all files, and
        the ends of sixteen of them: a change in place elsewhere, of the very same size,
        is not seen.
        """
        digest = hashlib.sha256()
        spots = {len(self) * i // _DIGEST_FILES for i in range(_DIGEST_FILES)}
        for number, (name, image, captions, _) in enumerate(self._samples):
            digest.update(repr((name, captions)).encode())
            if isinstance(image, bytes):
                digest.update(hashlib.sha256(image).digest())
                continue
            try:
                size = os.stat(image).st_size
                digest.update(str(size).encode())
                if number in spots:
                    file = open_shard_file(image)
                    digest.update(file.read(0, _DIGEST_BYTES))
                    digest.update(file.read(max(size - _DIGEST_BYTES, 0), size))
            except (OSError, ValueError):  # a bad sample, which is skipped by name
                digest.update(b"missing")
        return digest.hexdigest()

    def __repr__(self) -> str:
        # Short and the same in every run: grain writes it into its checkpoints.
        return f"PairTable({len(self.paths)} tables, {len(self)} images)"

    def _sample(self, number: SupportsIndex) -> TableSample:
        position = operator.index(number)
        if not 0 <= position < len(self):
            raise IndexError(f"Sample {position}: expected 0 to {len(self) - 1}.")
        return self._samples[position]


def open_pairs(
    data: str,
    images: str | os.PathLike[str] | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> PairTable | TarShards | ArrayRecordShards:
    """Opens a table of pairs, a folder with one, or shards.

    Args:
        data: what `PairTable` or `keras_pe.data.TarShards` takes.
        images: as of `PairTable`.
        image_column: as of `PairTable`.
        caption_column: as of `PairTable`.

    Returns:
        Samples by number.

    Raises:
        ValueError: if shards are given with what only tables have; else what
            `PairTable` and shards raise.

    Example:
        >>> with open("some.csv", "w") as stream:
        ...     _ = stream.write("path,caption\\nowl.png,an owl\\n")
        >>> pairs = open_pairs("some.csv")    # or "shards/{000..099}.tar"
        >>> type(pairs).__name__, len(pairs)
        ('PairTable', 1)
    """
    if is_table(data):
        return PairTable(
            data,
            images=images,
            image_column=image_column,
            caption_column=caption_column,
        )
    if images or image_column or caption_column:
        raise ValueError(
            f"{data!r} is no table, so there is nothing for --images, --image-column "
            f"or --caption-column. Tables end in .csv, .tsv, .jsonl, .json or "
            f".parquet; a folder of images has a {METADATA_NAMES[0]} beside them."
        )
    return open_shards(data)


def is_table(data: str) -> bool:
    """Returns whether data are a table or a folder with one, not shards.

    Example:
        >>> is_table("pairs.tsv"), is_table("shards/{000..099}.tar")
        (True, False)
    """
    return table_ending(data) is not None or bool(_metadata_of(data))


def table_paths(paths: Paths) -> list[str]:
    """Lists the tables that paths, patterns and folders stand for.

    Raises:
        FileNotFoundError: if a pattern matches nothing.
        TypeError: if they are no paths, or none.
    """
    given: list[Any] = [paths]
    if isinstance(paths, Iterable) and not isinstance(paths, str | os.PathLike | bytes):
        given = [] if hasattr(paths, "read") else list(paths)
    if not given or not all(isinstance(each, str | os.PathLike) for each in given):
        raise TypeError(
            f"Tables are given as a path or a list of paths, got {paths!r:.80}."
        )
    found: list[str] = []
    for each in given:
        path = os.fspath(each)
        metadata = _metadata_of(path)
        found += [metadata] if metadata else expand_paths(path)
    return found


def _metadata_of(folder: str) -> str | None:
    paths = (os.path.join(folder, name) for name in METADATA_NAMES)
    return next((path for path in paths if os.path.isfile(path)), None)


# === Rows ===
def _column(
    path: str,
    rows: Sequence[NumberedRow],
    usual: Iterable[str],
    asked: str | None,
    what: str,
) -> str:
    """Returns which column holds images or captions."""
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    if asked in columns:
        return asked
    lower = {str(name).lower(): name for name in reversed(columns)}
    wanted = usual if asked is None else [asked.lower()]
    found = next((lower[name] for name in wanted if name in lower), None)
    if found is None:
        said = f"no column {asked!r}" if asked else f"no column of {what}s"
        raise PairTableError(
            f"{path} has {said}: its columns are {', '.join(map(repr, columns[:20]))}. "
            f"Name the right one (--{what}-column); usual names are "
            f"{', '.join(list(usual)[:6])}. A .csv begins with a line of names."
        )
    return found


def _sample(
    path: str, folder: str, number: int, row: dict[str, Any], image: str, caption: str
) -> TableSample:
    counted = "row" if path.lower().endswith((".json", ".parquet")) else "line"
    place = f"{counted} {number} of {os.path.basename(path)}"
    given: Any = row.get(image)
    name = ""
    if isinstance(given, dict):  # an image of Hugging Face's data sets
        name, given = given.get("path") or "", given.get("bytes") or given.get("path")
    if isinstance(given, str):
        name = given = given.strip()
        if is_url(given):
            raise PairTableError(
                f"{place}: {given} is a URL. Download the images first, "
                "with img2dataset for example, and list their files."
            )
        given = os.path.join(folder, given) if given else b""
    content = given if isinstance(given, str | bytes) else b""
    return TableSample(
        name or f"row {number}", content, _texts(row.get(caption)), place
    )


def _texts(value: Any) -> tuple[str, ...]:
    """Returns the captions of a cell; numbers, NaN among them, are none."""
    values = value if isinstance(value, list) else [value]
    texts = (text.strip() for text in values if isinstance(text, str))
    return tuple(dict.fromkeys(t for t in texts if t and t not in NO_TEXT))


def _content(sample: TableSample) -> bytes:
    """Reads the image of a sample."""
    if isinstance(sample.image, bytes):
        if not sample.image:
            raise SampleError(NO_IMAGE, f"{sample.place} names none.")
        return sample.image
    try:
        file = open_shard_file(sample.image)
        return file.read(0, file.size)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no regular file"
        raise SampleError(
            MISSING,
            f"{sample.image} ({sample.place}) can't be read: {why}. Relative paths "
            "start from the table's folder, or from --images.",
        ) from error
