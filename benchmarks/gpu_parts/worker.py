"""A process of one backend: runs its tasks one after another and saves each.

Run by `benchmarks.gpu`: `python -m benchmarks.gpu_parts.worker FOLDER SMALL TASK...`.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_pe.files import write_atomically

FAILED_LINES = 6  # of a traceback


def part_name(backend: str, task: str) -> str:
    """Returns the name of a part: `parity float32 eager, torch`."""
    return f"{task.replace(':', ' ')}, {backend}"


def part_file(folder: Path, name: str) -> Path:
    """Returns where a part is saved until the parent takes it."""
    return folder / f"{name.replace('/', '-')}.json"


def run_task(task: str, small: bool, folder: Path, save: Callable[[Any], None]) -> Any:
    """Runs a task; returns its rows, or None where it saved them itself."""
    from benchmarks.gpu_parts import device, loss, parity, training

    kind, *arguments = task.split(":")
    if kind == "device":
        return device.describe(small)
    if kind == "parity":
        dtype, way, share = arguments
        names = parity.folders()
        if small:
            names = [names[0], names[5]]  # an upstream and a timm model
        first, of = map(int, share.split("of"))
        parity.measure(dtype, way == "compiled", names[first - 1 :: of], save)
        return None
    if kind == "training":
        model, blocks = arguments
        path = part_file(folder, part_name(device.backend(), "device"))
        told = json.loads(path.read_text())["rows"]
        peak = told["peak, TFLOP/s"]
        return training.measure(model, blocks == "remat", small, peak)
    if kind == "loss":
        return loss.measure(small)
    raise ValueError(f"Unknown task {task!r}.")


def main(folder: Path, small: bool, tasks: list[str]) -> None:
    """Runs the tasks; a failed one is recorded and the next one runs."""
    from benchmarks.gpu_parts import device

    for task in tasks:
        name = part_name(device.backend(), task)
        part: dict[str, Any] = {"status": "running", "rows": {}}

        def save(rows: Any, part: dict[str, Any] = part, name: str = name) -> None:
            part["rows"] = rows
            write_atomically(part_file(folder, name), json.dumps(part))

        start = time.monotonic()
        try:
            rows = run_task(task, small, folder, save)
            if rows is not None:
                part["rows"] = rows
            part["status"] = "done"
        except Exception as error:
            part["status"] = "failed"
            part["error"] = f"{type(error).__name__}: {str(error)[:500]}"
            part["where"] = traceback.format_exc().splitlines()[-FAILED_LINES:]
        part["seconds"] = round(time.monotonic() - start, 1)
        save(part["rows"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "1", sys.argv[3:])
