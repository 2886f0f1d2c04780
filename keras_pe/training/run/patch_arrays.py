"""The masks or kept patches of a batch: how many there are, and their draw."""

import math
from collections.abc import Callable

import keras
import numpy as np

from keras_pe.training.devices.distribution import host_position
from keras_pe.training.run.config import RunConfig
from keras_pe.training.stages.chunks import num_chunks
from keras_pe.training.stages.patch_sampling import kept_patches, masked_patches


def masked_rows(config: RunConfig, rows: int) -> int:
    """Returns how many pictures of a batch are masked: at least one.

    One in `mask_every` where that divides the batch. Masks lie at even distances and
    each device and each chunk has as many, so elsewhere it is the nearest number
    below for which that works, or the smallest one above.

    Args:
        config: the run.
        rows: pictures in a batch, of all devices.

    Raises:
        ValueError: if no number will do; says which settings are in the way.

    Example:
        >>> config = RunConfig(vision={}, text={}, stages=())
        >>> [masked_rows(config, rows) for rows in (64, 50, 12, 1)]
        [4, 2, 1, 1]
    """
    replicas = batch_parts()
    # JAX alone cuts the rows of all devices into chunks, the others each replica's own.
    whole = keras.backend.backend() == "jax"
    chunks = num_chunks(rows if whole else rows // replicas, config.image_chunk_size)
    parts = math.lcm(replicas, chunks) if whole else replicas * chunks
    good = [n for n in range(parts, rows + 1, parts) if rows % n == 0]
    if not good:
        raise ValueError(
            f"A batch of {rows} pictures on {replicas} devices in {chunks} chunks "
            "can't have equally many masks in each. Take another --batch-size or "
            "--image-chunk-size, or --set mask_weight=0."
        )
    below = [n for n in good if n <= rows // config.mask_every]
    return below[-1] if below else good[0]


def batch_parts() -> int:
    """Returns over how many devices a batch is cut, called where the model is built."""
    backend = keras.backend.backend()
    if backend == "torch":
        return host_position()[1]
    if backend == "tensorflow":
        import tensorflow as tf

        return int(tf.distribute.get_strategy().num_replicas_in_sync)
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return int(mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)])


def patch_arrays(
    config: RunConfig, image_size: int
) -> Callable[[int, np.random.Generator], dict[str, np.ndarray]]:
    """Returns what draws the masks or kept patches of a batch, by its rows."""
    side = image_size // config.vision["patch_size"]
    # Here: a process that makes batches knows no devices.
    masked = masked_rows(config, config.batch_size) if config.mask_weight else 0

    def draw(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        found = {}
        if config.mask_weight:
            found["masked_patches"] = masked_patches(
                masked,
                (side, side),
                config.mask_ratio,
                rng,
                config.mask_block,
            )
        if config.keep_patches < 1.0:
            found["kept_patches"] = kept_patches(
                rows, side * side, config.keep_patches, rng
            )
        return found

    return draw
