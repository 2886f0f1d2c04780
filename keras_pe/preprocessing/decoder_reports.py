"""What FFmpeg says of a file while it decodes it.

Most decoders conceal damage: they log an error, make up the missing part from other
frames, and return success. Half of all changed frames are noticed by the log alone.
"""

import contextlib
import threading
from collections.abc import Collection, Iterator
from typing import Any

_lock = threading.Lock()
_listeners = 0
_before: tuple[Any, bool] = (None, True)  # the settings when the first one came


class DamageReported(Exception):
    """FFmpeg logged an error while it gave out frames as if nothing were wrong."""


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
