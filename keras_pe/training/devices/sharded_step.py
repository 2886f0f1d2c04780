"""Compiles a training step for many devices without allocating a single weight.

The program is the one that `fit` runs: forward, loss, backward and optimizer update of
the trainer, for weights and batch laid out as `sharding` beside this says. It
proves that the layout works and tells the memory of a device, on a laptop, before
hardware is rented.
"""

import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Any

from keras_pe.layers.initializers import without_allocation
from keras_pe.training.devices.sharding import require_jax

Inputs = dict[str, tuple[tuple[int, ...], str]]  # (shape, dtype) by name

# CPU only. XLA drops the barriers of rematerialisation first thing on a CPU and then
# merges the recomputation with the first computation, so that remat saves nothing;
# without this pass the barriers stay. The rest saves three quarters of the time (JAX
# 0.10): the program is never run.
CPU_OPTIONS = {
    "xla_disable_hlo_passes": "cse_barrier_expander",
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What XLA says of a compiled training step. Bytes are those of one device.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        num_devices: devices of the program.
        batch_size: rows of a step, over all devices.
        image_size: side of the images, pixels.
        argument_bytes: weights, optimizer state and batch.
        temporary_bytes: gradients, activations and gathered weights at their peak.
        lower_seconds: time to trace.
        compile_seconds: time to partition and compile.
    """

    platform: str
    num_devices: int
    batch_size: int
    image_size: int
    argument_bytes: int
    temporary_bytes: int
    lower_seconds: float
    compile_seconds: float

    @property
    def device_bytes(self) -> int:
        """All memory of a device that the step takes."""
        return self.argument_bytes + self.temporary_bytes

    def __str__(self) -> str:
        return (
            f"compiled for {self.num_devices} {self.platform} devices, batch "
            f"{self.batch_size:,} at {self.image_size} px: "
            f"{self.argument_bytes / 1e9:.2f} GB of weights, optimizer state and batch "
            f"+ {self.temporary_bytes / 1e9:.2f} GB of temporaries = "
            f"{self.device_bytes / 1e9:.2f} GB a device (traced in "
            f"{self.lower_seconds:.0f} s, compiled in {self.compile_seconds:.0f} s)"
        )


def use_virtual_devices(count: int) -> None:
    """Makes JAX show the CPU as so many devices, to compile for or to test on.

    Args:
        count: how many.

    Raises:
        RuntimeError: on another backend than JAX, or if JAX has begun to use its
            devices. Call it before anything is computed.

    Example:
        >>> use_virtual_devices(8)                        # doctest: +SKIP
        >>> len(keras.distribution.list_devices())        # doctest: +SKIP
        8
    """
    require_jax("use_virtual_devices()")
    import jax

    # Each device may wait in several collectives at a time, and a waiting one keeps its
    # thread: with one thread a device, as XLA has them, all can end up waiting.
    os.environ.setdefault("PJRT_NPROC", str(16 * count))
    try:
        jax.config.update("jax_num_cpu_devices", count)
        jax.config.update("jax_platforms", "cpu")
    except RuntimeError as error:
        if jax.device_count() == count and jax.default_backend() == "cpu":
            return
        raise RuntimeError(
            f"JAX has already started with {jax.device_count()} "
            f"{jax.default_backend()} devices, expected to make {count} of the CPU. "
            f"Call use_virtual_devices before anything is computed, best in a process "
            f"of its own."
        ) from error


def step_inputs(
    vision: Mapping[str, Any],
    text: Mapping[str, Any],
    batch_size: int,
    image_size: int,
    mask_every: int | None = None,
    keep_patches: float = 1.0,
    num_frames: int | None = None,
) -> Inputs:
    """Returns shape and dtype of each array of a batch of `ContrastiveTrainer`.

    Args:
        vision: constructor arguments of `PEVisionEncoder`.
        text: constructor arguments of `PETextEncoder`.
        batch_size: rows of a step, over all devices.
        image_size: side of the images, pixels.
        mask_every: one image in so many has a masked copy; None for no masks.
        keep_patches: share of the patches that stays; below 1 drops the others.
        num_frames: frames of a clip; None for images.

    Returns:
        `(shape, dtype)` by name.

    Raises:
        ValueError: if the batch is too small for a masked image.
    """
    patches = (image_size // vision["patch_size"]) ** 2
    frames = () if num_frames is None else (num_frames,)
    inputs: Inputs = {
        "images": ((batch_size, *frames, image_size, image_size, 3), "float32"),
        "token_ids": ((batch_size, text["context_length"]), "int32"),
    }
    if mask_every is not None:
        if not batch_size // mask_every:
            raise ValueError(
                f"One image in {mask_every} of a batch of {batch_size} is none: "
                f"there is nothing to mask. Take a larger batch, or mask more of it."
            )
        inputs["masked_patches"] = ((batch_size // mask_every, patches), "bool")
    if keep_patches < 1.0:
        kept = round(patches * keep_patches)
        inputs["kept_patches"] = ((batch_size, kept), "int32")
    return inputs


def lower_step(trainer: Any, inputs: Inputs, distribution: Any) -> Any:
    """Traces a training step for many devices.

    Args:
        trainer: a compiled trainer whose model was built in `without_allocation`, and
            under no distribution yet.
        inputs: shape and dtype of each array of the whole batch, from `step_inputs`.
        distribution: from `sharding` beside this. Its devices may be those of a
            `jax.experimental.topologies` description, which no one needs to own.

    Returns:
        A `jax.stages.Lowered`.

    Raises:
        RuntimeError: on another backend than JAX.
        ValueError: if a number of rows does not divide over the devices.
    """
    require_jax("lower_step()")
    import jax

    num_devices = int(distribution.device_mesh.devices.size)
    for name, (shape, _) in inputs.items():
        if shape[0] % num_devices:
            raise ValueError(
                f"Rows must divide over the {num_devices} devices, got {shape[0]} rows "
                f"of {name}. Choose a batch (and with masks a sixteenth of it) that is "
                f"a multiple of {num_devices}."
            )
    # Keras lays a variable out when it gives it a value, which never happens here.
    # The optimizer's moments take over the layout of their variable.
    for variable in trainer.variables:
        variable._layout = distribution.get_variable_layout(variable)
    with without_allocation():
        trainer.optimizer.build(trainer.trainable_variables)

    def described(variable: Any) -> Any:
        layout = distribution.get_variable_layout(variable)
        sharding = layout.backend_layout
        return jax.ShapeDtypeStruct(variable.shape, variable.dtype, sharding=sharding)

    state = tuple(
        [described(variable) for variable in variables]
        for variables in (
            trainer.trainable_variables,
            trainer.non_trainable_variables,
            trainer.optimizer.variables,
            trainer.metrics_variables,
        )
    )
    batch = {
        name: jax.ShapeDtypeStruct(
            shape, dtype, sharding=distribution.get_data_layout(shape).backend_layout
        )
        for name, (shape, dtype) in inputs.items()
    }
    step = jax.jit(
        trainer.train_step,
        donate_argnums=0,
        out_shardings=(None, jax.tree.map(lambda array: array.sharding, state)),
    )
    with distribution.scope():
        return step.lower(state, (batch,))


def compile_step(trainer: Any, inputs: Inputs, distribution: Any) -> CompiledStep:
    """Traces and compiles a training step for many devices, and reports its memory.

    On virtual CPU devices the temporaries are more than an accelerator has: XLA's CPU
    compiler sums whole gradients where others sum pieces, has no fused attention and
    computes bfloat16 in float32. What weights and optimizer state take is exact.

    Args: as `lower_step`.

    Returns:
        `CompiledStep`.

    Raises: as `lower_step`.

    Example:
        >>> use_virtual_devices(8)                                   # doctest: +SKIP
        >>> with without_allocation():                               # doctest: +SKIP
        ...     model = build_model()
        >>> trainer = ContrastiveTrainer(model)                      # doctest: +SKIP
        >>> trainer.compile(Lamb(2e-3))                              # doctest: +SKIP
        >>> inputs = step_inputs(vision, text, 128, 98)              # doctest: +SKIP
        >>> distribution = sharded_parameters(model.variables)       # doctest: +SKIP
        >>> print(compile_step(trainer, inputs, distribution))       # doctest: +SKIP
    """
    start = time.perf_counter()
    lowered = lower_step(trainer, inputs, distribution)
    traced = time.perf_counter()
    device = distribution.device_mesh.backend_mesh.devices.flat[0]
    options = CPU_OPTIONS if device.platform == "cpu" else None
    compiled = lowered.compile(compiler_options=options)
    done = time.perf_counter()
    memory = compiled.memory_analysis()
    # Rows of several images have them before height and width.
    batch_size, *_, image_size, _ = inputs["images"][0]
    return CompiledStep(
        platform=device.platform,
        num_devices=int(distribution.device_mesh.devices.size),
        batch_size=batch_size,
        image_size=image_size,
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        lower_seconds=traced - start,
        compile_seconds=done - traced,
    )
