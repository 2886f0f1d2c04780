"""Sets up the devices of a recipe: one, those of a machine, or those of many machines.

PyTorch:     torchrun --nproc-per-node 8 -m recipes.pretrain ...
TensorFlow:  the usual command; all GPUs of the machine take part.
JAX:         the usual command; all devices of the machine take part. Of many machines:
             the same command on each, with --coordinator auto on a Cloud TPU pod, else
             --coordinator HOST:PORT --num-processes N --process-id I.
To try it:   --virtual-devices 2 makes two of a CPU, on JAX and TensorFlow.
"""

import argparse
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import keras

from keras_pe.layers.initializers import without_allocation
from keras_pe.training.devices.distribution import host_position
from keras_pe.training.devices.sharding import (
    check_sharded,
    data_parallel,
    sharded_parameters,
)
from keras_pe.training.devices.torch_loop import process_group

Sharding = Literal["data", "parameters"]


# === Command line ===
def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says which devices a recipe runs on."""
    group = parser.add_argument_group("many devices")
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="JAX on many machines: address of process 0, or 'auto' on a TPU pod",
    )
    group.add_argument("--num-processes", type=int, help="with --coordinator")
    group.add_argument("--process-id", type=int, help="with --coordinator, from 0")
    group.add_argument(
        "--virtual-devices", type=int, metavar="N", help="make N of the CPU, to try"
    )


def start_devices(options: argparse.Namespace) -> None:
    """Makes virtual devices and joins other machines, as the command line says.

    Args:
        options: with what `add_device_arguments` added. Nothing may have been computed
            before.

    Raises:
        SystemExit: if the options do not fit together or the backend has no such thing.
    """
    backend = keras.backend.backend()
    if options.virtual_devices is not None:
        make_virtual_devices(options.virtual_devices)
    numbers = (options.num_processes, options.process_id)
    if options.coordinator is None:
        if numbers != (None, None):
            raise SystemExit("--num-processes and --process-id need --coordinator.")
        return
    if backend != "jax":
        raise SystemExit(
            f"--coordinator is for JAX, got the {backend} backend. PyTorch: start with "
            f"torchrun, which knows several machines too."
        )
    if options.coordinator == "auto":
        keras.distribution.initialize()
        return
    if None in numbers:
        raise SystemExit("--coordinator needs --num-processes and --process-id.")
    # `initialize` of Keras reads these three from the environment, or takes them.
    keras.distribution.initialize(options.coordinator, *numbers)


def make_virtual_devices(count: int) -> None:
    """Shows the CPU as so many devices."""
    if keras.backend.backend() == "jax":
        from keras_pe.training.devices.sharded_step import use_virtual_devices

        use_virtual_devices(count)
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * count,
        )
    else:
        raise SystemExit(
            "--virtual-devices is for JAX and TensorFlow. PyTorch: start with "
            f"`torchrun --nproc-per-node {count} -m ...`."
        )


# === Training ===
@contextlib.contextmanager
def all_devices(
    sharding: Sharding, variables: Callable[[], Iterable[Any]]
) -> Iterator[int]:
    """Spreads what is built and trained inside over all devices there are.

    Args:
        sharding: "data" copies the weights to each device, "parameters" cuts them into
            one piece a device, which JAX alone can.
        variables: makes the variables of the model that will be trained, for the
            layout of their pieces. It is called where nothing is allocated.

    Yields:
        The number of devices.

    Raises:
        ValueError: if weights are to be cut on another backend than JAX.
    """
    backend = keras.backend.backend()
    if backend == "torch" and "RANK" in os.environ:
        with process_group() as (_, count):
            refuse_pieces(sharding, count)
            yield count
    elif backend == "tensorflow":
        import tensorflow as tf

        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        names = [device.name for device in tf.config.list_logical_devices(kind)]
        refuse_pieces(sharding, len(names))
        if len(names) == 1:
            yield 1
            return
        with tf.distribute.MirroredStrategy(names).scope():
            yield len(names)
    elif backend == "jax" and len(keras.distribution.list_devices()) > 1:
        if sharding == "parameters":
            with without_allocation():
                distribution = sharded_parameters(variables())
        else:
            distribution = data_parallel()
        with distribution.scope():
            yield len(keras.distribution.list_devices())
    else:
        yield 1


def refuse_pieces(sharding: Sharding, num_devices: int) -> None:
    """Raises if weights that are to be cut would be copied."""
    if sharding == "parameters" and num_devices > 1:
        raise ValueError(
            f"This configuration cuts its weights into pieces, which needs Keras on "
            f"JAX, got the {keras.backend.backend()} backend. Set KERAS_BACKEND=jax, "
            f'or take sharding="data" if the weights fit on each device.'
        )


def check_layout(trainer: keras.Model) -> None:
    """Raises if large weights or moments were not cut though they should be.

    Args:
        trainer: compiled, and made inside `all_devices`.
    """
    distribution = keras.distribution.distribution()
    if isinstance(distribution, keras.distribution.ModelParallel):
        trainer.optimizer.build(trainer.trainable_variables)
        check_sharded([*trainer.variables, *trainer.optimizer.variables], distribution)


def is_first_process() -> bool:
    """Whether this process writes what only one should write."""
    return host_position()[0] == 0
