"""Floating-point operations of both towers, from their sizes alone.

Counted are the matrix products, a multiply-add as two operations; norms, activations,
softmax and RoPE are left out, as is usual (they are about a per cent). The paper and
timm count multiply-adds instead, half of these numbers, and the paper's budgets are
those of the forward pass alone: `TrainingPlan.forward_multiply_adds`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class TowerFlops:
    """Operations of one sample's forward pass through a tower.

    Attributes:
        blocks: inside the transformer blocks, the part that `remat` runs again.
        rest: everything around them.
        tokens: how many tokens the blocks see.
    """

    blocks: int
    rest: int
    tokens: int

    @property
    def forward(self) -> int:
        """Operations of the whole forward pass."""
        return self.blocks + self.rest

    def times(self, images: int) -> "TowerFlops":
        """Returns the operations of so many images, of as many tokens each."""
        return TowerFlops(self.blocks * images, self.rest * images, self.tokens)

    def training(self, remat: bool = False, chunked: bool = False) -> int:
        """Returns the operations that a training step really makes.

        The backward pass costs two forward passes. Rematerialised blocks run once
        more in it, and a tower that is run in chunks runs once more as a whole.
        """
        again = int(remat) * self.blocks + int(chunked) * self.forward
        return 3 * self.forward + again


def block_flops(
    tokens: int, hidden_dim: int, intermediate_dim: int, outputs: int | None = None
) -> int:
    """Returns the forward operations of one transformer block on one sample.

    Causal attention counts in full: whether the masked half is skipped depends on the
    kernel. `outputs` tokens, all by default, go on from the attention.
    """
    outputs = tokens if outputs is None else outputs
    products = 3 * tokens * hidden_dim**2
    products += outputs * (hidden_dim**2 + 2 * hidden_dim * intermediate_dim)
    return 2 * products + 2 * 2 * tokens**2 * hidden_dim


def vision_flops(
    config: Mapping[str, Any], image_size: int | None = None, keep_patches: float = 1.0
) -> TowerFlops:
    """Returns the forward operations of one image.

    Args:
        config: constructor arguments of `PEVisionEncoder`, at least the sizes.
        image_size: side in pixels; None takes the one in `config`.
        keep_patches: share of the patches that the blocks see.

    Returns:
        `TowerFlops`.

    Raises:
        ValueError: if the image is not in whole patches.

    Example:
        >>> from keras_pe.presets.variants import vision_config
        >>> flops = vision_flops(vision_config("PE-Core-B16-224"))
        >>> round(flops.forward / 2e9, 1)  # published: 17.8 billion multiply-adds
        17.8
    """
    size = config["image_size"] if image_size is None else image_size
    patch, hidden = config["patch_size"], config["hidden_dim"]
    if size < patch or size % patch:
        raise ValueError(
            f"Images must have whole patches, got {size} pixels for patches of "
            f"{patch}. Nearest: {max(size // patch, 1) * patch}."
        )
    patches = (size // patch) ** 2
    rest = 2 * patches * 3 * patch**2 * hidden
    tokens = round(patches * keep_patches) + int(config.get("class_token", True))
    pooling = config.get("pooling", "attention")
    if pooling == "attention":
        # Keys and values of all tokens; probe, output and feed-forward of one.
        rest += 2 * tokens * 2 * hidden**2 + 2 * (2 + 8) * hidden**2
        rest += 2 * 2 * tokens * hidden
    if config.get("output_dim") is not None:
        projected = tokens if pooling is None else 1
        rest += 2 * projected * hidden * config["output_dim"]
    block = block_flops(tokens, hidden, config["intermediate_dim"])
    return TowerFlops(config["num_layers"] * block, rest, tokens)


def text_flops(config: Mapping[str, Any], tokens: int | None = None) -> TowerFlops:
    """Returns the forward operations of one text.

    Args:
        config: constructor arguments of `PETextEncoder`.
        tokens: length of the text with padding; None takes the whole context.

    Returns:
        `TowerFlops`. Looking up embeddings is no arithmetic.

    Example:
        >>> from keras_pe.presets.variants import text_config
        >>> round(text_flops(text_config("PE-Core-B16-224")).forward / 2e9, 1)
        9.4
    """
    length = config["context_length"] if tokens is None else tokens
    hidden = config["hidden_dim"]
    block = block_flops(length, hidden, config["intermediate_dim"])
    # In the last block the pooled token alone goes on, and it is never run again.
    rest = block_flops(length, hidden, config["intermediate_dim"], outputs=1)
    rest += 2 * hidden * config["output_dim"]
    return TowerFlops((config["num_layers"] - 1) * block, rest, length)


def loss_flops(batch_size: int, output_dim: int) -> int:
    """Returns the forward operations of the contrastive loss, for one pair."""
    return 2 * batch_size * output_dim
