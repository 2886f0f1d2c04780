"""Checks and measures keras_pe on a GPU, PyTorch and JAX, in one command.

Run:      python -m benchmarks.gpu
          python -m benchmarks.gpu --small --output small.json    (any machine)
Expect:   a line a part, a table and results/gpu.json, in less than eight minutes.

Parts: the reference numbers in float32 (TF32 off) and bfloat16; forward passes beside
timm or a plain PyTorch twin; training steps and their share of the device's peak; the
chunked contrastive loss; which attention kernels ran; peak memory of each. A part is
one process of one backend (the forward comparison: three that take turns). What
fails, or takes too long, is recorded with its error and the rest goes on; the file is
written whole after every change, so a run that is cut keeps what it has.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts import turns
from benchmarks.gpu_parts.forward import MODELS
from benchmarks.gpu_parts.worker import part_file, part_name
from keras_pe.files import write_atomically

RESULTS = Path(__file__).parent / "results" / "gpu.json"
WHOLE_SECONDS = 465.0
LOOK_SECONDS = 0.3  # between looks at what the processes have saved
DONE = "done"


@dataclasses.dataclass(frozen=True)
class Job:
    """A process of one backend.

    Attributes:
        backend: "torch" or "jax", or "turns" for the forward comparison.
        tasks: of `worker.run_task`, or the name of a model.
        seconds: limit of the whole process.
        environment: set on top.
    """

    backend: str
    tasks: tuple[str, ...]
    seconds: float = 200.0
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def parts(self) -> list[str]:
        """Names of what the process gives."""
        if self.backend == "turns":
            return [f"forward {model}" for model in self.tasks]
        return [part_name(self.backend, task) for task in self.tasks]


# float32 products with all of their mantissa, whatever the library's default.
NO_TF32 = ("NVIDIA_TF32_OVERRIDE", "0")
# Reference models are tiny and many: compile them fast, not well.
FAST_XLA = ("XLA_FLAGS", "--xla_gpu_autotune_level=0")
QUICK_XLA = (
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)
# PyTorch compiles for some seconds a shape, and the reference models have a hundred.
NO_DYNAMO = ("TORCHDYNAMO_DISABLE", "1")


def full_stages() -> list[list[Job]]:
    """Returns what runs after what; jobs of a stage run side by side."""
    parity = [
        Job("torch", ("parity:float32:all:1of1",), 200, (NO_TF32, NO_DYNAMO)),
        Job("torch", ("parity:bfloat16:all:1of1",), 200, (NO_DYNAMO,)),
        Job(
            "torch",
            ("parity:float32:compiled:1of1", "parity:bfloat16:compiled:1of1"),
            200,
            (NO_TF32,),
        ),
        *(
            Job(
                "jax",
                (f"parity:{dtype}:all:{share}of2",),
                200,
                (NO_TF32, FAST_XLA),
            )
            for dtype in ("float32", "bfloat16")
            for share in (1, 2)
        ),
    ]
    training = [
        Job(backend, (f"training:{model}:{blocks}",), 190)
        for backend in ("jax", "torch")
        for model in MODELS[:2]
        for blocks in ("plain", "remat")
    ]
    losses = [Job(backend, ("loss",), 120, (NO_TF32,)) for backend in ("torch", "jax")]
    return [
        [Job("torch", ("device",), 60), Job("jax", ("device",), 60)],
        [*(Job("turns", (model,), 300) for model in MODELS), *parity],
        [*training, *losses],
    ]


def small_stages() -> list[list[Job]]:
    """Returns the same kinds of parts in tiny sizes and few processes."""
    tasks = (
        "device",
        "parity:float32:all:1of3",
        "parity:bfloat16:all:1of3",
        f"training:{MODELS[0]}:plain",
        f"training:{MODELS[0]}:remat",
        "loss",
    )
    jobs = [Job(backend, tasks, 300, (QUICK_XLA,)) for backend in ("torch", "jax")]
    return [jobs, [Job("turns", MODELS[:1], 200)]]


class Report:
    """The result file: every part from the start, rewritten after each change."""

    def __init__(self, path: Path, stages: list[list[Job]], small: bool) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.content: dict[str, Any] = {
            "date": datetime.date.today().isoformat(),
            "small": small,
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "parts": {
                part: {"status": "not run"}
                for jobs in stages
                for job in jobs
                for part in job.parts
            },
        }
        self.write()

    def write(self) -> None:
        write_atomically(self.path, json.dumps(self.content, indent=2) + "\n")

    def set(self, name: str, part: dict[str, Any]) -> None:
        """Takes a part as it is now; prints a line once it has ended."""
        with self.lock:
            if self.content["parts"][name] == part:
                return
            self.content["parts"][name] = part
            self.write()
        if part["status"] != "running":
            more = part.get("error", "")
            print(f"{part['status']:9s} {name} {more}"[:300], flush=True)

    def part(self, name: str) -> dict[str, Any]:
        return dict(self.content["parts"][name])


def run_worker(
    job: Job, report: Report, scratch: Path, small: bool, end: float
) -> None:
    """Runs a process of one backend and takes over what it saves."""
    log = scratch / f"{part_file(scratch, job.parts[0]).stem}.log"
    command = [sys.executable, "-m", "benchmarks.gpu_parts.worker", str(scratch)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, str(int(small)), *job.tasks],
            env={
                **turns.scratch_environment(scratch / "turn"),
                **dict(job.environment),
                "KERAS_BACKEND": job.backend,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        limit = min(time.monotonic() + job.seconds, end)
        code = None
        while code is None and time.monotonic() < limit:
            time.sleep(LOOK_SECONDS)
            code = process.poll()
            take_over(job, report, scratch)
        if code is None:
            process.kill()
            process.wait()
    take_over(job, report, scratch)
    for name in job.parts:
        part = report.part(name)
        if part["status"] in ("not run", "running"):
            tail = log.read_text(errors="replace").splitlines()[-4:]
            why = "out of time" if code is None else f"the process ended with {code}"
            report.set(name, {**part, "status": "failed", "error": why, "where": tail})


def take_over(job: Job, report: Report, scratch: Path) -> None:
    """Puts what a process has saved into the report."""
    for name in job.parts:
        path = part_file(scratch, name)
        if path.exists():
            report.set(name, json.loads(path.read_text()))


def run_turns(job: Job, report: Report, scratch: Path, small: bool, end: float) -> None:
    """Runs the forward comparison of a model."""
    environment = turns.scratch_environment(scratch / "turn")
    (name,), (model,) = job.parts, job.tasks
    start = time.monotonic()
    part: dict[str, Any] = {"status": "running", "rows": {}}

    def save(rows: dict[str, Any]) -> None:
        part["rows"] = json.loads(json.dumps(rows))
        report.set(name, dict(part))

    try:
        limit = min(start + job.seconds, end)
        turns.compare(model, small, environment, limit, save)
        part["status"] = DONE
    except Exception as error:
        part |= {"status": "failed", "error": f"{type(error).__name__}: {error}"[:500]}
    part["seconds"] = round(time.monotonic() - start, 1)
    report.set(name, dict(part))


def print_table(report: Report) -> None:
    """Prints the figures of all parts, and what failed."""
    for name, part in report.content["parts"].items():
        rows = part.get("rows", {})
        print(f"\n{name}: {part['status']} {part.get('error', '')}")
        if name.startswith("forward"):
            for side, row in rows.get("sides", {}).items():
                print(f"  {side}: {json.dumps(row)[:260]}")
            for batch, variants in rows.get("batches", {}).items():
                for variant, row in variants.items():
                    print(f"  batch {batch:4s} {variant:36s} {json.dumps(row)}")
        elif name.startswith("parity"):
            for folder, row in rows.items():
                print(f"  {folder:46s} {row['relative L2']:.2e} of {row['bound']:g}")
        else:
            for key, value in rows.items():
                print(f"  {key}: {json.dumps(value)[:260]}")


def main() -> int:
    """Runs all parts; returns 0 if every one is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny sizes, any machine")
    parser.add_argument("--output", type=Path, help="default: results/gpu.json")
    parser.add_argument("--seconds", type=float, default=WHOLE_SECONDS)
    options = parser.parse_args()
    if options.small and options.output is None:
        parser.error("--small measures nothing worth keeping: say where with --output")
    stages = small_stages() if options.small else full_stages()
    report = Report(options.output or RESULTS, stages, options.small)
    end = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as folder:
        for jobs in stages:
            with ThreadPoolExecutor(2 if options.small else len(jobs)) as pool:
                for job in jobs:
                    run = run_turns if job.backend == "turns" else run_worker
                    pool.submit(run, job, report, Path(folder), options.small, end)
    print_table(report)
    parts = report.content["parts"].values()
    missing = sum(part["status"] != DONE for part in parts)
    print(f"\n{len(parts) - missing} of {len(parts)} parts done")
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
