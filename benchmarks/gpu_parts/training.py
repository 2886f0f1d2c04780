"""Contrastive training steps: pairs a second and the share of the peak (MFU)."""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu_parts.device import (
    backend,
    forget_peak_memory,
    peak_memory_gb,
    turn,
)
from benchmarks.gpu_parts.kernels import torch_kernels, xla_kernels

# Several processes hold their weights (5 to 8 GB) while one computes: sizes at which
# the whole fits into 80 GB by an estimate of what a block keeps.
BATCHES = {  # without and with recomputed blocks
    "PE-Core-B16-224": {False: 128, True: 256},
    "PE-Core-L14-336": {False: 24, True: 64},
}
TOLD_STEPS = {False: 8, True: 2}
OUT_OF_MEMORY = ("out of memory", "resource_exhausted")


def configs_of(model: str, small: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns constructor arguments of both towers; small: two narrow blocks."""
    from keras_pe.presets.variants import text_config, vision_config

    vision, text = vision_config(model), text_config(model)
    assert text is not None
    if small:
        vision |= {"num_layers": 2, "hidden_dim": 64, "num_heads": 4}
        vision |= {"intermediate_dim": 128, "image_size": 4 * vision["patch_size"]}
        text |= {"num_layers": 2, "hidden_dim": 64, "num_heads": 4}
        text |= {"intermediate_dim": 128, "vocabulary_size": 500}
        text["output_dim"] = vision["output_dim"]
    return vision, text


def make_trainer(vision: dict[str, Any], text: dict[str, Any], remat: bool) -> Any:
    """Returns a compiled trainer in mixed bfloat16 with the paper's optimizer."""
    import keras_pe
    from keras_pe.training import Lamb
    from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer

    policy = "mixed_bfloat16"
    model = keras_pe.PECore(
        keras_pe.PEVisionEncoder(**vision, remat=remat, dtype=policy),
        keras_pe.PETextEncoder(**text, remat=remat, dtype=policy),
    )
    trainer = ContrastiveTrainer(model)
    trainer.compile(Lamb(2e-3, weight_decay=0.05))
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def make_batch(vision: dict[str, Any], text: dict[str, Any], batch: int) -> Any:
    """Returns noise of the training's shapes, on the device."""
    import keras

    side, length = vision["image_size"], text["context_length"]
    images = keras.random.uniform((batch, side, side, 3), -1.0, 1.0, seed=0)
    last = text["vocabulary_size"] - 1  # the end of every text
    ids = keras.random.randint((batch, length), 1, last, seed=1)
    ends = keras.ops.full((batch, 1), last, dtype="int32")
    ids = keras.ops.concatenate([ids[:, 1:], ends], axis=1)
    return {"images": images, "token_ids": ids}


def torch_step(trainer: Any, rows: Any) -> tuple[Callable[[], float], None]:
    """Returns `fit`'s own step, which is not compiled on PyTorch."""
    return lambda: float(trainer.train_on_batch(rows, return_dict=True)["loss"]), None


def jax_step(trainer: Any, rows: Any) -> tuple[Callable[[], float], Any]:
    """Returns the trainer's step, compiled as `fit` does, and the program.

    Compiled ahead of time, so that nothing runs while others measure.
    """
    import jax

    parts = (
        trainer.trainable_variables,
        trainer.non_trainable_variables,
        trainer.optimizer.variables,
        trainer.metrics_variables,
    )
    state = tuple([variable.value for variable in part] for part in parts)
    step = jax.jit(trainer.train_step, donate_argnums=0).lower(state, (rows,)).compile()
    holder = [state]  # its memory is given to each step, which returns the next

    def run() -> float:
        logs, after = step(holder.pop(), (rows,))
        holder.append(after)
        return float(logs["loss"])

    return run, step


def step_of(
    model: str, remat: bool, small: bool, batch: int
) -> tuple[Callable[[], float], Any]:
    """Returns a training step and, on JAX, its compiled program."""
    vision, text = configs_of(model, small)
    trainer = make_trainer(vision, text, remat)
    rows = make_batch(vision, text, batch)
    return (torch_step if backend() == "torch" else jax_step)(trainer, rows)


def measure(model: str, remat: bool, small: bool, peak_tflops: float) -> dict[str, Any]:
    """Returns the figures of one training step.

    Where a batch does not fit into the memory, half of it is tried, and so on.
    """
    batch = 4 if small else BATCHES[model][remat]
    halved: list[str] = []
    while True:
        try:
            row = measure_batch(model, remat, small, batch, peak_tflops)
            return {**row, **({"did not fit": halved} if halved else {})}
        except Exception as error:
            memory = any(text in str(error).lower() for text in OUT_OF_MEMORY)
            if not memory or batch < 8:
                raise
            halved.append(f"batch {batch}: {str(error)[:120]}")
        batch //= 2
        gc.collect()
        forget_peak_memory()


def measure_batch(
    model: str, remat: bool, small: bool, batch: int, peak_tflops: float
) -> dict[str, Any]:
    """Returns the figures of steps of one batch size."""
    from keras_pe.training.devices.flops import loss_flops, text_flops, vision_flops

    compiles = backend() == "jax"
    if compiles:  # side by side with others
        with turn(alone=False):
            step, program = step_of(model, remat, small, batch)
    with turn(alone=True):
        forget_peak_memory()
        if not compiles:  # nothing to wait for, so no memory is held while waiting
            step, program = step_of(model, remat, small, batch)
        losses = [step(), step()]
        seconds = []
        for _ in range(TOLD_STEPS[small]):
            start = time.perf_counter()
            losses.append(step())  # a number: the device has finished
            seconds.append(time.perf_counter() - start)
        memory = peak_memory_gb()
        if backend() == "torch":
            kernels = torch_kernels(step)
        else:
            kernels = xla_kernels(program.as_text())
    assert all(abs(loss) < 100 for loss in losses), f"losses of noise: {losses}"
    vision, text = configs_of(model, small)
    towers = (vision_flops(vision), text_flops(text))
    in_loss = 3 * loss_flops(batch, vision["output_dim"])
    needed = sum(tower.training() for tower in towers) + in_loss
    made = sum(tower.training(remat=remat) for tower in towers) + in_loss
    each = statistics.median(seconds) / batch
    row = {
        "batch": batch,
        "pairs a second": round(1 / each, 1),
        "milliseconds a step": round(1000 * statistics.median(seconds), 2),
        "MFU, %": round(100 * needed / each / 1e12 / peak_tflops, 2),
        "with recomputed operations, %": round(
            100 * made / each / 1e12 / peak_tflops, 2
        ),
        "GFLOP a pair": round(needed / 1e9, 3),
        "losses": [round(loss, 4) for loss in losses[:3]],
        **memory,
        **kernels,
    }
    if program is not None and program.memory_analysis() is not None:
        planned = program.memory_analysis().temp_size_in_bytes / 1e9
        row["planned temporary memory, GB"] = round(planned, 3)
    return row
