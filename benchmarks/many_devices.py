"""Whether two devices train as one does: losses of the same recipe, step by step.

Run:      python -m benchmarks.many_devices --data data/emoji
Expect:   the table of docs/multi_device.md and results/many_devices.json; some eight
          minutes for pretraining, fewer for alignments, `--recipes alignment`.
          `projects.emoji.data.prepare` makes the data, `projects.emoji.language.data`
          those of `--recipes language --data data/language`.

Every row is the ten steps of `projects.emoji.pretrain --config smoke`, the three of
`recipes.align_spatial --config smoke` or four of `recipes.align_language`, on two
devices, started as the page says, against the same on one device and backend. As a
control one device runs with another seed, which must differ by far more.
"""

import argparse
import csv
import datetime
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# PyTorch's processes draw their own blocks to skip, as other seeds would.
NO_DROP_PATH = ["--set", "drop_path=0.0"]
DATA = "{data}/train-00000.tar"
FEW = ["--samples", "128", "--warmup-steps", "1"]
RECIPES = {
    "pretraining": ["-m", "projects.emoji.pretrain", "--data", "{data}"],
    "alignment": ["-m", "recipes.align_spatial", "--data", DATA, *NO_DROP_PATH],
    "language": ["-m", "recipes.align_language", "--data", DATA, *NO_DROP_PATH, *FEW],
}
PIECES = ["--set", "sharding=parameters"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
CONTROL = "control, another seed"
WORST = 1e-5  # a device more may change the order of sums and nothing else


def run(backend: str, commands: Sequence[list[str]], output: Path) -> list[float]:
    """Runs the processes of one training side by side; returns its losses."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    processes = [
        subprocess.Popen(
            [sys.executable, *command, "--output", str(output)],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        for command in commands
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"{commands} on {backend} failed.")
    with open(output / "steps.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def coordinated(recipe: list[str]) -> list[list[str]]:
    """Returns the commands of two JAX processes that find each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    shared = [*recipe, "--coordinator", address, "--num-processes", "2"]
    return [[*shared, "--process-id", str(number)] for number in range(2)]


def largest(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Returns the largest relative difference of a step's loss."""
    pairs = zip(ours, theirs, strict=True)
    return max(abs(our - their) / abs(their) for our, their in pairs)


def differences_of(recipe: list[str]) -> dict[str, float]:
    """Returns the largest difference of each way to train on two devices.

    Raises:
        RuntimeError: if two devices differ from one, or the control does not.
    """
    virtual = [*recipe, "--virtual-devices", "2"]
    rows: dict[str, tuple[str, list[list[str]]]] = {
        "PyTorch, torchrun --nproc-per-node 2": ("torch", [[*TORCHRUN, *recipe]]),
        "JAX, --virtual-devices 2": ("jax", [virtual]),
        "JAX, two processes, --coordinator": ("jax", coordinated(recipe)),
        "JAX, two processes, weights cut in pieces": (
            "jax",
            coordinated([*recipe, *PIECES]),
        ),
        "TensorFlow, --virtual-devices 2": ("tensorflow", [virtual]),
    }
    differences: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        alone: dict[str, list[float]] = {}
        for number, (name, (backend, commands)) in enumerate(rows.items()):
            if backend not in alone:
                alone[backend] = run(backend, [recipe], Path(folder, backend))
            losses = run(backend, commands, Path(folder, str(number)))
            differences[name] = largest(losses, alone[backend])
            print(f"{name}: {len(losses)} steps, {differences[name]:.1e}", flush=True)
        other = run("torch", [[*recipe, "--set", "seed=1"]], Path(folder, "control"))
        control = largest(other, alone["torch"])
        print(f"{CONTROL}: {control:.1e}", flush=True)
    if max(differences.values()) > WORST or control < 100 * WORST:
        raise RuntimeError(f"{differences}, and the control {control}.")
    return {**differences, CONTROL: control}


def main() -> None:
    """Measures, prints and writes; a recipe that is not asked for keeps its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument(
        "--recipes", nargs="+", choices=RECIPES, default=["pretraining", "alignment"]
    )
    options = parser.parse_args()
    output = Path(__file__).parent / "results" / "many_devices.json"
    result = json.loads(output.read_text()) if output.exists() else {}
    for name in options.recipes:
        print(f"{name}:", flush=True)
        command = [part.format(data=options.data) for part in RECIPES[name]]
        result[name] = {
            "date": datetime.date.today().isoformat(),
            "largest relative difference of a step's loss": differences_of(
                [*command, "--config", "smoke", "--quiet"]
            ),
        }
        output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
