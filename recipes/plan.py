"""What a run of `recipes.pretrain` needs, before any hardware is rented.

Run:      python -m recipes.plan --config paper-g14 --devices 256
          (of an alignment: python -m recipes.align_spatial --plan --devices 256)
Expect:   parameters, operations, memory of a device, steps and the layout of weights
          within seconds, on any backend and with nothing allocated. On JAX, for a run
          whose weights are cut in pieces, minutes later also what XLA says of the
          training step, compiled for virtual devices of this machine.
"""

import argparse
import dataclasses
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_pe.layers.initializers import without_allocation
from keras_pe.training.devices import sharded_step
from keras_pe.training.devices.sharding import data_parallel, sharded_parameters
from keras_pe.training.run import language_parts, language_plan, spatial_plan
from keras_pe.training.run.config import (
    RunConfig,
    build_model,
    build_trainer,
    freeze,
    read_config,
)
from keras_pe.training.run.language_config import LanguageConfig
from keras_pe.training.run.options import (
    add_run_arguments,
    add_shard_arguments,
    recipe_parser,
    with_overrides,
)
from keras_pe.training.run.plan import plan_training
from keras_pe.training.run.plan_parts import RunPlan
from keras_pe.training.run.spatial_config import SpatialConfig, unallocated_trainer
from keras_pe.training.run.spatial_plan import plan_alignment
from keras_pe.training.run.start import said_plainly
from keras_pe.training.run.training_config import TrainingConfig, build_optimizer
from keras_pe.training.trainers.base import BaseTrainer
from recipes.configs import CONFIGS

# Operations a second in bfloat16, dense, as their makers publish them.
PEAK_FLOPS = {"H100 SXM": 989e12, "TPU v5p": 459e12}
# A share of the peak that large transformers reach (Chowdhery et al. 2022, table 3).
UTILIZATION = 0.4
VIRTUAL_DEVICES = 8


def print_plan(
    name: str,
    config: TrainingConfig,
    devices: int,
    compile_step: bool | None = None,
    teraflops: float | None = None,
) -> None:
    """Prints what a run needs; allocates nothing.

    Args:
        name: of the configuration, for the heading.
        config: the run, of pretraining or of an alignment.
        devices: how many devices share it.
        compile_step: whether the training step is also compiled for virtual devices.
            None does so on JAX where the weights are cut in pieces.
        teraflops: what a device really computes a second, for the days it takes; None
            for a share of the peaks of some.

    Raises:
        RuntimeError: if a step is to be compiled on another backend than JAX.
    """
    plan = plan_of(config, devices)
    print(f"{name}\n\n{plan}\n")
    if teraflops is None:
        times = ", ".join(
            f"{_rounded(plan.device_days(peak, UTILIZATION))} {device}"
            for device, peak in PEAK_FLOPS.items()
        )
        print(f"device days at {UTILIZATION:.0%} of the peak: {times}", flush=True)
    else:
        days = plan.device_days(teraflops * 1e12, 1.0)
        print(
            f"device days at {teraflops:g} TFLOP/s: {_rounded(days)}, which are "
            f"{_rounded(days / devices)} days on {devices:,} devices",
            flush=True,
        )
    on_jax = keras.backend.backend() == "jax"
    if compile_step is None:
        compile_step = on_jax and config.sharding == "parameters"
    if compile_step and not on_jax:
        raise RuntimeError(
            f"A step for many devices is compiled by JAX, got the "
            f"{keras.backend.backend()} backend. Set KERAS_BACKEND=jax."
        )
    if compile_step:
        compile_aside(config, devices)


def plan_of(
    config: TrainingConfig, devices: int, fused_attention: bool = True
) -> RunPlan:
    """Returns the plan of a run of pretraining or of an alignment."""
    if isinstance(config, LanguageConfig):
        return language_plan.plan_language(
            config, devices, fused_attention=fused_attention
        )
    if isinstance(config, SpatialConfig):
        return plan_alignment(config, devices, fused_attention=fused_attention)
    assert isinstance(config, RunConfig)
    return plan_training(config, devices, fused_attention=fused_attention)


# === The compiled step ===
def compile_aside(config: TrainingConfig, devices: int) -> None:
    """Compiles in a process of its own: JAX can show a CPU as many devices only
    before it first uses it."""
    small = small_step(config, min(devices, VIRTUAL_DEVICES))
    rows = f"a batch of {small.batch_size:,} in place of {config.batch_size:,}"
    print(
        f"\nCompiling the training step for {min(devices, VIRTUAL_DEVICES)} virtual "
        f"devices, with {rows} and no chunks. The plan above is whole; this takes "
        f"minutes (paper-g14: twenty on two cores), and Ctrl-C leaves it out ...",
        flush=True,
    )
    order = {
        "kind": type(config).__name__,
        "config": dataclasses.asdict(small),
        "devices": devices,
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from recipes.plan import compile_order\ncompile_order()",
        ],
        input=json.dumps(order),
        cwd=Path(__file__).parents[1],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"Compiling the training step failed (exit status {done.returncode}); what "
            f"went wrong stands above."
        )


def small_step(config: TrainingConfig, devices: int) -> Any:
    """Returns a configuration with the fewest rows that all devices take part in.

    Weights, optimizer and layout are the run's own; activations are those of a batch
    of one image a device, of pretraining with masks of one masked image a device, of
    language alignment of one packed row a device.
    """
    chunks: dict[str, Any] = {"image_chunk_size": None, "loss_chunk_size": None}
    each = 1
    if isinstance(config, RunConfig):
        chunks["text_chunk_size"] = None
        each = config.mask_every if config.mask_weight else 1
    if isinstance(config, LanguageConfig):
        each = language_plan.samples_of_row(config)
    return dataclasses.replace(config, batch_size=devices * each, **chunks)


def trainer_and_inputs(
    config: TrainingConfig,
) -> tuple[BaseTrainer, sharded_step.Inputs]:
    """Returns a compiled trainer without values, and the batch of largest images."""
    image_size = max(stage.image_size for stage in config.stages)
    if isinstance(config, LanguageConfig):
        speaking = language_parts.unallocated_trainer(config)
        rates = language_parts.part_rates(config, speaking)
        speaking.compile(optimizer=build_optimizer(config, rates))
        return speaking, language_plan.step_inputs(config, speaking)
    if isinstance(config, SpatialConfig):
        aligning = unallocated_trainer(config)
        aligning.compile(optimizer=build_optimizer(config))
        return aligning, spatial_plan.step_inputs(config, aligning, image_size)
    assert isinstance(config, RunConfig)
    with without_allocation():
        model = build_model(config)
    freeze(model, config.freeze)
    inputs = sharded_step.step_inputs(
        config.vision,
        config.text,
        config.batch_size,
        image_size,
        mask_every=config.mask_every if config.mask_weight else None,
        keep_patches=config.keep_patches,
        num_frames=config.num_frames,
    )
    return build_trainer(config, model), inputs


def compile_here(config: TrainingConfig, devices: int) -> None:
    """Compiles the step of the largest images and prints what it takes."""
    sharded_step.use_virtual_devices(devices)
    trainer, inputs = trainer_and_inputs(config)
    if config.sharding == "parameters":
        distribution = sharded_parameters(trainer.variables)
    else:
        distribution = data_parallel()
    step = sharded_step.compile_step(trainer, inputs, distribution)
    print(step)
    stages = plan_of(config, devices, fused_attention=False).stages
    estimate = max(stage.memory.total for stage in stages)
    whole = 4 * sum(math.prod(w.shape) for w in trainer.trainable_weights)
    print(
        f"the plan's estimate for the same, with plain attention: "
        f"{estimate / 1e9:.2f} GB a device. XLA for CPUs needs more: it sums whole "
        f"gradients, not pieces (up to {whole / 1e9:.2f} GB), and computes bfloat16 in "
        f"float32."
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"the compiler itself took {peak / 1e9:.1f} GB")


def _rounded(days: float) -> str:
    """Returns days in whole ones where there are many: 13,470, not 1.347e+04."""
    return f"{days:,.0f}" if days >= 1000 else f"{days:.4g}"


def compile_order() -> None:
    """Compiles what another process asks for on its standard input."""
    order = json.load(sys.stdin)
    kind = {cls.__name__: cls for cls in (RunConfig, SpatialConfig, LanguageConfig)}[
        order["kind"]
    ]
    config = read_config(order["config"], kind)
    compile_here(config, min(order["devices"], VIRTUAL_DEVICES))


def add_plan_arguments(parser: Any) -> None:
    """Adds on how many devices a run is planned, and how fast these are."""
    parser.add_argument(
        "--devices", type=int, default=8, metavar="N", help="that share it (default 8)"
    )
    parser.add_argument(
        "--teraflops",
        type=float,
        metavar="RATE",
        help="what a device really computes a second, for the days that it takes",
    )


def add_plan_group(parser: argparse.ArgumentParser) -> None:
    """Adds `--plan` to a recipe that has its own configurations."""
    group = parser.add_argument_group("a plan in place of a run")
    group.add_argument(
        "--plan", action="store_true", help="print what the run needs, and stop"
    )
    add_plan_arguments(group)


def plans_instead(
    options: argparse.Namespace, configured: Callable[[], TrainingConfig]
) -> bool:
    """Prints the plan if `--plan` asks for it; returns whether it did.

    Args:
        options: the parsed command line.
        configured: returns the run with what the command line changes.
    """
    if options.plan:
        with said_plainly():
            name, devices = options.config, options.devices
            print_plan(name, configured(), devices, teraflops=options.teraflops)
    return bool(options.plan)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = recipe_parser("recipes.plan", __doc__, CONFIGS, "[--devices N]")
    add_plan_arguments(parser)
    add_shard_arguments(parser)
    add_run_arguments(parser)  # the command line of a run can be planned as it is
    return parser.parse_args(arguments)


def main() -> None:
    """Prints the plan."""
    options = parse()
    with said_plainly():
        config = with_overrides(CONFIGS[options.config], options)
        name, devices = options.config, options.devices
        print_plan(name, config, devices, teraflops=options.teraflops)


if __name__ == "__main__":
    main()
