"""PE lang and PE spatial: the vision encoder aligned to a language model, or to masks.

Both hand on all tokens of a layer that lies before the output in PE core.
"""

from typing import Any, Unpack

import keras

from keras_pe.models.convert import Changes
from keras_pe.models.vision_arguments import Pooling
from keras_pe.models.vision_encoder import PEVisionEncoder


class Arguments(Changes, total=False):
    """What else `PEVisionEncoder` takes; in these models the first three are off."""

    pooling: Pooling
    output_dim: int | None
    final_norm: bool
    class_token: bool
    pooling_heads: int
    output_bias: bool
    rope: bool
    dtype: Any


TOKENS: Arguments = {"pooling": None, "output_dim": None, "final_norm": False}


@keras.saving.register_keras_serializable("keras_pe")
class PELang(PEVisionEncoder):
    """A `PEVisionEncoder` that returns tokens for a language model to read.

    No pooling, no projection, no final norm, LayerScale 0.1: the published PE lang
    models. Arguments are those of `PEVisionEncoder`, with these defaults.

    Source: Perception Encoder, section 4; upstream `PE_VISION_CONFIG`.

    Example:
        >>> import numpy as np
        >>> encoder = PELang(image_size=32, patch_size=8, hidden_dim=32, num_layers=2,
        ...     num_heads=4, intermediate_dim=64)
        >>> tuple(encoder(np.zeros((1, 32, 32, 3), "float32")).shape)
        (1, 17, 32)
    """

    def __init__(
        self,
        image_size: int = 448,
        patch_size: int = 14,
        hidden_dim: int = 1024,
        num_layers: int = 23,
        num_heads: int = 16,
        intermediate_dim: int = 4096,
        layer_scale: float | None = 0.1,
        name: str | None = None,
        **arguments: Unpack[Arguments],
    ) -> None:
        further: Arguments = {**TOKENS, **arguments}
        super().__init__(
            image_size=image_size,
            patch_size=patch_size,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            intermediate_dim=intermediate_dim,
            layer_scale=layer_scale,
            name=name or "pe_lang",
            **further,
        )


@keras.saving.register_keras_serializable("keras_pe")
class PESpatial(PEVisionEncoder):
    """A `PEVisionEncoder` that returns tokens for detection, segmentation, tracking.

    No pooling, no projection, no final norm: the published PE spatial
    models; only G has LayerScale. Arguments are those of `PEVisionEncoder`, with these
    defaults.

    Source: Perception Encoder, section 5; upstream `PE_VISION_CONFIG`.

    Example:
        >>> import numpy as np
        >>> encoder = PESpatial(image_size=32, patch_size=8, hidden_dim=32,
        ...     num_layers=2, num_heads=4, intermediate_dim=64)
        >>> tuple(encoder(np.zeros((1, 32, 32, 3), "float32")).shape)
        (1, 17, 32)
    """

    def __init__(
        self,
        image_size: int = 448,
        patch_size: int = 14,
        hidden_dim: int = 1024,
        num_layers: int = 24,
        num_heads: int = 16,
        intermediate_dim: int = 4096,
        layer_scale: float | None = None,
        name: str | None = None,
        **arguments: Unpack[Arguments],
    ) -> None:
        further: Arguments = {**TOKENS, **arguments}
        super().__init__(
            image_size=image_size,
            patch_size=patch_size,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            intermediate_dim=intermediate_dim,
            layer_scale=layer_scale,
            name=name or "pe_spatial",
            **further,
        )
