"""PE spatial: the vision encoder aligned for dense prediction."""

from typing import Any

import keras

from keras_pe.models.vision_encoder import PEVisionEncoder


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
        pooling: Any = None,
        output_dim: int | None = None,
        final_norm: bool = False,
        name: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(
            image_size=image_size,
            patch_size=patch_size,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            intermediate_dim=intermediate_dim,
            layer_scale=layer_scale,
            pooling=pooling,
            output_dim=output_dim,
            final_norm=final_norm,
            name=name or "pe_spatial",
            **arguments,
        )
