"""Memory and time of the chunked contrastive loss, value and gradients.

Run:      python -m benchmarks.contrastive_loss
          python -m benchmarks.contrastive_loss --backends torch --skip-memory
Expect:   a line a measurement and results/contrastive_loss.json; half an hour a core.

Memory: a fresh process makes the inputs, takes one small step, remembers its memory,
and reports the peak above that after one step of the full batch (compilation
included). Of the plain loss at that size only the bytes of its matrices are computed.

Time: plain and chunked alternate in one process. CPU time of one thread, which other
processes on the machine change little; medians of several rounds.
"""

import argparse
import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.plain_and_chunked import (
    in_fresh_process,
    kilobytes,
    times_in_turns,
)

RESULTS = Path(__file__).parent / "results" / "contrastive_loss.json"
DIM = 1024
MEMORY_BATCH, MEMORY_CHUNK = 32_768, 512
TIMED = [(4096, 512), (8192, 512)]  # batch, chunk size
# How each backend compiles a step; what `fit` does comes first.
CONFIGURATIONS = {"torch": ["eager"], "jax": ["jit"], "tensorflow": ["graph", "XLA"]}


# === In the process that measures ===
def make_step(configuration: str, chunk_size: int | None) -> Callable[..., Any]:
    """Returns a function of images, texts and scale: loss and three gradients."""
    from keras_pe import losses

    def loss(*inputs: Any) -> Any:
        if chunk_size is None:
            return losses.softmax_contrastive_loss(*inputs)
        return losses.chunked_softmax_contrastive_loss(*inputs, chunk_size=chunk_size)

    if configuration == "jit":
        import jax

        compiled = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
        return lambda *inputs: jax.block_until_ready(compiled(*inputs))
    if configuration == "eager":
        import torch

        def with_gradients(*inputs: Any) -> Any:
            inputs = tuple(x.detach().requires_grad_() for x in inputs)
            value = loss(*inputs)
            return value.detach(), torch.autograd.grad(value, inputs)

        return with_gradients
    import tensorflow as tf

    @tf.function(jit_compile=configuration == "XLA")
    def step(*inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = loss(*inputs)
        return value, tape.gradient(value, inputs)

    return step


def make_inputs(batch: int) -> list[Any]:
    """Returns unit vectors of both sides, correlated a little; and a scale."""
    import numpy as np
    from keras import ops

    rng = np.random.default_rng(0)
    sides: list[Any] = []
    for _ in range(2):
        side = rng.standard_normal((batch, DIM), dtype="float32")
        if sides:
            # Cosines of 0.15 for pairs, near 0 for others: a loss of a few nats.
            side += 0.15 * DIM**0.5 * ops.convert_to_numpy(sides[0])
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        sides.append(ops.convert_to_tensor(side))
    return [*sides, ops.convert_to_tensor(np.float32(50.0))]


def measure_memory(configuration: str) -> dict[str, float]:
    """Returns the peak of one chunked step above the memory it starts from, GB."""
    make_step(configuration, 16)(*make_inputs(64))
    inputs = make_inputs(MEMORY_BATCH)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = kilobytes("VmRSS")
    start = time.process_time()
    value, gradients = make_step(configuration, MEMORY_CHUNK)(*inputs)
    seconds = time.process_time() - start
    assert abs(float(value)) < 20
    assert len(gradients) == 3
    peak = (kilobytes("VmHWM") - before) * 1024 / 1e9
    return {"peak above the inputs, GB": round(peak, 3), "CPU s": round(seconds, 1)}


def measure_time(configuration: str, batch: int, chunk_size: int, rounds: int) -> Any:
    """Returns medians of the CPU time of both, s, and of their ratio."""
    inputs = make_inputs(batch)
    steps = [make_step(configuration, size) for size in (None, chunk_size)]
    return times_in_turns(steps, inputs, rounds)


# === In the process that asks ===
def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backends", nargs="*", default=list(CONFIGURATIONS))
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--task", nargs="*", help="what one process measures")
    options = parser.parse_args()
    if options.task:
        kind, configuration, *numbers = options.task
        if kind == "memory":
            print(json.dumps(measure_memory(configuration)))
        else:
            print(json.dumps(measure_time(configuration, *map(int, numbers))))
        return
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    result["date"] = datetime.date.today().isoformat()
    result["what"] = (
        f"float32, {DIM} channels, loss and gradients of both embeddings and the "
        f"scale; one thread"
    )
    matrix = 4 * MEMORY_BATCH**2 / 1e9
    result["plain, computed"] = (
        f"at {MEMORY_BATCH} one (batch, batch) matrix is {matrix:.1f} GB, and the "
        f"backward pass holds at least two"
    )
    for backend in options.backends:
        for configuration in CONFIGURATIONS[backend]:
            row = result["rows"].setdefault(f"{backend}, {configuration}", {})
            tasks: list[list[Any]] = [
                ["time", configuration, *sizes, options.rounds] for sizes in TIMED
            ]
            if not options.skip_memory:
                tasks.append(["memory", configuration])
            for task in tasks:
                if task[0] == "time":
                    name = f"batch {task[2]} in chunks of {task[3]}"
                else:
                    name = f"batch {MEMORY_BATCH} in chunks of {MEMORY_CHUNK}"
                row[name] = in_fresh_process(
                    "benchmarks.contrastive_loss", backend, task
                )
                print(f"{backend}, {configuration}, {name}: {row[name]}", flush=True)
                RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
