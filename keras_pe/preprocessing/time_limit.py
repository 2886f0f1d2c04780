"""How long a video may take: a limit on the clock, and a way to be told to stop."""

import os
import time
from collections.abc import Callable
from typing import BinaryIO

from keras_pe.arrays import is_number
from keras_pe.preprocessing.image_errors import TOO_SLOW, VideoError

# Set in processes that decode for another one, which may no longer want the result.
_told_to_stop: Callable[[], bool] | None = None


class TimeLimit:
    """The seconds that one video may take, counted from when this is made.

    The clock is that of the wall, so that a disk that does not answer and a file that
    takes for ever are alike. It is looked at between packets, between frames and at
    each read of the file (`TimedFile`): what neither ends nor reads is not interrupted.

    Args:
        name: of the video, for the error.
        max_seconds: how many; None for no limit.

    Example:
        >>> TimeLimit("clip.mp4", max_seconds=60.0).check()    # in time
    """

    def __init__(self, name: str, max_seconds: float | None = None) -> None:
        self.name, self.max_seconds = name, max_seconds
        self._began = time.monotonic() if max_seconds is not None else 0.0

    def check(self) -> None:
        """Raises if the time is over.

        Raises:
            VideoError: with the reason `TOO_SLOW`.
            KeyboardInterrupt: if the program that wants the video was interrupted.
        """
        if _told_to_stop is not None and _told_to_stop():
            raise KeyboardInterrupt
        self.check_time()

    def check_time(self) -> None:
        """Raises if the time is over, whoever may have been interrupted.

        Raises:
            VideoError: with the reason `TOO_SLOW`.
        """
        if self.max_seconds is None:
            return
        taken = time.monotonic() - self._began
        if taken > self.max_seconds:
            raise VideoError(
                self.name,
                TOO_SLOW,
                f"It was not done after {taken:.1f} s; max_seconds="
                f"{self.max_seconds:g}. Raise it, or re-encode the video with a key "
                "frame every second or two.",
            )


class TimedFile:
    """A file that is not read any more when the time is over.

    Parsers may go through millions of empty parts before they come back.

    Args:
        file: open for reading bytes.
        limit: that is looked at before each read and each jump.

    Example:
        >>> import io
        >>> TimedFile(io.BytesIO(b"abc"), TimeLimit("clip.mp4", 60.0)).read(2)
        b'ab'
    """

    def __init__(self, file: BinaryIO, limit: TimeLimit) -> None:
        self._file, self._limit = file, limit

    @property
    def name(self) -> str:
        """What the file is called in FFmpeg's messages."""
        return self._limit.name

    def read(self, size: int = -1) -> bytes:
        """Reads, if there is time."""
        self._limit.check_time()
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Jumps, if there is time."""
        self._limit.check_time()
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Returns where the file stands."""
        return self._file.tell()


def check_max_seconds(max_seconds: float | None) -> None:
    """Raises ValueError if this is no limit in seconds."""
    if max_seconds is None:
        return
    if not is_number(max_seconds) or max_seconds <= 0:
        raise ValueError(
            f"max_seconds={max_seconds!r}: expected seconds above 0, or None for no "
            "limit."
        )


def stop_when(told: Callable[[], bool]) -> None:
    """Makes every `TimeLimit` of this process ask whether it is still wanted."""
    global _told_to_stop
    _told_to_stop = told
