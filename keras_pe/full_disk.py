"""What is said when a disk is full: the system names neither the file nor a way out."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


class NoRoomError(OSError):
    """A disk is full; the message says what could not be written, and what to do."""


@contextlib.contextmanager
def named_if_full(target: Path) -> Iterator[None]:
    """Names what was being written aside when there was no room for it.

    Args:
        target: whose place it would have taken, and which stays as it was.

    Raises:
        NoRoomError: with the number that the system gave.

    Example:
        >>> with named_if_full(Path("preset")):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        keras_pe.full_disk.NoRoomError: [Errno 28] preset can't be written: No space \
left on device. What was there is as it was. Make room, or give a path on another disk.
    """
    try:
        yield
    except NoRoomError:
        raise
    except OSError as error:
        if error.errno is None or error.errno not in NO_ROOM:
            raise
        raise NoRoomError(
            error.errno,
            f"{target} can't be written: {os.strerror(error.errno)}. What was there is "
            f"as it was. Make room, or give a path on another disk.",
        ) from error
