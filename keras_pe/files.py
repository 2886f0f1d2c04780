"""The one way in which files and folders are written: whole, or not at all.

What a kill at any instant leaves behind is either the old content under its name or the
new one, and beside it names that begin with a dot, which the next writer removes:

    .NAME.lock       held by the process that writes NAME
    .NAME.new        a folder that is being written
    .NAME.old        the folder that was replaced, about to be deleted
    .NAME.parts      what a long run has done so far; see `parts_of`
    .STEM.HOST-PID.THREAD.part.SUFFIX   a file that is being written
"""

import contextlib
import ctypes
import errno
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_pe.full_disk import named_if_full

FilePath = str | os.PathLike[str]
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # Linux, fcntl.h and linux/fs.h
# What a file system answers that can't exchange two names.
NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
# What one answers that has no locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


class TargetBusyError(OSError):
    """Another process is writing the same file or folder."""


# === Files ===
def write_atomically(path: FilePath, content: str | bytes) -> None:
    """Writes a file aside and renames it: readers see the old one or the new one.

    Args:
        path: where; replaced if it is there. Its folder is made if it is missing.
        content: text, which becomes UTF-8 with its newlines as they are, or bytes.

    Raises:
        OSError: if it can't be written; what was there stays.

    Example:
        >>> write_atomically("runs/mine/config.json", "{}")         # doctest: +SKIP
    """
    with file_aside(path) as aside:
        aside.write_bytes(
            content.encode("utf-8") if isinstance(content, str) else content
        )


@contextlib.contextmanager
def file_aside(path: FilePath) -> Iterator[Path]:
    """Gives a path to write a file to; afterwards it takes the place of `path`.

    Args:
        path: where the file will be; its folder is made if it is missing.

    Yields:
        A path beside it, with the same suffix. Nothing happens to `path` if the block
        raises.

    Raises:
        OSError: if the file can't be put into place; what was there stays.

    Example:
        >>> with file_aside("figure.png") as aside:                 # doctest: +SKIP
        ...     figure.savefig(aside)
    """
    target = _file_target(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two threads may write one file: whoever is done last wins, with all that is his.
    writer = f"{os.getpid()}.{threading.get_native_id()}"
    begin, end = _around_writer(target)
    aside = target.with_name(f"{begin}{writer}{end}")
    for name in os.listdir(target.parent):
        if name.startswith(begin) and name.endswith(end):
            process = name[len(begin) : -len(end)].partition(".")[0]
            _remove_if_orphaned(target.with_name(name), process)
    try:
        with named_if_full(target):
            yield aside
            sync(aside)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def check_file_target(path: FilePath) -> None:
    """Raises unless a file can be written there: to be called before long work.

    Args:
        path: where the file is to be written later on.

    Raises:
        ValueError: if the path is empty or is a folder, or a name is too long.
        OSError: if its folder can't be made or written to.

    Example:
        >>> check_file_target("vectors.npz")
        >>> check_file_target("/proc/vectors.npz")
        Traceback (most recent call last):
        OSError: /proc/vectors.npz can't be written: No such file or directory. Give \
a path in a folder that you may write to.
    """
    _check_parent(_file_target(path))


def check_directory_target(path: FilePath) -> None:
    """Raises unless a folder can be written there: to be called before long work.

    Args:
        path: where the folder is to be written later on.

    Raises:
        ValueError: if the path is empty or is a file, or a name is too long.
        OSError: if the folder above can't be made or written to.
    """
    _check_parent(_directory_target(path))


def _file_target(path: FilePath) -> Path:
    target = _resolved(path)
    if target.name:
        _check_names(target, target.with_name(("9" * 16).join(_around_writer(target))))
    if target.exists() and not target.is_file():  # never replace /dev/null
        raise ValueError(
            f"{path} is {'a folder' if target.is_dir() else 'no ordinary file'}, and "
            f"a file is to be written. Give another path."
        )
    return target


def _directory_target(path: FilePath) -> Path:
    target = _resolved(path)
    if not target.name:
        raise ValueError(f"{path} has no folder above it. Give another path.")
    _check_names(target, _beside(target, "parts"))
    if target.exists() and not target.is_dir():
        raise ValueError(
            f"{path} is a file, and a folder is to be written. Give another path."
        )
    return target


def _resolved(path: FilePath) -> Path:
    """Follows links: what they lead to is replaced, not the link."""
    if not os.fspath(path):
        raise ValueError("The path to write to is empty.")
    target = Path(os.path.realpath(path))
    if os.path.islink(target):
        raise ValueError(f"{path} is a link that leads to itself. Give another path.")
    return target


def _check_names(target: Path, aside: Path) -> None:
    """Refuses names that the file system can't hold, as yet unwritten ones too."""
    for path in (aside, target, *target.parents):
        parent = path.parent
        while not os.path.exists(parent) and parent != parent.parent:
            parent = parent.parent  # else it is found missing before the name is read
        try:
            os.lstat(parent / path.name)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                continue
            name = target.name if path == aside else path.name
            more = len(os.fsencode(aside.name)) - len(os.fsencode(target.name))
            needed = f", and {more} more are needed while it is written"
            raise ValueError(
                f"{target}: {name} is too long a name for its file system: "
                f"{len(os.fsencode(name))} bytes{needed if name == target.name else ''}"
                f". Give a shorter one."
            ) from error


def _around_writer(target: Path) -> tuple[str, str]:
    """Returns what stands around the writer in the name of a file being written."""
    return f".{target.stem}.{platform.node()}-", f".part{target.suffix}"


def _remove_if_orphaned(path: Path, process: str) -> None:
    if sys.platform == "win32":  # where the same call would end the process
        return
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        path.unlink(missing_ok=True)
    except (ValueError, OSError):
        pass  # not one of ours, or alive


def _check_parent(path: Path) -> None:
    parent = path.absolute().parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent  # the missing ones are made when the file is written
    try:
        # Permission bits tell little: root passes them, read-only mounts ignore them.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise OSError(
            f"{path} can't be written: {error.strerror or error}. Give a path in a "
            f"folder that you may write to."
        ) from error


# === Folders ===
@contextlib.contextmanager
def write_directory(target: FilePath) -> Iterator[Path]:
    """Gives an empty folder to fill; afterwards it takes the place of `target`.

    Args:
        target: where the folder will be; one that is there is replaced as a whole.

    Yields:
        The folder to fill. Nothing happens to `target` if the block raises.

    Raises:
        TargetBusyError: if another process is writing it.
        OSError: if it can't be written; what was there stays.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp(), "preset")
        >>> with write_directory(target) as aside:
        ...     _ = (aside / "config.json").write_text("{}")
        >>> [path.name for path in target.parent.rglob("*")]
        ['preset', 'config.json']
    """
    with only_writer(target), new_directory(target) as aside:
        yield aside


@contextlib.contextmanager
def only_writer(target: FilePath) -> Iterator[None]:
    """Keeps other processes from writing a folder, and clears what a kill left.

    The system drops the lock of a process that dies. Where a file system has no locks,
    a process that writes is taken to be the only one. Folders around it that are
    missing are made, and removed again if nothing came to be in them.

    Args:
        target: the folder, which need not exist.

    Raises:
        TargetBusyError: if another process is writing it.
    """
    target = _directory_target(target)
    made = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    path = _beside(target, "lock")
    lock = _locked(path)
    if lock is None:
        raise TargetBusyError(
            f"{target} is being written by another process. Wait until that one is "
            f"done, or give another path."
        )
    try:
        _recover(target)
        yield
    finally:
        # While it is held: whoever opened it meanwhile sees that it has no name.
        with contextlib.suppress(OSError):  # Windows keeps what is open
            path.unlink(missing_ok=True)
        os.close(lock)
        with contextlib.suppress(OSError):  # at the first one that holds something
            for folder in made:  # from the inside out
                folder.rmdir()


@contextlib.contextmanager
def new_directory(target: FilePath) -> Iterator[Path]:
    """Does what `write_directory` does, inside a block of `only_writer`."""
    target = _directory_target(target)
    aside = _beside(target, "new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        with named_if_full(target):
            yield aside
            for path in [*aside.rglob("*"), aside]:
                sync(path)
        _move_into_place(aside, target)
        sync(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def parts_of(target: FilePath) -> Path:
    """Returns the folder for what a long run has done so far: `.NAME.parts`."""
    return _beside(_resolved(target), "parts")


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}")


def _recover(target: Path) -> None:
    """Gives a folder its name back, and removes what nobody needs."""
    old = _beside(target, "old")
    if old.is_dir() and not target.exists():
        old.rename(target)
    for path in (old, _beside(target, "new")):
        shutil.rmtree(path, ignore_errors=True)


def _move_into_place(aside: Path, target: Path) -> None:
    if not target.exists():
        aside.rename(target)
        return
    if _exchange(aside, target):  # at no instant is there no folder of this name
        shutil.rmtree(aside, ignore_errors=True)
        return
    old = _beside(target, "old")
    target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchanges two names in one step; False where the system can't."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # musl before 1.2.6 and old kernels
        return False
    names = os.fsencode(first), os.fsencode(second)
    if rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(second))


def _locked(path: Path) -> int | None:
    """Returns the descriptor of a lock that this process now holds, or None."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _lock(descriptor):
                os.close(descriptor)
                return None
            held, named = os.fstat(descriptor), os.stat(path)
            if os.path.samestat(held, named):
                return descriptor
        except FileNotFoundError:
            pass  # its last holder removed it after we had opened it
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        import msvcrt

        locking: Any = msvcrt
        try:
            locking.locking(descriptor, locking.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if sys.platform != "win32" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
