"""The size table: every released model as constructor arguments."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class VisionSize:
    """One vision tower. All have 2D RoPE and 8 pooling heads where they pool."""

    image_size: int
    patch_size: int
    hidden_dim: int
    num_layers: int
    num_heads: int
    intermediate_dim: int
    class_token: bool
    output_dim: int | None = None  # None: tokens come out, neither pooled nor normed
    layer_scale: float | None = None


@dataclasses.dataclass(frozen=True)
class TextSize:
    """One text tower."""

    context_length: int
    hidden_dim: int
    num_layers: int
    num_heads: int
    intermediate_dim: int
    output_dim: int


# Source: Perception Encoder, tables 4 and 17; T and S from the model card,
# apps/pe/README.md. Where they differ from the released weights, as in the width of
# S (384, printed as 394), core/vision_encoder/config.py upstream counts.
VISION: dict[str, VisionSize] = {
    # name                                image patch width layers heads mlp class out
    "PE-Core-T16-384": VisionSize(384, 16, 192, 12, 3, 768, True, 512),
    "PE-Core-S16-384": VisionSize(384, 16, 384, 12, 6, 1536, True, 512),
    "PE-Core-B16-224": VisionSize(224, 16, 768, 12, 12, 3072, True, 1024),
    "PE-Core-L14-336": VisionSize(336, 14, 1024, 24, 16, 4096, True, 1024),
    "PE-Core-G14-448": VisionSize(448, 14, 1536, 50, 16, 8960, False, 1280),
    # Source: section 4; one block less for L, three less for G, LayerScale 0.1.
    "PE-Lang-L14-448": VisionSize(448, 14, 1024, 23, 16, 4096, True, None, 0.1),
    "PE-Lang-G14-448": VisionSize(448, 14, 1536, 47, 16, 8960, False, None, 0.1),
    "PE-Lang-L14-448-Tiling": VisionSize(448, 14, 1024, 23, 16, 4096, True, None, 0.1),
    "PE-Lang-G14-448-Tiling": VisionSize(448, 14, 1536, 47, 16, 8960, False, None, 0.1),
    # Source: section 5 for G, the model card for the others; only G has LayerScale.
    "PE-Spatial-T16-512": VisionSize(512, 16, 192, 12, 3, 768, True),
    "PE-Spatial-S16-512": VisionSize(512, 16, 384, 12, 6, 1536, True),
    "PE-Spatial-B16-512": VisionSize(512, 16, 768, 12, 12, 3072, True),
    "PE-Spatial-L14-448": VisionSize(448, 14, 1024, 24, 16, 4096, True),
    "PE-Spatial-G14-448": VisionSize(448, 14, 1536, 50, 16, 8960, False, None, 0.1),
}

# Source: Perception Encoder, table 17; T and S from the model card.
TEXT: dict[str, TextSize] = {
    # name                      context width layers heads mlp out
    "PE-Core-T16-384": TextSize(32, 512, 12, 8, 2048, 512),
    "PE-Core-S16-384": TextSize(32, 512, 12, 8, 2048, 512),
    "PE-Core-B16-224": TextSize(32, 1024, 24, 16, 4096, 1024),
    "PE-Core-L14-336": TextSize(32, 1024, 24, 16, 4096, 1024),
    "PE-Core-G14-448": TextSize(72, 1280, 24, 20, 5120, 1280),
}
VOCABULARY_SIZE = 49408  # CLIP's byte-pair encoding, the same for all
POOLING_HEADS = 8


def names() -> tuple[str, ...]:
    """Returns the official names of all released models.

    Example:
        >>> names()[:2]
        ('PE-Core-T16-384', 'PE-Core-S16-384')
    """
    return tuple(VISION)


def vision_config(name: str) -> dict[str, Any]:
    """Returns the vision tower of a released model as constructor arguments.

    Args:
        name: official name, such as "PE-Core-L14-336".

    Returns:
        Arguments for `PEVisionEncoder`, or `PELang` or `PESpatial` by the name.

    Raises:
        ValueError: if there is no such model.

    Source: upstream `core/vision_encoder/config.py`.

    Example:
        >>> vision_config("PE-Core-G14-448")["intermediate_dim"]
        8960
    """
    if name not in VISION:
        raise ValueError(
            f"Unknown model {name!r}: expected an official name, one of "
            f"{', '.join(VISION)}."
        )
    size = VISION[name]
    pools = size.output_dim is not None
    return {
        **dataclasses.asdict(size),
        "pooling": "attention" if pools else None,
        "pooling_heads": POOLING_HEADS,
        "final_norm": pools,
    }


def text_config(name: str) -> dict[str, Any] | None:
    """Returns the text tower of a released model as constructor arguments.

    Args:
        name: official name, such as "PE-Core-L14-336".

    Returns:
        Arguments for `PETextEncoder`, or None for a model without text tower.

    Raises:
        ValueError: if there is no such model.

    Source: upstream `core/vision_encoder/config.py`.

    Example:
        >>> text_config("PE-Core-G14-448")["context_length"]
        72
    """
    vision_config(name)  # refuses unknown names
    if name not in TEXT:
        return None
    return {**dataclasses.asdict(TEXT[name]), "vocabulary_size": VOCABULARY_SIZE}
