"""Which videos, in which order and with which content, a number was measured on."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from keras_pe.data.video_rows import VideoRow, VideoRows
from keras_pe.files import write_atomically

FORMAT = 1


class SplitListError(ValueError):
    """Videos that are not those of a list, or a file that is no list.

    Example:
        >>> isinstance(SplitListError("Video 3 is another one."), ValueError)
        True
    """


class ListedVideo(NamedTuple):
    """One video of a list.

    Args:
        key: the row's.
        sha256: of the file, hexadecimal.
        captions_sha256: of its captions and class, hexadecimal.

    Example:
        >>> ListedVideo("video7", "ab" * 32, "cd" * 32).key
        'video7'
    """

    key: str
    sha256: str
    captions_sha256: str


@dataclass(frozen=True)
class SplitList:
    """The videos of a split, so that others can have the same ones, or be told not.

    Args:
        name: of the data set and split, such as "MSR-VTT test 1k".
        videos: in order.

    Example:
        >>> for name in ("a", "b"):
        ...     with open(f"{name}.mp4", "wb") as file:
        ...         _ = file.write(name.encode())
        >>> rows = VideoRows([VideoRow("a", "a.mp4"), VideoRow("b", "b.mp4")])
        >>> SplitList.of(rows, "mine").save("mine.json")
        >>> SplitList.load("mine.json").check(rows)    # they are: nothing happens
        >>> SplitList.load("mine.json").check(rows[::-1])
        Traceback (most recent call last):
        keras_pe.data.split_list.SplitListError: Not the videos of 'mine': number 0 is \
b, expected a. All 2 are there, in another order: select(rows) gives theirs.
    """

    name: str
    videos: tuple[ListedVideo, ...]

    @classmethod
    def of(cls, rows: Sequence[VideoRow], name: str) -> Self:
        """Makes the list of rows; that reads every file.

        Args:
            rows: from a reader.
            name: what to call it.

        Raises:
            SplitListError: if two rows have one key.
            OSError: if a file can't be read.
        """
        videos = tuple(_listed(row) for row in rows)
        seen: set[str] = set()
        for video in videos:
            if video.key in seen:
                raise SplitListError(f"Two rows have the key {video.key!r}.")
            seen.add(video.key)
        return cls(name, videos)

    @property
    def digest(self) -> str:
        """SHA-256 of all keys and contents in order, hexadecimal."""
        content = json.dumps([list(video) for video in self.videos])
        return hashlib.sha256(content.encode()).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the list as JSON, whole or not at all."""
        content = {
            "format": FORMAT,
            "name": self.name,
            "digest": self.digest,
            "videos": [video._asdict() for video in self.videos],
        }
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_atomically(path, text + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a list.

        Raises:
            SplitListError: if the file is no list, or was changed after it was written.
            FileNotFoundError: if there is none.
        """
        with open(path, encoding="utf-8") as file:
            text = file.read()
        try:
            content: Any = json.loads(text)
            number = content["format"]
            videos = tuple(ListedVideo(**video) for video in content["videos"])
            name, digest = str(content["name"]), content["digest"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SplitListError(
                f"{os.fspath(path)} is no list of videos ({type(error).__name__}: "
                f"{error}): expected what SplitList.save writes."
            ) from error
        if number != FORMAT:
            raise SplitListError(
                f"{os.fspath(path)} has format {number!r}; this version reads {FORMAT}."
            )
        found = cls(name, videos)
        if found.digest != digest:
            raise SplitListError(
                f"{os.fspath(path)} was changed after it was written: its videos have "
                f"the digest {found.digest[:16]}, and it says {str(digest)[:16]}."
            )
        return found

    def check(self, rows: Sequence[VideoRow]) -> None:
        """Refuses rows that are not these videos, in this order, with this content.

        Args:
            rows: from a reader. Keys are compared first, then every file is read.

        Raises:
            SplitListError: naming the first difference.
        """
        keys = [row.key for row in rows]
        for number, video in enumerate(self.videos):
            if number >= len(keys) or keys[number] != video.key:
                is_ = keys[number] if number < len(keys) else "missing"
                self._refuse(f"number {number} is {is_}, expected {video.key}", keys)
        if len(keys) > len(self.videos):
            more = len(keys) - len(self.videos)
            self._refuse(f"{more} more follow, the first {keys[-more]}", keys)
        for number, (row, video) in enumerate(zip(rows, self.videos, strict=True)):
            found = _listed(row)
            if found.sha256 != video.sha256:
                self._refuse(
                    f"the file of {row.key} (number {number}) has the SHA-256 "
                    f"{found.sha256[:16]}, expected {video.sha256[:16]}"
                )
            if found.captions_sha256 != video.captions_sha256:
                self._refuse(
                    f"captions or class of {row.key} (number {number}, {row.place}) "
                    "differ"
                )

    def select(self, rows: Sequence[VideoRow]) -> VideoRows:
        """Returns these videos, in this order, out of a larger data set, checked.

        Raises:
            SplitListError: if one is missing or has another content.
        """
        places = {row.key: number for number, row in enumerate(rows)}
        missing = [video.key for video in self.videos if video.key not in places]
        if missing:
            self._refuse(
                f"{len(missing)} of {len(self.videos)} are missing, the first "
                f"{missing[0]}"
            )
        chosen = VideoRows([rows[places[video.key]] for video in self.videos])
        self.check(chosen)
        return chosen

    def _refuse(self, why: str, keys: Sequence[str] = ()) -> None:
        wanted = {video.key for video in self.videos}
        hint = ""
        if keys and wanted <= set(keys):
            there = "in another order" if len(keys) == len(wanted) else "among others"
            hint = f" All {len(wanted)} are there, {there}: select(rows) gives theirs."
        raise SplitListError(f"Not the videos of {self.name!r}: {why}.{hint}")


def _listed(row: VideoRow) -> ListedVideo:
    said = json.dumps([list(row.captions), row.class_name], ensure_ascii=False)
    captions = hashlib.sha256(said.encode()).hexdigest()
    if isinstance(row.video, str | os.PathLike):
        with open(row.video, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    else:
        digest = hashlib.sha256(row.video.read()).hexdigest()
    return ListedVideo(row.key, digest, captions)
