"""What an encoder must be to be aligned, or to teach: one that gives its layers."""

from collections.abc import Sequence
from typing import Any, Protocol


class TokenEncoder(Protocol):
    """A vision transformer whose layers can be asked for; each `VisionForward` is one.

    Attributes:
        trainable: whether it is trained.
        hidden_dim: channels of its tokens.
        num_layers: blocks.
        patch_size: side of a patch, pixels.
        prefix_tokens: tokens before those of the patches.
        mask_dim: numbers that stand for a hidden patch, `mask_embedding` below.
    """

    trainable: Any
    hidden_dim: Any
    num_layers: Any
    patch_size: Any

    @property
    def prefix_tokens(self) -> int: ...

    @property
    def mask_dim(self) -> int: ...

    def grid(self, images_shape: Any) -> tuple[int, int]:
        """Returns (rows, columns) of patches of images of this shape, or raises."""

    def layer_tokens(
        self,
        images: Any,
        layers: Sequence[int],
        *,
        masked_patches: Any = None,
        mask_embedding: Any = None,
        drop_path_factors: Any = None,
        training: bool | None = None,
    ) -> list[Any]:
        """Returns `(batch, tokens, hidden_dim)` of each layer; see `VisionForward`."""
