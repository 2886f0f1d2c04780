"""What FFmpeg says of a file while it decodes it.

Most decoders conceal damage: they log an error, make up the missing part from other
frames, and return success. Half of all changed frames are noticed by the log alone.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Collection, Iterator
from typing import Any

_lock = threading.Lock()
_listeners = 0
_before: tuple[Any, bool] = (None, True)  # the settings when the first one came


class DamageReported(Exception):
    """FFmpeg logged an error while it gave out frames as if nothing were wrong."""


class RaisesOnce:
    """A file for PyAV whose first error is raised, and no other.

    PyAV keeps the error of a read or a jump until FFmpeg comes back, and prints on the
    terminal what it kept when there is one more: each entry of a damaged index may lead
    to before the beginning.

    Args:
        file: open for reading bytes, with a name for messages if it has one.

    Example:
        >>> import io
        >>> file = RaisesOnce(io.BytesIO(b"abc"))
        >>> for _ in range(2):
        ...     try:
        ...         print(file.seek(-1))
        ...     except ValueError as error:
        ...         print(error)
        negative seek value -1
        -22
    """

    def __init__(self, file: Any) -> None:
        self._file, self._failed = file, False
        if isinstance(getattr(file, "name", None), str):
            self.name = file.name  # which PyAV puts into messages

    def read(self, size: int) -> bytes:
        """Reads; after an error there is nothing more."""
        try:
            content: bytes = self._file.read(size)
            return content
        except Exception:
            if self._failed:
                return b""
            self._failed = True
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Jumps; after an error what can't be reached is FFmpeg's own error."""
        try:
            place: int = self._file.seek(offset, whence)
            return place
        except Exception:
            if self._failed:
                return -errno.EINVAL
            self._failed = True
            raise

    def tell(self) -> int:
        """Returns where the file stands."""
        place: int = self._file.tell()
        return place


@contextlib.contextmanager
def errors_raised(av: Any, parts: Collection[str]) -> Iterator[None]:
    """Raises what this thread's decoders log as an error inside the block.

    Decoders must run in the thread that calls them (`thread_count = 1`): PyAV's log
    takes Python's lock, which whoever closes a decoder holds while it waits for the
    decoder's threads to end.

    Args:
        av: the module.
        parts: names of the decoders and demuxers that matter; what others say (of
            sound, for one) is passed over.

    Raises:
        DamageReported: with the first message.

    Example:
        >>> import av
        >>> try:
        ...     with errors_raised(av, ["h264"]):
        ...         av.logging.log(av.logging.ERROR, "h264", "no frame!")
        ... except DamageReported as error:
        ...     print(error)
        h264: no frame!
    """
    with _listening(av), av.logging.Capture() as lines:
        yield
    for level, part, text in lines:
        if level <= av.logging.ERROR and part in parts:
            raise DamageReported(f"{part}: {text.strip()}")


@contextlib.contextmanager
def _listening(av: Any) -> Iterator[None]:
    """Turns PyAV's log on; the last to leave sets it as the first one found it."""
    global _listeners, _before
    log = av.logging
    with _lock:
        if not _listeners:
            _before = log.get_level(), log.get_skip_repeated()
            level = _before[0]
            log.set_level(log.ERROR if level is None else max(level, log.ERROR))
            log.set_skip_repeated(False)  # two files may have the same fault
        _listeners += 1
    try:
        yield
    finally:
        with _lock:
            _listeners -= 1
            if not _listeners:
                log.set_level(_before[0])
                log.set_skip_repeated(_before[1])
