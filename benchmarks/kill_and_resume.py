"""Kills a training run at random instants and resumes it, again and again.

Run:      python -m benchmarks.kill_and_resume --data data/emoji --backend torch
Expect:   "200 of 200 kills left a run that resumed", and losses and final weights
          equal to the bit to the run that was never killed.

A child process trains `recipes.contrastive --config smoke`, with a checkpoint after
every step so that many kills hit a save. It gets SIGKILL at a random instant after its
first step, and is started again with --resume; when a run is complete, its losses and
weights are compared with those of an uninterrupted run, and the next run begins.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEP_FIELDS = ("step", "loss", "mask_loss", "logit_scale", "gradient_norm")


def start(arguments: list[str], backend: str, log: Path) -> subprocess.Popen[bytes]:
    """Starts the recipe in a process of its own."""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "recipes.contrastive", *arguments],
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


def losses(run: Path) -> list[tuple[str, ...]]:
    """Returns what each step logged, as written."""
    with (run / "steps.csv").open(newline="") as stream:
        return [tuple(row[f] for f in STEP_FIELDS) for row in csv.DictReader(stream)]


def size(path: Path) -> int:
    """Returns a file's size, 0 without one."""
    return path.stat().st_size if path.exists() else 0


def weights_digest(run: Path) -> str:
    """Returns the SHA-256 of the last checkpoint's tensors: weights and optimizer."""
    newest = max((run / "checkpoints").glob("step_*"))
    return hashlib.sha256((newest / "variables.safetensors").read_bytes()).hexdigest()


def kill_run(
    arguments: list[str], backend: str, run: Path, rng: random.Random, window: float
) -> bool:
    """Starts a run, kills it at a random instant; returns whether it was killed."""
    steps = run / "steps.csv"
    before = size(steps)
    process = start(arguments, backend, run.parent / "log.txt")
    delay: float | None = None
    while process.poll() is None:
        if delay is None and size(steps) != before and size(steps) > 120:
            delay = time.monotonic() + rng.uniform(0.0, window)
        if delay is not None and time.monotonic() >= delay:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.002)
    if process.returncode:
        raise SystemExit(
            f"The run could not go on: exit code {process.returncode}. "
            f"{(run.parent / 'log.txt').read_text()[-2000:]}"
        )
    return False


def main() -> None:
    """Runs the reference, then kills until the wanted number is reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--window", type=float, default=1.5, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)

        def arguments(run: Path) -> list[str]:
            return [
                *("--config", "smoke", "--data", options.data, "--output", str(run)),
                *("--save-every", "1", "--evaluate-every", "1000000", "--quiet"),
                "--resume",
            ]

        reference = directory / "reference"
        process = start(arguments(reference), options.backend, directory / "log.txt")
        if process.wait():
            raise SystemExit((directory / "log.txt").read_text()[-3000:])
        wanted, digest = losses(reference), weights_digest(reference)
        print(f"uninterrupted: {len(wanted)} steps, weights {digest[:12]}", flush=True)
        kills = complete = equal = 0
        while kills < options.kills:
            run = directory / "run"
            shutil.rmtree(run, ignore_errors=True)
            while kill_run(arguments(run), options.backend, run, rng, options.window):
                kills += 1
                if kills % 10 == 0:
                    print(f"{kills} kills, {complete} runs complete", flush=True)
            complete += 1
            same_losses = losses(run) == wanted
            same_weights = weights_digest(run) == digest
            equal += same_losses and same_weights
            print(
                f"run {complete} after {kills} kills: losses equal {same_losses}, "
                f"weights equal {same_weights}",
                flush=True,
            )
    found = {
        "backend": options.backend,
        "kills": kills,
        "resumed": kills,  # a run that can't go on ends this script
        "runs": complete,
        "runs_equal_to_the_bit": equal,
    }
    print(f"{kills} of {kills} kills left a run that resumed. {json.dumps(found)}")
    if options.result:
        options.result.write_text(json.dumps(found, indent=1) + "\n")
    if equal != complete:
        sys.exit(1)


if __name__ == "__main__":
    main()
