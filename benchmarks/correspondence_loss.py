"""Memory and time of the chunked correspondence loss, value and gradient.

Run:      python -m benchmarks.correspondence_loss
          python -m benchmarks.correspondence_loss --backends torch --skip-memory
Expect:   a line a measurement, results/correspondence_loss.json; half an hour a core.

Memory: a fresh process makes the inputs, takes one small step, remembers its memory,
and reports the peak above that after one step of the full batch (compilation
included). Of the result, the gradient is as large as the student's tokens. Both forms
are measured: the plain one on a smaller batch, on which its memory depends.

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

RESULTS = Path(__file__).parent / "results" / "correspondence_loss.json"
TOKENS, POINTS = 1024, 1024
CHUNK = 1024  # rows: one image
BATCH, PLAIN_BATCH, TIMED_BATCH = 48, 16, 8  # images
WIDTHS = [1024, 1536]  # channels of PE-Core-L and G
# How each backend compiles a step; what `fit` does comes first.
CONFIGURATIONS = {"torch": ["eager"], "jax": ["jit"], "tensorflow": ["graph", "XLA"]}


# === In the process that measures ===
def make_step(configuration: str, chunk_size: int | None) -> Callable[..., Any]:
    """Returns a function of student and teacher: loss and the student's gradient."""
    from keras_pe import losses

    def loss(student: Any, teacher: Any) -> Any:
        return losses.correspondence_loss(student, teacher, chunk_size=chunk_size)

    if configuration == "jit":
        import jax

        compiled = jax.jit(jax.value_and_grad(loss))
        return lambda *inputs: jax.block_until_ready(compiled(*inputs))
    if configuration == "eager":
        import torch

        def with_gradient(student: Any, teacher: Any) -> Any:
            student = student.detach().requires_grad_()
            value = loss(student, teacher)
            (gradient,) = torch.autograd.grad(value, student)
            return value.detach(), gradient

        return with_gradient
    import tensorflow as tf

    @tf.function(jit_compile=configuration == "XLA")
    def step(student: Any, teacher: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(student)
            value = loss(student, teacher)
        return value, tape.gradient(value, student)

    return step


def make_inputs(images: int, width: int, tokens: int = TOKENS) -> list[Any]:
    """Returns tokens of a student, and mask logits near to each other."""
    import numpy as np
    from keras import ops

    rng = np.random.default_rng(0)
    student = rng.standard_normal((images, tokens, width), dtype="float32")
    teacher = rng.standard_normal((images, tokens, POINTS), dtype="float32") - 2.0
    return [ops.convert_to_tensor(x) for x in (student, teacher)]


def measure_memory(
    configuration: str, chunk_size: int, images: int, width: int
) -> dict[str, float]:
    """Returns the peak of one step above the memory it starts from, GB."""
    size = chunk_size or None
    small = None if size is None else 64
    make_step(configuration, small)(*make_inputs(4, 32, tokens=32))
    inputs = make_inputs(images, width)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = kilobytes("VmRSS")
    start = time.process_time()
    value, gradient = make_step(configuration, size)(*inputs)
    seconds = time.process_time() - start
    assert 0.0 < float(value) < 1.0
    assert tuple(gradient.shape) == (images, TOKENS, width)
    peak = (kilobytes("VmHWM") - before) * 1024 / 1e9
    result = 4 * images * TOKENS * width / 1e9
    return {
        "peak above the inputs, GB": round(peak, 3),
        "without the gradient that it returns, GB": round(peak - result, 3),
        "CPU s": round(seconds, 1),
    }


def measure_time(
    configuration: str, chunk_size: int, images: int, width: int, rounds: int
) -> Any:
    """Returns medians of the CPU time of both, s, and of their ratio."""
    inputs = make_inputs(images, width)
    steps = [make_step(configuration, size) for size in (None, chunk_size)]
    return times_in_turns(steps, inputs, rounds)


# === In the process that asks ===
def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backends", nargs="*", default=list(CONFIGURATIONS))
    parser.add_argument("--widths", nargs="*", type=int, default=WIDTHS)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--skip-time", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--task", nargs="*", help="what one process measures")
    options = parser.parse_args()
    if options.task:
        kind, configuration, *numbers = options.task
        measure = measure_memory if kind == "memory" else measure_time
        print(json.dumps(measure(configuration, *map(int, numbers))))
        return
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    result["date"] = datetime.date.today().isoformat()
    result["what"] = (
        f"float32, {TOKENS} tokens, {POINTS} points, loss and the student's gradient; "
        f"chunks of {CHUNK} rows; one thread"
    )
    for backend in options.backends:
        for configuration in CONFIGURATIONS[backend]:
            row = result["rows"].setdefault(f"{backend}, {configuration}", {})
            tasks: dict[str, list[Any]] = {}
            for width in options.widths:
                timed = ["time", configuration, CHUNK, TIMED_BATCH, width]
                if not options.skip_time:
                    name = f"{width} channels, {TIMED_BATCH} images"
                    tasks[name] = [*timed, options.rounds]
                if not options.skip_memory:
                    for form, size, images in (
                        ("chunked", CHUNK, BATCH),
                        ("plain", 0, PLAIN_BATCH),
                    ):
                        name = f"{width} channels, {images} images, {form}"
                        tasks[name] = ["memory", configuration, size, images, width]
            for name, task in tasks.items():
                row[name] = in_fresh_process(
                    "benchmarks.correspondence_loss", backend, task
                )
                print(f"{backend}, {configuration}, {name}: {row[name]}", flush=True)
                RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
