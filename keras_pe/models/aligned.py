"""PE lang and PE spatial: the vision encoder aligned to a language model, or to masks.

Both hand on all tokens of a layer that lies before the output in PE core.
"""

from typing import Any, Self, Unpack

import keras

from keras_pe.models.convert import Changes, checked_core, to_align
from keras_pe.models.vision_arguments import Pooling
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.models.vision_forward import VisionForward


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


def language_layers(num_layers: int) -> int:
    """Returns how many blocks stay for a language model: the paper's share, 47 of 50.

    Example:
        >>> [language_layers(n) for n in (50, 24, 12, 6)]
        [47, 23, 11, 5]
    """
    return max(min(round(num_layers * 47 / 50), num_layers - 1), 1)


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

    @classmethod
    def from_core(
        cls,
        encoder: VisionForward,
        layers: int | None = None,
        layer_scale: float | None = 0.1,
        drop_path: float = 0.1,
        rescale: bool = True,
    ) -> Self:
        """Returns the encoder that language alignment starts from, weights copied.

        As `PESpatial.from_core`, without the last blocks: those of a core model serve
        its embedding.

        Args:
            encoder: a core model's vision encoder; it stays as it is.
            layers: blocks that stay; None for the paper's share, 47 of 50: 23 of 24,
                11 of 12, 5 of 6.
            layer_scale: as of `PESpatial.from_core`.
            drop_path: as of `PESpatial.from_core`. The paper does not print its rate
                here; 0.1 is upstream's for PLM.
            rescale: as of `PESpatial.from_core`.

        Raises:
            TypeError: if it is no vision encoder.
            ValueError: if there are not so many blocks, a number makes no sense, or the
                encoder has LoRA or is quantised.

        Source: Perception Encoder, section 4.1.
        """
        encoder = checked_core(encoder)
        if layers is None:
            layers = language_layers(encoder.num_layers)
        return to_align(cls, encoder, layers, layer_scale, drop_path, rescale)


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

    @classmethod
    def from_core(
        cls,
        encoder: VisionForward,
        layer_scale: float | None = 0.1,
        drop_path: float = 0.4,
        rescale: bool = True,
    ) -> Self:
        """Returns the encoder that spatial alignment starts from, weights copied.

        Pooling, projection, final norm and the text tower stay behind: an aligned
        encoder has no zero-shot head. All its weights are trainable.

        Args:
            encoder: a core model's vision encoder; it stays as it is.
            layer_scale: starting value of the LayerScale that is put in; None for none.
                An encoder that has LayerScale keeps its own.
            drop_path: stochastic depth rate of the last block.
            rescale: whether the matrices before a new LayerScale are divided by it, so
                that the function stays the same. Without, a value of 0.1 all but
                removes what the blocks do: the tokens' cosine to those before is 0.52
                for the bundled model.

        Raises:
            TypeError: if it is no vision encoder.
            ValueError: if a number makes no sense, or the encoder has LoRA or is
                quantised.

        Source: Perception Encoder, section 5.2 and table 21, which do not say whether
            the weights were rescaled.

        Example:
            >>> from keras_pe import PEVisionEncoder
            >>> core = PEVisionEncoder.from_preset("pe_core_emoji_patch8_64")
            >>> PESpatial.from_core(core).layer_scale
            0.1
        """
        encoder = checked_core(encoder)
        return to_align(
            cls, encoder, encoder.num_layers, layer_scale, drop_path, rescale
        )
