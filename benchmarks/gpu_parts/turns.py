"""The sides of the forward comparison: they prepare side by side and run in turns."""

import contextlib
import fcntl
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.forward import BATCHES

SIDES = {"ours torch": "torch", "ours jax": "jax", "peer": "torch"}
ROUNDS = {False: 7, True: 2}
ROUND_SECONDS = {False: 0.15, True: 0.02}  # of one side in one round, about
PREPARE_SECONDS = {False: 170.0, True: 90.0}


class Side:
    """A process of `forward.serve`, with a thread that reads its lines."""

    def __init__(self, side: str, model: str, small: bool, environment: Any) -> None:
        self.name = side
        self.error: str | None = None
        arguments = [
            side.split()[0],
            model,
            str(int(small)),
            str(PREPARE_SECONDS[small]),
        ]
        code = (
            "import sys; from benchmarks.gpu_parts.forward import serve; "
            "a = sys.argv[1:]; serve(a[0], a[1], a[2] == '1', float(a[3]))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "KERAS_BACKEND": SIDES[side]},
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.complaints: list[str] = []
        self.variants: dict[tuple[str, int], dict[str, Any]] = {}
        self.kernels: dict[str, Any] = {}
        for read in (self._read_answers, self._read_complaints):
            threading.Thread(target=read, daemon=True).start()

    def _read_answers(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(line)
        self.lines.put(None)

    def _read_complaints(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.complaints = [*self.complaints[-20:], line.rstrip()]

    def answer(self, seconds: float) -> dict[str, Any]:
        """Returns the next line, or raises if the process ended or is silent."""
        try:
            line = self.lines.get(timeout=max(seconds, 0.01))
        except queue.Empty:
            raise TimeoutError(
                f"{self.name} did not answer in {seconds:.0f} s"
            ) from None
        if line is None:
            raise RuntimeError(f"{self.name} ended: {' | '.join(self.complaints[-3:])}")
        return json.loads(line)

    def prepare(self, end: float) -> None:
        """Reads what was prepared until `end` (monotonic)."""
        while True:
            said = self.answer(end - time.monotonic())
            if "done" in said:
                return
            if "side" in said:
                self.name = said["side"]
            elif "kernels" in said:
                self.kernels = {"batch": said["batch"], **said["kernels"]}
            else:
                self.variants[said["variant"], said["batch"]] = said

    def ask(self, question: str, seconds: float = 60.0) -> dict[str, Any]:
        """Returns the answer to one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.answer(seconds)

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def compare(
    model: str,
    small: bool,
    environment: dict[str, str],
    limit: float,
    save: Callable[[Any], None],
) -> None:
    """Measures one model on all sides; saves after each batch size.

    Args:
        model: official name.
        small: tiny sizes.
        environment: of the processes; names the file of turns.
        limit: when to stop, by `time.monotonic`.
        save: takes the rows so far.
    """
    end = min(time.monotonic() + PREPARE_SECONDS[small] + 60, limit)
    sides = [Side(side, model, small, environment) for side in SIDES]
    rows: dict[str, Any] = {"sides": {}, "batches": {}}
    try:
        for side in sides:
            try:
                side.prepare(end)
            except (TimeoutError, RuntimeError) as error:
                side.error = str(error)
                side.end()
            rows["sides"][side.name] = {
                "attention": side.kernels,
                **({"error": side.error} if side.error else {}),
            }
            save(rows)
        with open(environment["KERAS_PE_GPU_TURN"]) as file:
            wait_for_turn(file, limit)
            for batch in BATCHES[small]:
                rows["batches"][str(batch)] = measure(sides, batch, small, limit)
                save(rows)
            for side in sides:
                if side.error is None:
                    rows["sides"][side.name].update(side.ask("peak")["peak"])
            save(rows)
        broken = [side.name for side in sides if side.error]
        if broken:
            raise RuntimeError(f"sides that ended early: {broken}; see their rows")
    finally:
        for side in sides:
            with contextlib.suppress(OSError):
                side.end()


def wait_for_turn(file: Any, limit: float) -> None:
    """Waits until no other process is at work on the device."""
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > limit:
                raise TimeoutError("other parts did not end in time") from None
            time.sleep(0.1)


def measure(sides: list[Side], batch: int, small: bool, limit: float) -> dict[str, Any]:
    """Returns images a second of every variant, and ratios to the peer's fastest."""

    def seconds(side: Side, variant: str, repeats: int) -> float:
        left = limit - time.monotonic()
        said = side.ask(f"{variant} {batch} {repeats}", left)
        if "error" in said:
            raise RuntimeError(f"{side.name}, {variant}: {said['error']}")
        return said["seconds"]

    ready = [
        (side, variant)
        for side in sides
        if side.error is None
        for (variant, number), said in side.variants.items()
        if number == batch and "prepared" in said
    ]
    times: dict[str, list[float]] = {}
    repeats: dict[str, int] = {}
    for side, variant in ready:
        first = seconds(side, variant, 2)
        count = min(max(int(ROUND_SECONDS[small] / first), 2), 100)
        repeats[f"{side.name}, {variant}"] = count
    for _ in range(ROUNDS[small]):
        for side, variant in ready:
            name = f"{side.name}, {variant}"
            times.setdefault(name, []).append(seconds(side, variant, repeats[name]))
    found: dict[str, Any] = {
        f"{side.name}, {variant}": {"error": said["error"]}
        for side in sides
        for (variant, number), said in side.variants.items()
        if number == batch and "error" in said
    }
    peers = {n: t for n, t in times.items() if n.startswith(("timm", "plain"))}
    fastest = min(peers, key=lambda n: statistics.median(peers[n])) if peers else None
    for name, each in times.items():
        row = {"images a second": round(batch / statistics.median(each), 1)}
        if fastest is not None:
            ratios = [a / b for a, b in zip(peers[fastest], each, strict=True)]
            row[f"times as fast as {fastest}"] = round(statistics.median(ratios), 3)
            row["least"], row["most"] = round(min(ratios), 3), round(max(ratios), 3)
        found[name] = row
    return found


def scratch_environment(turn_file: Path) -> dict[str, str]:
    """Returns the environment of the processes that measure."""
    turn_file.touch()
    return {
        **os.environ,
        "KERAS_PE_GPU_TURN": str(turn_file),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Many processes compile at once: each gets a few of the cores.
        "TORCHINDUCTOR_COMPILE_THREADS": "4",
        "PYTHONUNBUFFERED": "1",
    }
