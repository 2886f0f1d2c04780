"""Training speed of a small dual encoder on CPU: ours against open_clip's trainer.

Run:      python -m benchmarks.train_cpu --peer-python PYTHON
Expect:   a table and results/train_cpu.json; about 20 minutes on one core.

Both sides train the emoji model's towers at 48 px, batch 256, AdamW, gradients clipped
at norm 1, batches in memory. Ours is `ContrastiveTrainer.fit`, on three backends and in
two precisions; theirs is `open_clip_train.train.train_one_epoch` in three precisions,
compiled and not. Each is a process that stays alive. They take turns, a few steps at a
time, in groups that all hold the same reference (open_clip, fp32, eager), so that no
side sees another machine than its rivals; then the fastest two meet directly. Speed is
counted in CPU time of a process with one thread, which other work on the machine
hardly changes; wall time is kept beside it.
"""

import argparse
import dataclasses
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BATCH_SIZE, IMAGE_SIZE, BATCHES = 256, 48, 2
OPTIMIZER = {
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
    "beta_2": 0.95,
    "epsilon": 1e-6,
    "clip_norm": 1.0,
}
PEER = Path(__file__).parent / "peers" / "open_clip_training.py"
REFERENCE = "open_clip fp32"
HOPELESS = 3.0  # sides slower than the reference by this have one turn of one step


# === Our side, in a process of its own ===
def work(settings: dict[str, Any]) -> None:
    """Builds our trainer, then runs steps as told on standard input."""
    import keras
    import numpy as np

    from keras_pe.training import ContrastiveTrainer, WatchedAdamW
    from keras_pe.training.run.config import build_model

    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(settings["threads"])
    keras.utils.set_random_seed(0)
    model = build_model(dataclasses.replace(config(), precision=settings["precision"]))
    trainer = ContrastiveTrainer(model)
    optimizer = WatchedAdamW(
        OPTIMIZER["learning_rate"],
        weight_decay=OPTIMIZER["weight_decay"],
        beta_2=OPTIMIZER["beta_2"],
        epsilon=OPTIMIZER["epsilon"],
        global_clipnorm=OPTIMIZER["clip_norm"],
    )
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta", "scale", "embedding", "probe"]
    )
    compiled = settings["compiled"] or keras.backend.backend() != "torch"
    trainer.compile(optimizer, jit_compile=compiled)
    trainer.optimizer.build(trainer.trainable_variables)
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(BATCHES):
        shape = (BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3)
        images = rng.uniform(-1, 1, shape).astype("float32")
        ids = rng.integers(1, config().text["vocabulary_size"] - 2, (BATCH_SIZE, 20))
        ids[:, -1] = config().text["vocabulary_size"] - 1
        batches.append({"images": images, "token_ids": ids.astype("int32")})
    parameters = sum(int(np.prod(w.shape)) for w in trainer.trainable_variables)
    print(json.dumps({"parameters": parameters}), flush=True)

    def some(steps: int) -> Any:
        for step in range(steps):
            yield (batches[step % BATCHES],)

    for line in sys.stdin:
        steps = int(line)
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.fit(some(steps), steps_per_epoch=steps, verbose=0, shuffle=False)
        answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


def config() -> Any:
    """Returns the emoji configuration with towers made for 48 px."""
    from projects.emoji.configs import CONFIGS

    emoji = CONFIGS["emoji"]
    return dataclasses.replace(emoji, vision={**emoji.vision, "image_size": IMAGE_SIZE})


def peer_sizes() -> dict[str, int]:
    """Returns the same towers in the words of the peer's script."""
    vision, text = config().vision, config().text
    return {
        "image_size": IMAGE_SIZE,
        "patch_size": vision["patch_size"],
        "vision_dim": vision["hidden_dim"],
        "vision_layers": vision["num_layers"],
        "vision_heads": vision["num_heads"],
        "pooling_heads": vision["pooling_heads"],
        "output_dim": vision["output_dim"],
        "context_length": text["context_length"],
        "vocabulary_size": text["vocabulary_size"],
        "text_dim": text["hidden_dim"],
        "text_heads": text["num_heads"],
        "text_layers": text["num_layers"],
    }


# === Turns ===
class Side:
    """A process that trains when told to."""

    def __init__(self, name: str, command: list[str], backend: str | None) -> None:
        self.name = name
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if backend is not None:
            environment["KERAS_BACKEND"] = backend
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.parameters = self._answer()["parameters"]
        self.cpu: list[float] = []
        self.wall: list[float] = []

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended: run its command to see why.")
        return dict(json.loads(line))

    def run(self, steps: int) -> dict[str, float]:
        """Runs some steps; returns seconds a step."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = self._answer()
        return {kind: seconds / steps for kind, seconds in answer.items()}

    def record(self, steps: int) -> None:
        """Runs some steps and keeps their seconds."""
        seconds = self.run(steps)
        self.cpu.append(seconds["cpu"])
        self.wall.append(seconds["wall"])

    def forget(self) -> None:
        """Drops what was recorded."""
        self.cpu, self.wall = [], []

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def commands(peer_python: str, threads: int) -> dict[str, tuple[list[str], str | None]]:
    """Returns command and backend of every side by name."""
    found: dict[str, tuple[list[str], str | None]] = {}
    for precision in ("fp32", "amp_bf16", "pure_bf16"):
        for compiled in (False, True):
            settings = {
                "threads": threads,
                "precision": precision,
                "compiled": compiled,
                "sizes": peer_sizes(),
                "optimizer": OPTIMIZER,
                "batch_size": BATCH_SIZE,
                "batches": BATCHES,
            }
            name = f"open_clip {precision}" + (", compiled" if compiled else "")
            found[name] = ([peer_python, str(PEER), json.dumps(settings)], None)
    for backend in ("torch", "jax", "tensorflow"):
        for precision in ("float32", "mixed_bfloat16"):
            for compiled in (False, True) if backend == "torch" else (False,):
                settings = {
                    "threads": threads,
                    "precision": precision,
                    "compiled": compiled,
                }
                name = f"keras_pe {backend} {precision}"
                name += ", compiled" if compiled else ""
                found[name] = (
                    [
                        *(sys.executable, "-m", "benchmarks.train_cpu", "--worker"),
                        json.dumps(settings),
                    ],
                    backend,
                )
    return found


def meet(
    names: list[str],
    sides: dict[str, tuple[list[str], str | None]],
    rounds: int,
    steps: int,
) -> dict[str, dict[str, Any]]:
    """Lets some sides take turns; returns their figures against the first of them."""
    running: list[Side] = []
    failed: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            side = Side(name, *sides[name])
            side.run(1)  # compiles
            side.record(1)
            running.append(side)
        except RuntimeError as error:
            failed[name] = {"failed": str(error)}
    first = running[0]
    hopeless = [side for side in running if side.cpu[0] > HOPELESS * first.cpu[0]]
    for side in running:
        if side not in hopeless:
            side.forget()
    for _ in range(rounds):
        for side in running:
            if side not in hopeless:
                side.record(steps)
    for side in running:
        side.close()
    found = {}
    for side in running:
        ratios = [a / b for a, b in zip(first.cpu, side.cpu, strict=False)]
        walls = [a / b for a, b in zip(first.wall, side.wall, strict=False)]
        found[side.name] = {
            "parameters": side.parameters,
            "turns": len(side.cpu),
            "pairs a CPU second": round(BATCH_SIZE / statistics.median(side.cpu), 1),
            "times as fast": round(statistics.median(ratios), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
            "times as fast, wall time": round(statistics.median(walls), 3),
        }
        print(f"{side.name:42s} {found[side.name]}", flush=True)
    for name, reason in failed.items():
        print(f"{name:42s} {reason['failed']}", flush=True)
    return {**found, **failed}


def main() -> None:
    """Measures all sides, then the two fastest against each other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="of a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="words that a side's name must have")
    parser.add_argument("--without", nargs="*", default=[], help="words it must not")
    options = parser.parse_args()
    if options.worker:
        work(json.loads(options.worker))
        return
    sides = commands(options.peer_python, options.threads)
    others = [name for name in sides if name != REFERENCE]
    if options.only:
        others = [n for n in others if any(word in n for word in options.only)]
    others = [n for n in others if not any(word in n for word in options.without)]
    rows: dict[str, dict[str, Any]] = {}
    for start in range(0, len(others), 3):  # few at a time fit into the memory
        group = [REFERENCE, *others[start : start + 3]]
        rows.update(meet(group, sides, options.rounds, options.steps))
    output = Path(__file__).parent / "results" / "train_cpu.json"
    result = json.loads(output.read_text()) if output.exists() else {}
    here = result.setdefault(f"{options.threads} thread(s), {cpu_name()}", {})
    table = here.setdefault(f"against {REFERENCE}", {})
    table.update(rows)
    # Of the whole table, of which this run may have measured a part.
    ran = {name: row for name, row in table.items() if "failed" not in row}
    fastest = {
        kind: max(
            (name for name in ran if name.startswith(kind)),
            key=lambda name: ran[name]["times as fast"],
        )
        for kind in ("open_clip", "keras_pe")
    }
    print("The fastest of each side:")
    duel = meet(list(fastest.values()), sides, 2 * options.rounds, options.steps)
    here["date"] = datetime.date.today().isoformat()
    here["model"] = f"emoji towers, {IMAGE_SIZE} px, batch {BATCH_SIZE}, AdamW"
    here[f"against {fastest['open_clip']}"] = duel
    output.write_text(json.dumps(result, indent=1) + "\n")


def cpu_name() -> str:
    """Returns the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


if __name__ == "__main__":
    main()
