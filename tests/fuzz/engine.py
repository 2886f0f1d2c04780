"""Runs cases in a forked process that may die, hang or swell, and judges them.

This process imports and prepares; a child forked from it runs the cases, so that
neither a crash nor a limit ends the campaign, and a new child costs milliseconds.
"""

import contextlib
import faulthandler
import os
import re
import resource
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, settings

from tests.fuzz.campaign import Campaign

WALL_SECONDS = 90.0  # a child that is silent for so long is hung, not slow
ROOM = 3 << 30  # bytes of address space beyond what the campaign allows
BATCH = 200  # cases of one Hypothesis run: one seed each
KEPT_TEXT = 1500


@dataclass
class Failure:
    """A broken contract.

    Attributes:
        what: how it was broken, on the first line; then where.
        case: what broke it.
        seed: of the Hypothesis run that made it.
    """

    what: str
    case: Any
    seed: int

    @property
    def kind(self) -> str:
        """First line without its numbers and names: failures alike have one kind."""
        first = self.what.splitlines()[0]
        return re.sub(r"'[^']*'|\"[^\"]*\"|/\S+|\d[\d.,e+-]*", "#", first)[:70]


@dataclass
class Tally:
    """What came of a campaign."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        return sum(self.outcomes.values())


# === In the child ===
def memory_kb(name: str) -> int:
    """Returns a size of this process in /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise KeyError(name)


def judge(campaign: Campaign, case: Any) -> tuple[str, str | None]:
    """Runs a case; returns its outcome and, if the contract is broken, how."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, start = memory_kb("VmRSS"), time.process_time()
    broken = None
    # Ends a process that computes for ever, by processor time: others may be at work.
    signal.setitimer(signal.ITIMER_PROF, 2 * campaign.cpu_seconds)
    try:
        outcome = campaign.run(case)
    except AssertionError as error:
        outcome, broken = "broken", f"{error}\n{where()}"
    except BaseException as error:  # whatever a user would have seen
        outcome = "broken"
        broken = f"raw {type(error).__name__}: {str(error)[:300]}\n{where()}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    used = time.process_time() - start
    grown = (memory_kb("VmHWM") - before) / 1024
    if broken is None and used > campaign.cpu_seconds:
        broken = f"takes {used:.1f} s of processor time, {outcome}"
    if broken is None and grown > campaign.memory_mb:
        broken = f"takes {grown:.0f} MB of memory, {outcome}"
    return ("broken" if broken else outcome), broken


def where() -> str:
    """Returns the end of the traceback of the error at hand."""
    return "\n".join(traceback.format_exc().splitlines()[-8:])[-KEPT_TEXT:]


def serve(campaign: Campaign, connection: Any, log: str) -> None:
    """Answers cases until the other side is gone; never returns."""
    file = Path(log).open("wb")  # noqa: SIM115  # until the process ends
    for number in (1, 2):  # decoders write what they like
        os.dup2(file.fileno(), number)
    faulthandler.enable(file)
    limit = memory_kb("VmSize") * 1024 + (campaign.memory_mb << 20) + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            case = connection.recv()
            file.truncate(0)
            connection.send(judge(campaign, case))
    os._exit(0)


# === In the parent ===
class Child:
    """A forked process that runs cases; forked anew when it ends."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        handle, name = tempfile.mkstemp(suffix=".log")
        os.close(handle)
        self.log = Path(name)
        self.process = 0

    def judge(self, case: Any) -> tuple[str, str | None]:
        """Returns what became of a case, whatever it does to the process."""
        if not self.process:
            self._fork()
        self.connection.send(case)
        if not self.connection.poll(WALL_SECONDS):
            self._kill()
            return "broken", f"does not end in {WALL_SECONDS:.0f} s"
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            _, status = os.waitpid(self.process, 0)
            self.process = 0
            self.connection.close()
            code = os.waitstatus_to_exitcode(status)
            if -code == signal.SIGPROF:
                limit = 2 * self.campaign.cpu_seconds
                return "broken", f"takes more than {limit:.0f} s of processor time"
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
            tail = self.log.read_text(errors="replace")[-KEPT_TEXT:]
            return "broken", f"the process ended by {how}\n{tail}"

    def _fork(self) -> None:
        self.connection, theirs = Pipe()
        self.process = os.fork()
        if not self.process:
            self.connection.close()
            serve(self.campaign, theirs, str(self.log))
        theirs.close()

    def end(self) -> None:
        """Ends the process and removes what it wrote."""
        self._kill()
        self.log.unlink(missing_ok=True)

    def _kill(self) -> None:
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
            self.connection.close()
            self.process = 0


def run_campaign(
    campaign: Campaign,
    seed: int,
    count: int | None,
    seconds: float | None,
    progress: Callable[[Campaign, Tally], None] = lambda campaign, tally: None,
) -> Tally:
    """Runs cases until there are `count` of them or the time is over.

    Args:
        campaign: prepared.
        seed: of the first Hypothesis run; each further one of 200 takes the next.
        count: how many; None for as many as the time allows.
        seconds: how long; None for no limit.
        progress: called after each case.

    Returns:
        What came of it. The same seed and count give the same cases.
    """
    tally, start, child = Tally(), time.monotonic(), Child(campaign)

    def over() -> bool:
        if count is not None and tally.cases >= count:
            return True
        return seconds is not None and time.monotonic() - start > seconds

    def attempt(case: Any) -> None:
        if over():
            return
        outcome, broken = child.judge(case)
        tally.outcomes[outcome] += 1
        if broken is not None:
            tally.failures.append(Failure(broken, case, tally.seeds[-1]))
        tally.seconds = time.monotonic() - start
        progress(campaign, tally)

    try:
        while not over():
            tally.seeds.append(seed)
            left = BATCH if count is None else min(BATCH, count - tally.cases)

            before = tally.cases
            _run_batch(campaign, left, seed, attempt)
            if tally.cases == before:
                raise RuntimeError(f"{campaign.name} has no further cases")
            seed += 1
    finally:
        child.end()
    return tally


def _run_batch(
    campaign: Campaign, count: int, seed: int, attempt: Callable[[Any], None]
) -> None:
    """Lets Hypothesis draw so many cases. Failures are kept as they are: shrinking
    would run a crash a hundred times, and the rest of the cases not at all."""

    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(campaign.cases())
    def body(case: Any) -> None:
        attempt(case)

    body()
