"""What must hold of any file that is given to a `PEVideoConverter`, tried in a child.

The child is forked from a process that has imported everything, so that a crash, a hang
or a limit of memory ends it alone.
"""

import contextlib
import ctypes
import faulthandler
import hashlib
import os
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.odd_video_parts.whole import READ, REFUSED, Made
from keras_pe.preprocessing import PEImageConverter, PEVideoConverter, image_errors
from keras_pe.preprocessing.frame_choice import frame_indices
from keras_pe.preprocessing.image_errors import ImageError
from keras_pe.preprocessing.video_source import open_frames

RULES = ("benchmark", "time")  # evenly by number, and by the time of showing
SIDE, TAKEN = 32, 8
MARGIN = 1.0  # seconds beyond the limit: a packet, a frame
ROOM_MB = 600  # by which a process may grow
SLOW_KIND = "over the time limit"
LEAST_TEXT = 25  # characters that say what, why and what to do
REASONS = frozenset(
    value
    for name, value in vars(image_errors).items()
    if name.isupper() and isinstance(value, str)
)


@dataclass
class Verdict:
    """What came of a file.

    Attributes:
        outcomes: by rule: "read", or the reason for which it was refused.
        hashes: by rule, of the frames, where it was read.
        problems: what must not be, in words; none if all holds.
        seconds: of the slowest call.
        peak_mb: by which the process grew at most.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_mb: float = 0.0


def converters(on_error: str, seconds: float) -> dict[str, PEVideoConverter]:
    """Returns a converter for each rule."""
    return {
        rule: PEVideoConverter(
            SIDE, TAKEN, rule, on_error=on_error, max_seconds=seconds
        )
        for rule in RULES
    }


def hashed(array: np.ndarray) -> str:
    """Returns a hash of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


# === In the child ===
def judge(made: Made, path: Path, good: Path, right: dict[str, str]) -> Verdict:
    """Reads a file in every way.

    Args:
        made: what is known of it.
        path: where it is.
        good: a sound video.
        right: by rule, the hash of what is read of that one alone.

    Returns:
        What came of it.
    """
    verdict = Verdict()
    raising = converters("raise", made.max_seconds)
    skipping = converters("skip", made.max_seconds)
    for rule in RULES:
        _alone(verdict, made, path, rule, raising[rule])
        _beside(verdict, made, (good, path, good), rule, skipping[rule], right[rule])
    if made.frames is not None and verdict.outcomes["benchmark"] == "read":
        count = open_frames(str(path), str(path), 10**9, 10**6).count
        if count != len(made.frames):
            verdict.problems.append(f"{count} frames instead of {len(made.frames)}")
    for rule, outcome in verdict.outcomes.items():
        if made.expected == READ and outcome != "read":
            # Transport of MPEG-1 gives few frames a time of their own.
            if (rule, outcome) != ("time", image_errors.NO_TIMES):
                verdict.problems.append(f"{rule}: sound, and refused: {outcome}")
        elif made.expected == REFUSED and outcome == "read":
            verdict.problems.append(f"{rule}: not to be read, and read")
        if made.kind == SLOW_KIND and outcome != image_errors.TOO_SLOW:
            verdict.problems.append(f"{rule}: over the time limit, and {outcome}")
    return verdict


def _alone(
    verdict: Verdict, made: Made, path: Path, rule: str, converter: PEVideoConverter
) -> None:
    began = time.monotonic()
    try:
        found = converter(str(path))
    except ImageError as error:
        verdict.outcomes[rule] = error.reason
        text = str(error)
        if not text.startswith(str(path)):
            verdict.problems.append(f"{rule}: does not name the file: {text[:200]}")
        if error.reason not in REASONS or len(error.detail) < LEAST_TEXT:
            verdict.problems.append(f"{rule}: says too little: {text[:300]}")
        if "MemoryError" in text and _said_with_memory(converter, path) != text:
            verdict.problems.append(f"{rule}: refused for want of memory: {text[:300]}")
    except BaseException as error:
        verdict.outcomes[rule] = "raw"
        where = "".join(traceback.format_exception(error)[-3:])[-800:]
        verdict.problems.append(f"{rule}: raw {type(error).__name__}: {where}")
    else:
        verdict.outcomes[rule] = "read"
        verdict.hashes[rule] = hashed(found[0])
        wrong = _wrong(found, made, rule)
        if wrong:
            verdict.problems.append(f"{rule}: {wrong}")
    _timed(verdict, made, rule, time.monotonic() - began)


def _said_with_memory(converter: PEVideoConverter, path: Path) -> str | None:
    """Returns what is said against a file with all the memory that there is.

    FFmpeg calls a table that is too large for it a want of memory as well.
    """
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limits[1], limits[1]))
    try:
        converter(str(path))
    except ImageError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    return None


def _beside(
    verdict: Verdict,
    made: Made,
    batch: Sequence[Path],
    rule: str,
    converter: PEVideoConverter,
    right: str,
) -> None:
    """Reads the file between two sound ones, which must stay as they are."""
    path = str(batch[1])
    began = time.monotonic()
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            rows = converter([str(one) for one in batch])
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"[:300]
        verdict.problems.append(f"{rule}: in a batch raw {text}")
        return
    _timed(verdict, made, f"{rule}, in a batch", time.monotonic() - began)
    is_read, report = verdict.outcomes[rule] == "read", converter.last_report
    expected = [right, *([verdict.hashes[rule]] if is_read else []), right]
    if [hashed(row) for row in rows] != expected:
        verdict.problems.append(f"{rule}: a batch gives other frames than each alone")
    named = all(name.startswith(path) for name in report.names)
    counts = report.num_images, report.num_skipped
    if counts != (len(batch), 0 if is_read else 1) or not named:
        verdict.problems.append(f"{rule}: the report is wrong: {report}")
    if len(said) != (not is_read):
        texts = [str(one.message)[:200] for one in said]
        verdict.problems.append(f"{rule}: warnings: {texts}")


def _timed(verdict: Verdict, made: Made, what: str, seconds: float) -> None:
    verdict.seconds = max(verdict.seconds, seconds)
    if seconds > made.max_seconds + MARGIN:
        verdict.problems.append(
            f"{what}: {seconds:.1f} s, with a limit of {made.max_seconds:g} s"
        )


def _wrong(found: np.ndarray, made: Made, rule: str) -> str | None:
    """Returns what is wrong with frames; None if nothing is."""
    if found.shape != (1, TAKEN, SIDE, SIDE, 3) or found.dtype != np.float32:
        return f"{found.dtype} of shape {found.shape}"
    if not np.isfinite(found).all() or np.abs(found).max() > 1.0001:
        return f"values up to {np.abs(found).max()}"
    if made.frames is None or not made.looks:
        return None
    seen = PEImageConverter(SIDE)([Image.fromarray(frame) for frame in made.frames])
    far = np.abs(found[0][:, None] - seen[None]).mean(axis=(2, 3, 4))  # (taken, all)
    nearest = far.argmin(1).tolist()
    if nearest not in (allowed := numbers(made, rule)):
        return f"frames {nearest} instead of {allowed[0]}"
    if far.min(1).max() > 0.2:  # of 2: a codec with eight levels of red does that
        return f"frames are {far.min(1).max():.2f} off"
    return None


def numbers(made: Made, rule: str) -> list[list[int]]:
    """Returns which frames may be taken of a video.

    There may be several answers: few containers say how long the last frame is shown.
    """
    count = len(made.frames)
    if rule == "benchmark" or made.times is None:
        return [frame_indices(count, TAKEN, rule)]
    found = []
    for last in (1, 2, 3, 4):
        ends = [*made.times[1:], made.times[-1] + last]
        instants = [(2 * i + 1) * ends[-1] / (2 * TAKEN) for i in range(TAKEN)]
        found.append([sum(end <= instant for end in ends) for instant in instants])
    return found


# === In the parent ===
def in_child(
    work: Callable[[], Any], seconds: float, room_mb: int = ROOM_MB
) -> tuple[Any, float, list[str]]:
    """Runs something in a forked process that is ended when it takes too long.

    Args:
        work: what to run; its result is pickled.
        seconds: after which the process is killed.
        room_mb: by which its memory may grow.

    Returns:
        The result (None if there is none), by how many MB the process grew at most, and
        what must not be: that it was killed, crashed, or wrote on its terminal.
    """
    ours, theirs = Pipe(duplex=False)
    with tempfile.TemporaryFile() as log:
        child = os.fork()
        if not child:
            _serve(work, theirs, log, room_mb)
        theirs.close()
        found, problems = (None, 0.0), []
        try:
            if ours.poll(seconds):
                found = ours.recv()
            else:
                problems.append(f"hangs: not done after {seconds:.0f} s")
        except EOFError:
            problems.append("crashes")
        if problems:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        ours.close()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        log.seek(0)
        said = log.read().decode(errors="replace").strip()
    if problems:
        problems[0] += f" (status {code})"
    if said:
        problems.append(f"writes on the terminal: {said[-500:]}")
    return found[0], found[1], problems


def _serve(work: Callable[[], Any], connection: Any, log: Any, room_mb: int) -> None:
    """Works, sends what came of it and ends; never returns."""
    for number in (1, 2):
        os.dup2(log.fileno(), number)
    faulthandler.enable(log)
    # What the parent freed but kept would be used again without being counted.
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    limit = (memory_kb("VmSize") << 10) + (room_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status, before = 1, memory_kb("VmRSS")
    try:
        found = work()
        connection.send((found, (memory_kb("VmHWM") - before) / 1024))
        status = 0
    except BaseException:
        log.write(traceback.format_exc().encode())
        log.flush()
    os._exit(status)


def memory_kb(name: str) -> int:
    """Returns a size of this process in /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise KeyError(name)
