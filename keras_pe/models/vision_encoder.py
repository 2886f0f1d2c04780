"""The vision tower of Perception Encoder."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

import keras

from keras_pe.layers.fine_tuning import Dense
from keras_pe.layers.initializers import RandomNormal
from keras_pe.layers.patch_embedding import PatchEmbedding
from keras_pe.layers.transformer import NORM_EPSILON, AttentionPooling
from keras_pe.models.convert import Changes, KernelResize, converted, truncated
from keras_pe.models.preset_model import PresetModel
from keras_pe.models.vision_arguments import (
    Pooling,
    check_vision_arguments,
    check_windows,
)
from keras_pe.models.vision_forward import VisionForward
from keras_pe.presets.save import MAX_SHARD_GB, save_preset, warn_of_missing


@keras.saving.register_keras_serializable("keras_pe")
class PEVisionEncoder(PresetModel, VisionForward):
    """Perception Encoder's vision transformer: 2D RoPE, pre-norm, attention pooling.

    Called on images it returns what the published tower returns: the pooled and
    projected embedding, not normalised, or all tokens where `pooling` is None.
    Images may have any height and width in whole patches.

    Args:
        image_size: side in pixels that the position embedding is made for.
        patch_size: side of a patch, pixels.
        hidden_dim: channels of a token.
        num_layers: transformer blocks.
        num_heads: attention heads.
        intermediate_dim: channels inside each feed-forward.
        output_dim: channels of the embedding; None leaves the projection out.
        class_token: whether a class token comes before the patches. Patches are then
            counted from 1 by RoPE, without one from 0.
        pooling: "attention" (all core models), "token" (the class token), "average"
            (over all tokens, the class token included, as upstream) or None.
        pooling_heads: heads of the attention pooling.
        final_norm: whether a norm follows the last block.
        layer_scale: starting value of LayerScale; None for none.
        drop_path: stochastic depth rate of the last block; earlier blocks have less,
            linearly down to 0 for the first.
        output_bias: whether the projection has a bias. Published models have none;
            timm's files can hold one.
        rope: whether attention has 2D RoPE, as all published models. Without it there
            are learned absolute positions alone, the paper's baseline.
        rope_reference_grid: None for integer RoPE positions (paper, upstream). timm
            instead scales positions to the model's native grid, a side in patches:
            the same at the native size, not at others.
        remat: whether blocks are recomputed in the backward pass to save memory.
        window_size: side in patches of the windows that blocks attend in, for images
            larger than a window; None, as in pretraining: the whole image. See
            `keras_pe.layers.windows`.
        global_blocks: blocks that see the whole image in spite of windows, counted
            from 1 (negatives from the end).
        tiled_positions: whether windows, of the native size, each get the position
            embedding as it is, instead of the image one resampled to its size.
        name: name of the model.
        dtype: dtype or dtype policy of all layers.

    Raises:
        ValueError: if the sizes do not fit together.

    Source: Perception Encoder, table 17; upstream `VisionTransformer`.

    Example:
        >>> import numpy as np
        >>> encoder = PEVisionEncoder(image_size=32, patch_size=8, hidden_dim=32,
        ...     num_layers=2, num_heads=4, intermediate_dim=64, output_dim=16)
        >>> tuple(encoder(np.zeros((1, 32, 32, 3), "float32")).shape)
        (1, 16)
        >>> encoder.features(np.zeros((1, 32, 48, 3), "float32"), layers=-1)
        Features(layer=2, normed=False, grid=(4, 6), class_token=False, shape=(1, 24, 32))
    """  # noqa: E501

    modality = "vision"

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        hidden_dim: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        intermediate_dim: int = 3072,
        output_dim: int | None = 1024,
        class_token: bool = True,
        pooling: Pooling = "attention",
        pooling_heads: int = 8,
        final_norm: bool = True,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        output_bias: bool = False,
        rope: bool = True,
        rope_reference_grid: int | None = None,
        remat: bool = False,
        window_size: int | None = None,
        global_blocks: Sequence[int] = (),
        tiled_positions: bool = False,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            intermediate_dim=intermediate_dim,
            layer_scale=layer_scale,
            drop_path=drop_path,
            causal=False,
            remat=remat,
            name=name or "pe_vision_encoder",
            dtype=dtype,
        )
        check_vision_arguments(
            image_size,
            patch_size,
            hidden_dim,
            num_heads,
            output_dim,
            pooling,
            pooling_heads,
            class_token,
            rope,
            rope_reference_grid,
        )
        if output_bias and output_dim is None:
            raise ValueError("output_bias=True needs an output_dim, got None.")
        side = image_size // patch_size
        self.window_size = window_size
        self.global_blocks = check_windows(
            window_size, global_blocks, tiled_positions, num_layers, side
        )
        self.tiled_positions = tiled_positions
        self.image_size = image_size
        self.patch_size = patch_size
        self.output_dim = output_dim
        self.class_token = class_token
        self.pooling = pooling
        self.pooling_heads = pooling_heads
        self.final_norm = final_norm
        self.output_bias = output_bias
        self.rope = rope
        self.rope_reference_grid = rope_reference_grid

        # === Layers ===
        policy = self.dtype_policy
        self.patch_embedding = PatchEmbedding(
            patch_size,
            hidden_dim,
            native_grid=(side, side),
            class_token=class_token,
            tiled_positions=tiled_positions,
            dtype=policy,
            name="patch_embedding",
        )
        self.pre_norm = keras.layers.LayerNormalization(
            epsilon=NORM_EPSILON, dtype=policy, name="pre_norm"
        )
        self.norm = self.attention_pooling = self.projection = None
        if final_norm:
            self.norm = keras.layers.LayerNormalization(
                epsilon=NORM_EPSILON, dtype=policy, name="norm"
            )
        if pooling == "attention":
            self.attention_pooling = AttentionPooling(
                hidden_dim, pooling_heads, dtype=policy, name="attention_pooling"
            )
        if output_dim is not None:
            self.projection = Dense(
                output_dim,
                use_bias=output_bias,
                kernel_initializer=RandomNormal(stddev=hidden_dim**-0.5),
                dtype=policy,
                name="projection",
            )
        self.build((None, image_size, image_size, 3))

    def build(self, images_shape: Any) -> None:
        if getattr(self, "built", False):  # loading a model builds it again
            return
        shape = (None, None, self.hidden_dim)
        self.patch_embedding.build((None, self.image_size, self.image_size, 3))
        self.pre_norm.build(shape)
        self.build_blocks()
        if self.norm is not None:
            self.norm.build(shape)
        if self.attention_pooling is not None:
            self.attention_pooling.build(shape)
        if self.projection is not None:
            self.projection.build(shape)
        self.built = True

    # === Other encoders from this one ===
    def truncate(self, layer: int, norm: bool = False) -> "PEVisionEncoder":
        """Returns a new encoder that keeps the blocks 1 to `layer`, weights copied.

        The new encoder returns tokens: it has neither pooling nor projection.

        Args:
            layer: last block that stays; negatives count from the end.
            norm: whether the final norm comes along and is applied.

        Returns:
            A `PEVisionEncoder`.

        Raises:
            ValueError: if there is no such layer, or no norm.
        """
        return truncated(PEVisionEncoder, self, layer, norm)

    def convert(
        self,
        patch_size: int | None = None,
        image_size: int | None = None,
        kernel_resize: KernelResize = "bilinear",
        **changes: Unpack[Changes],
    ) -> Self:
        """Returns a new encoder for another patch or image size, weights copied.

        Args:
            patch_size: side of a patch, pixels; None keeps it.
            image_size: side that the position embedding is resampled for; None keeps
                its grid, so that 448 pixels in patches of 14 become 512 in 16.
            kernel_resize: "bilinear" for images with detail for the new size,
                "pseudo_inverse" for enlarged ones; see `keras_pe.models.convert`.
            changes: constructor arguments to set along: `window_size`,
                `global_blocks`, `tiled_positions`, `rope_reference_grid`, `drop_path`
                and `remat`. Those left out stay as they are.

        Returns:
            An encoder of the same class.

        Raises:
            ValueError: if the sizes do not fit, or the encoder has LoRA or is
                quantised.
            TypeError: if there is no such change.
        """
        return converted(self, patch_size, image_size, kernel_resize, **changes)

    # === Config ===
    def get_config(self) -> dict[str, Any]:
        windows = {
            "window_size": self.window_size,
            "global_blocks": list(self.global_blocks),
            "tiled_positions": self.tiled_positions,
        }
        return {
            **self.tower_config(),
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "output_dim": self.output_dim,
            "class_token": self.class_token,
            "pooling": self.pooling,
            "pooling_heads": self.pooling_heads,
            "final_norm": self.final_norm,
            "output_bias": self.output_bias,
            "rope": self.rope,
            "rope_reference_grid": self.rope_reference_grid,
            # Without windows a preset stays readable to versions that know of none.
            **(windows if self.window_size is not None else {}),
        }

    def save_to_preset(
        self,
        directory: str | os.PathLike[str],
        image_converter: Any = None,
        metadata: Mapping[str, Any] | None = None,
        dtype: str | None = None,
        max_shard_size: float = MAX_SHARD_GB,
    ) -> None:
        """Writes a preset directory that `from_preset` reads.

        Args:
            directory: where; made if missing.
            image_converter: a `PEImageConverter` to write along; a warning says what
                can't be loaded without.
            metadata: more to say in metadata.json, such as scores; JSON values.
            dtype: of the weights in the file; None is the model's own.
            max_shard_size: gigabytes above which the weights are split into files.
        """
        warn_of_missing(image_converter=image_converter)
        save_preset(
            self,
            directory,
            image_converter=image_converter,
            metadata=metadata,
            dtype=dtype,
            max_shard_size=max_shard_size,
        )
