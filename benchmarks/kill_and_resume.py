"""Kills a training run at random instants and resumes it, again and again.

Run:      python -m benchmarks.kill_and_resume --data data/emoji --backend torch
          python -m benchmarks.kill_and_resume --run alignment --backend torch
          python -m benchmarks.kill_and_resume --run language --backend torch
Expect:   "200 of 200 kills left a run that resumed", and losses and final weights
          equal to the bit to those of the run that was never killed; its row in
          results/kill_and_resume.json.

A process that has imported everything and started nothing (no thread, no device) forks
children; each is a whole run of `recipes.pretrain.pretrain`, or of an alignment of the
small bundled encoder on data that the script draws: it reads the data, builds the
model, restores the newest checkpoint, trains, saves after every step. Forking
spares the imports; on JAX compiled steps come from its persistent cache. The child gets
SIGKILL at a random instant, and the next one goes on. When a run is complete, it is
compared with one that was not killed: steps 1 to N must each stand in the log once and
in order, with the same loss to the last digit (a batch that was left out, repeated or
changed gives another), and the tensors of the last checkpoint must be the same.

The number of threads is fixed: libraries split sums by it, so that the last digits
depend on it.
"""

import argparse
import csv
import datetime
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.killed_runs import RUNS, KilledRun

if TYPE_CHECKING:
    # Not before `prepare` has set the number of threads: NumPy starts its own.
    import numpy as np

RESULTS = Path(__file__).parent / "results" / "kill_and_resume.json"
FIELDS = ("step", "samples", "image_size", "loss", "gradient_norm")
LEFT_BY_A_SAVE = (".saving_", ".replaced_", ".deleting_")


# === One run in a process of its own ===
def prepare(backend: str, threads: int, cache: Path) -> None:
    """Imports what a run needs, and starts nothing that a fork would break."""
    os.environ["KERAS_BACKEND"] = backend
    for name in (
        "OMP_NUM_THREADS",
        "NPROC",  # XLA's pool
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    ):
        os.environ[name] = str(threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import matplotlib.figure  # noqa: F401

    import keras_pe.training.run.align_language
    import keras_pe.training.run.image_data
    import keras_pe.training.run.question_data  # noqa: F401
    import projects.emoji.pretrain  # noqa: F401

    keras.utils.set_random_seed(0)  # imports other frameworks, if there are any
    if backend == "jax":
        import jax

        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    running = len(os.listdir("/proc/self/task"))
    if running > 1:
        raise SystemExit(f"{running} threads run before the first fork, expected 1.")


def start(killed: KilledRun, config: Any, data: Path, run: Path, log: Path) -> int:
    """Starts or resumes a run in a new process; returns its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        from keras_pe.training.run.train import RunOptions

        options = RunOptions(
            run,
            resume=True,
            save_every=1,
            evaluate_every=10**9,  # at the end alone
            progress=False,
        )
        killed.train(config, data, options)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(process: int) -> int | None:
    """Returns how a process ended (0, a code, or minus a signal), None if it runs."""
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


# === What a run left ===
def rows(run: Path, terms: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns what each step logged, as written."""
    names = (*FIELDS, *terms)
    with (run / "steps.csv").open(newline="") as stream:
        return [tuple(row[name] for name in names) for row in csv.DictReader(stream)]


def newest_step(run: Path) -> int:
    """Returns the step of the newest checkpoint, 0 if there is none."""
    names = [p.name for p in (run / "checkpoints").glob("step_*")]
    return max((int(name.removeprefix("step_")) for name in names), default=0)


def final_arrays(run: Path) -> "dict[str, np.ndarray]":
    """Returns weights, random states and optimizer from the last checkpoint."""
    from keras_pe.training.run.saved_tensors import read_files
    from keras_pe.training.run.state import METRICS

    arrays, _ = read_files(run / "checkpoints" / f"step_{newest_step(run):09d}")
    # Keras' own mean of the loss starts anew with each `fit`.
    return {k: v for k, v in arrays.items() if not k.startswith(METRICS)}


def largest_difference(
    ours: "dict[str, np.ndarray]", theirs: "dict[str, np.ndarray]"
) -> float:
    """Returns the largest difference of two runs, relative to the tensor's largest."""
    import numpy as np

    if ours.keys() != theirs.keys():
        return float("inf")
    worst = 0.0
    for name, value in theirs.items():
        if ours[name].tobytes() == value.tobytes():
            continue
        size = max(float(np.abs(value).max()), 1e-30)
        other = np.asarray(ours[name], "float64")
        worst = max(worst, float(np.abs(other - value).max()) / size, 1e-300)
    return worst


# === Kills ===
class Killer:
    """Starts a run again and again, kills it, and counts where the kills fell."""

    def __init__(
        self,
        killed: KilledRun,
        steps: int,
        data: Path,
        directory: Path,
        rng: random.Random,
    ) -> None:
        self.killed, self.config = killed, killed.config(steps)
        self.data, self.rng = data, rng
        self.run, self.log = directory / "run", directory / "log.txt"
        self.start_seconds = self.step_seconds = 0.0
        self.kills = self.before_first_step = self.during_a_save = 0

    def undisturbed(self, run: Path) -> None:
        """Trains a whole run and learns how long its parts take."""
        begin = time.monotonic()
        process, first = self._start(run), None
        while (code := ended(process)) is None:
            if first is None and newest_step(run):
                first = time.monotonic()
            if newest_step(run) < self.config.samples // self.config.batch_size:
                last = time.monotonic()
            time.sleep(0.002)
        if code or first is None:
            raise SystemExit(f"Exit code {code}:\n{self.log.read_text()[-3000:]}")
        self.start_seconds = first - begin
        self.step_seconds = (last - first) * self.config.batch_size
        self.step_seconds /= self.config.samples

    def _start(self, run: Path) -> int:
        return start(self.killed, self.config, self.data, run, self.log)

    def once(self) -> bool:
        """Starts the run, kills it; returns whether it came to the kill."""
        before = newest_step(self.run)
        early = self.rng.random() < 0.2
        process = self._start(self.run)
        due = None
        if early:  # while it imports, builds, restores, compiles
            due = time.monotonic() + self.rng.uniform(0.0, self.start_seconds)
        while (code := ended(process)) is None:
            now = time.monotonic()
            if due is None and newest_step(self.run) > before:
                due = now + self.rng.uniform(0.0, 5 * self.step_seconds)
            if due is not None and now >= due:
                os.kill(process, signal.SIGKILL)
                code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                if code == -signal.SIGKILL:
                    code = None
                break  # or it had come to its end by itself
            time.sleep(0.0005)
        if code is not None:
            if code:
                raise SystemExit(
                    f"The run could not go on after {self.kills} kills: exit code "
                    f"{code}.\n{self.log.read_text()[-3000:]}"
                )
            return False
        after = newest_step(self.run)
        if after < before:
            raise SystemExit(f"The newest checkpoint went from {before} to {after}.")
        self.kills += 1
        self.before_first_step += after == before
        names = [p.name for p in (self.run / "checkpoints").glob(".*")]
        self.during_a_save += any(name.startswith(LEFT_BY_A_SAVE) for name in names)
        return True


def main() -> None:
    """Trains the reference, then kills until the wanted number is reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", choices=list(RUNS), default="pretrain")
    parser.add_argument("--data", type=Path, help="drawings, of a pretraining")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20, help="of each run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        prepare(options.backend, options.threads, directory / "compiled")
        RUNS[options.run].write(options.data, directory / "data")
        result = measure(options, directory)
    print(json.dumps(result))
    kills = result["kills"]
    print(f"{result['resumed']} of {kills} kills left a run that resumed.")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    name = options.backend
    if options.run != "pretrain":
        name += f", {options.run}"
    RESULTS.write_text(json.dumps({**found, name: result}, indent=1) + "\n")


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Returns the figures of one backend."""
    began, killed = time.monotonic(), RUNS[options.run]
    terms = killed.terms
    killer = Killer(
        killed,
        options.steps,
        directory / "data",
        directory,
        random.Random(options.seed),
    )
    killer.undisturbed(directory / "first")  # fills the cache of compiled steps
    killer.undisturbed(directory / "reference")
    wanted = rows(directory / "reference", terms)
    tensors = final_arrays(directory / "first")
    repeatable = rows(directory / "first", terms) == wanted
    tensors_again = final_arrays(directory / "reference")
    print(
        f"{options.backend}: {killer.start_seconds:.2f} s to the first checkpoint, "
        f"{killer.step_seconds:.3f} s a step; a second run gives the same losses: "
        f"{repeatable}, weights: {largest_difference(tensors_again, tensors):g}",
        flush=True,
    )
    complete = equal_rows = equal_tensors = whole = 0
    loss_difference = tensor_difference = 0.0
    while killer.kills < options.kills or complete == 0:
        shutil.rmtree(killer.run, ignore_errors=True)
        while killer.once():
            if killer.kills % 20 == 0:
                print(f"{killer.kills} kills, {complete} complete", flush=True)
        complete += 1
        ours = rows(killer.run, terms)
        whole += [int(row[0]) for row in ours] == list(range(1, options.steps + 1))
        equal_rows += ours == wanted
        losses = [[float(row[3]) for row in table] for table in (ours, wanted)]
        loss_difference = max(
            loss_difference, *(abs(a - b) / b for a, b in zip(*losses, strict=True))
        )
        difference = largest_difference(final_arrays(killer.run), tensors)
        equal_tensors += difference == 0.0
        tensor_difference = max(tensor_difference, difference)
        print(
            f"run {complete} after {killer.kills} kills: same losses "
            f"{ours == wanted}, tensors differ by {difference:g}",
            flush=True,
        )
    return {
        "date": datetime.date.today().isoformat(),
        "threads": options.threads,
        "kills": killer.kills,
        "resumed": killer.kills,  # a run that can't go on ends this script
        "kills before the first step": killer.before_first_step,
        "kills during a save": killer.during_a_save,
        "checkpoints passed over as damaged": killer.log.read_text().count("passed ov"),
        "complete runs": complete,
        "with every step once, in order": whole,
        "with the losses of the uninterrupted run": equal_rows,
        "with its final tensors, to the bit": equal_tensors,
        "largest relative difference of a loss": loss_difference,
        "largest relative difference of a tensor": tensor_difference,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }


if __name__ == "__main__":
    main()
