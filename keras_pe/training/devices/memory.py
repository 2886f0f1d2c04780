"""The memory that a training step takes on one device."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from keras_pe.training.devices.flops import TowerFlops
from keras_pe.training.devices.sharding import ParameterGroup

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int32": 4}
# As `parameter_groups` writes the numbers of blocks.
BLOCK_PATTERN = r"(block|transformer_layer)_\\d\+"


@dataclasses.dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device.

    Attributes:
        parameters: weights, or its pieces of them.
        gradients: as large as the trainable weights.
        optimizer: moments of the optimizer.
        gathered: a block's weights put together for use, and the next one's.
        activations: what the forward pass keeps for the backward pass.
        loss: embeddings of the whole batch and the rows of the loss matrix at work.
        batch: images and token ids.
    """

    parameters: int
    gradients: int
    optimizer: int
    gathered: int
    activations: int
    loss: int
    batch: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(dataclasses.astuple(self))


def parameter_bytes(groups: Iterable[ParameterGroup], num_devices: int) -> int:
    """Returns the bytes of weights on one device."""
    return sum(
        group.size * BYTES[group.dtype] // (num_devices if group.is_sharded else 1)
        for group in groups
    )


def gathered_bytes(groups: Iterable[ParameterGroup], compute_bytes: int) -> int:
    """Returns the bytes of the largest sharded weights that are whole at one time.

    One block and, prefetched, the next; or one large tensor outside the blocks.
    """
    blocks: dict[str, int] = {}
    largest = 0
    for group in groups:
        if not group.is_sharded:
            continue
        each = group.size // group.count * compute_bytes
        of_block = re.search(BLOCK_PATTERN, group.pattern)
        if of_block is not None:
            tower = group.pattern[: of_block.start()]
            blocks[tower] = blocks.get(tower, 0) + each
        else:
            largest = max(largest, each)
    return max(2 * max(blocks.values(), default=0), largest)


def tower_bytes(
    config: Mapping[str, Any],
    flops: TowerFlops,
    rows: int,
    remat: bool,
    compute_bytes: int,
    fused_attention: bool,
) -> int:
    """Returns the bytes of activations that a tower keeps for the backward pass.

    Per token a block keeps its input, two norms, queries, keys and values before and
    after the rotation (which is float32), the attention's output, the residual sum
    and the feed-forward before and after its activation. With `remat` it keeps its
    input alone, and one block at a time everything.
    """
    hidden, layers = config["hidden_dim"], config["num_layers"]
    tokens = rows * flops.tokens
    inside = tokens * (9 * hidden + 2 * config["intermediate_dim"]) * compute_bytes
    inside += tokens * 2 * hidden * 4
    if not fused_attention:  # probabilities, and the logits in float32
        scores = rows * config["num_heads"] * flops.tokens**2
        inside += scores * (compute_bytes + 4)
    if not remat:
        return layers * inside
    return layers * tokens * hidden * compute_bytes + inside


def loss_bytes(
    batch_size: int, output_dim: int, num_devices: int, chunk_size: int | None
) -> int:
    """Returns the bytes of the contrastive loss: float32, logits and their gradient.

    The embeddings of both sides, and their gradients, are whole on each device.
    """
    rows = batch_size if chunk_size is None else min(chunk_size, batch_size)
    logits = 2 * 4 * -(-rows // num_devices) * batch_size
    return logits + 2 * 2 * 4 * batch_size * output_dim
