"""Videos of a data set as rows: one form for shards, tables and folders."""

import operator
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

from keras_pe.data.sample_errors import NO_CAPTION, SampleError

# What stands in tables and JSON files where there was no caption.
NO_TEXT = frozenset({"", "nan", "null", "none", "n/a"})
_NAMED = 5  # rows that a report names


class VideoDataError(ValueError):
    """A data set of videos that can't be read; it says file, row and what to do.

    Example:
        >>> error = VideoDataError("test.csv, line 3: no video_id.")
        >>> isinstance(error, ValueError)
        True
    """


@dataclass(frozen=True)
class VideoRow:
    """One video of a data set.

    Args:
        key: tells it from the others: an id, or the path below the folder.
        video: path of the file, or an object with `filename` and `read()`, as of one in
            a tar shard. `PEVideoConverter` takes either.
        captions: its texts, in the order of trust; none if there are none.
        split: "train", "test", ...; None if the data set has none.
        class_name: the class, as it goes into prompts; None without classes.
        duration: seconds; None if the data set does not say it.
        metadata: everything else, by the data set's own names.
        place: file and row where it is described, for messages.

    Example:
        >>> row = VideoRow("video7", "videos/video7.mp4", ("a man runs",), "test")
        >>> row.caption, row.duration
        ('a man runs', None)
    """

    key: str
    video: Any
    captions: tuple[str, ...] = ()
    split: str | None = None
    class_name: str | None = None
    duration: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""

    @property
    def caption(self) -> str:
        """The first caption.

        Raises:
            SampleError: if there is none, saying where.
        """
        if not self.captions:
            raise SampleError(
                NO_CAPTION, f"{self.key} ({self.place}) has none: leave it out."
            )
        return self.captions[0]


class VideoRows(Sequence[VideoRow]):
    """Rows by number. What readers return is one, or makes each row when it is asked.

    Can be pickled, so that processes of a loader may have it.

    Args:
        rows: all of them.
        missing: what was listed and left out because its file is not there.

    Example:
        >>> rows = VideoRows([VideoRow("a", "a.mp4"), VideoRow("b", "b.mp4", ("x",))])
        >>> len(rows), rows[1].key
        (2, 'b')
        >>> print(rows.report())
        2 videos; 1 without a caption (a)
    """

    def __init__(self, rows: Sequence[VideoRow], missing: Sequence[str] = ()) -> None:
        self._rows = tuple(rows)
        self.missing = tuple(missing)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: Any) -> Any:
        """Returns a row, or of a slice several."""
        if isinstance(number, slice):
            return VideoRows([self[i] for i in range(*number.indices(len(self)))])
        return self._row(self._position(number))

    def __iter__(self) -> Iterator[VideoRow]:
        return map(self._row, range(len(self)))

    def _row(self, position: int) -> VideoRow:
        return self._rows[position]

    def _position(self, number: SupportsIndex) -> int:
        position = operator.index(number)
        if not -len(self) <= position < len(self):
            raise IndexError(f"Row {position}: expected 0 to {len(self) - 1}.")
        return position % len(self)

    def describe(self, number: SupportsIndex) -> str:
        """Names a row for messages: key, file and line."""
        row = self[number]
        return f"{row.key} ({row.place})" if row.place else row.key

    def of_split(self, split: str) -> "VideoRows":
        """Returns the rows of a split.

        Raises:
            VideoDataError: if there are none, naming the splits that there are.
        """
        rows = [row for row in self if row.split == split]
        if not rows:
            there = sorted({str(row.split) for row in self})
            raise VideoDataError(f"No video of split {split!r}: there are {there}.")
        return VideoRows(rows)

    def with_captions(self) -> "VideoRows":
        """Returns the rows that have a caption."""
        return VideoRows([row for row in self if row.captions], self.missing)

    def report(self) -> "VideoReport":
        """Looks at all rows and counts. Of shards that reads all small files."""
        splits: Counter[str | None] = Counter()
        silent: list[str] = []
        captions = without = 0
        for row in self:
            splits[row.split] += 1
            captions += len(row.captions)
            if not row.captions:
                without += 1
                silent += [row.key] if len(silent) < _NAMED else []
        by_split = {str(name): count for name, count in splits.items() if name}
        return VideoReport(
            len(self), by_split, captions, without, tuple(silent), self.missing
        )


@dataclass(frozen=True)
class VideoReport:
    """What a data set of videos holds.

    Args:
        num_videos: rows.
        by_split: rows by the name of the split; empty without splits.
        num_captions: texts in all.
        without_caption: rows that have none.
        silent: keys of the first of those.
        missing: what was left out because its file is not there.

    Example:
        >>> print(VideoReport(3, {"train": 3}, 5, 0, (), ("x.mp4 (line 2 of a.csv)",)))
        3 videos (3 train); 1 listed without a file (x.mp4 (line 2 of a.csv))
    """

    num_videos: int
    by_split: Mapping[str, int]
    num_captions: int
    without_caption: int
    silent: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        splits = ", ".join(f"{count} {name}" for name, count in self.by_split.items())
        parts = [f"{self.num_videos} videos" + (f" ({splits})" if splits else "")]
        for count, what, names in (
            (self.without_caption, "without a caption", self.silent),
            (len(self.missing), "listed without a file", self.missing),
        ):
            if count:
                more = ", ..." if count > min(len(names), _NAMED) else ""
                parts.append(f"{count} {what} ({', '.join(names[:_NAMED])}{more})")
        return "; ".join(parts)


def text_of(value: Any) -> str | None:
    """Returns a caption, or None for what is none: null, NaN, "None", blanks.

    Example:
        >>> text_of(" an owl "), text_of(None), text_of("None"), text_of(float("nan"))
        ('an owl', None, None, None)
    """
    if not isinstance(value, str) or value.strip().lower() in NO_TEXT:
        return None
    return value.strip()


def check_files(
    rows: Sequence[VideoRow], on_missing: str, table: str | os.PathLike[str]
) -> VideoRows:
    """Returns the rows whose file is there.

    Raises:
        FileNotFoundError: naming the first files that are not, and their rows, if
            `on_missing` is "raise".
        ValueError: if it is neither "raise" nor "skip".
        VideoDataError: if no file is there.
    """
    if on_missing not in ("raise", "skip"):
        raise ValueError(f"on_missing={on_missing!r}: expected 'raise' or 'skip'.")
    there = [row for row in rows if os.path.isfile(row.video)]
    missing = [f"{r.video} ({r.place})" for r in rows if not os.path.isfile(r.video)]
    if missing and on_missing == "raise":
        more = f", and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FileNotFoundError(
            f"{len(missing)} of {len(rows)} videos of {os.fspath(table)} are missing: "
            f'{", ".join(missing[:3])}{more}. Download them, or pass on_missing="skip".'
        )
    if not there:
        raise VideoDataError(
            f"None of the {len(rows)} videos of {os.fspath(table)} is there: "
            f"{', '.join(missing[:3])}. Is that the folder?"
        )
    return VideoRows(there, missing)
