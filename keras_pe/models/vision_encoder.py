"""The vision tower of Perception Encoder."""

from collections.abc import Sequence
from typing import Any, Self, Unpack

import keras
from keras import ops

from keras_pe.layers.adaptable import Dense
from keras_pe.layers.attention import RotaryTable, rotary_table
from keras_pe.layers.initializers import RandomNormal
from keras_pe.layers.patch_embedding import PatchEmbedding
from keras_pe.layers.transformer import NORM_EPSILON, AttentionPooling
from keras_pe.layers.windows import WindowedBlocks, Windows
from keras_pe.models.convert import Changes, KernelResize, converted, truncated
from keras_pe.models.vision_arguments import (
    Pooling,
    check_pixels,
    check_vision_arguments,
    check_windows,
    without_wrong_pictures,
)
from keras_pe.models.vision_features import VisionFeatures
from keras_pe.presets.from_preset import load_preset
from keras_pe.presets.save import save_preset
from keras_pe.presets.table import PresetsProperty


@keras.saving.register_keras_serializable("keras_pe")
class PEVisionEncoder(VisionFeatures):
    """Perception Encoder's vision transformer: 2D RoPE, pre-norm, attention pooling.

    Called on pictures it returns what the published tower returns: the pooled and
    projected embedding, not normalised, or all tokens where `pooling` is None.
    Pictures may have any height and width in whole patches.

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
        window_size: side in patches of the windows that blocks attend in, for pictures
            larger than a window; None, as in pretraining: the whole picture. See
            `keras_pe.layers.windows`.
        global_blocks: blocks that see the whole picture in spite of windows, counted
            from 1 (negatives from the end).
        tiled_positions: whether windows, of the native size, each get the position
            embedding as it is, instead of the picture one resampled to its size.
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

    presets = PresetsProperty()
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

    # === Functional model ===
    def call(  # images: (batch, height, width, 3) in [-1, 1]
        self,
        images: Any,
        kept_patches: Any = None,
        drop_path_factors: Any = None,  # from draw_drop_path; None draws them here
        training: bool | None = None,
    ) -> Any:
        """Returns the tower's output.

        Args:
            images: `(batch, height, width, 3)` in [-1, 1].
            kept_patches: int32 `(batch, kept)`, the patches that each picture keeps
                (counted row by row from 0); None keeps all. Dropping patches makes
                training cheaper.
            drop_path_factors: from `draw_drop_path`; None draws them here.
            training: whether stochastic depth is active.

        Returns:
            `(batch, output_dim)`, or `(batch, hidden_dim)` without a projection, or
            `(batch, tokens, ...)` without pooling.
        """
        options = {"drop_path_factors": drop_path_factors, "training": training}
        return self.head(self.last_tokens(images, kept_patches, **options))

    def last_tokens(
        self,
        images: Any,
        kept_patches: Any = None,
        masked_patches: Any = None,
        mask_embedding: Any = None,
        drop_path_factors: Any = None,
        training: bool | None = None,
    ) -> Any:
        """Returns the last block's tokens, before the final norm: `head` goes on.

        Args:
            images: `(batch, height, width, 3)` in [-1, 1].
            kept_patches: int32 `(batch, kept)`; None keeps all.
            masked_patches: bool `(batch, patches)`, patches that `mask_embedding`
                replaces (mask regularisation); None masks none.
            mask_embedding: `(hidden_dim,)`.
            drop_path_factors: from `draw_drop_path`; None draws them here.
            training: whether stochastic depth is active.

        Returns:
            `(batch, tokens, hidden_dim)`, class token first.
        """
        last = self.num_layers
        masks = (masked_patches, mask_embedding)
        return self._tokens(
            images, (last,), kept_patches, training, masks, drop_path_factors
        )[last]

    def head(self, tokens: Any) -> Any:  # (batch, tokens, hidden_dim)
        """Returns the final norm, pooling and projection of last-layer tokens."""
        if self.norm is not None:
            tokens = self.norm(tokens)
        pooled = tokens
        if self.attention_pooling is not None:
            pooled = self.attention_pooling(tokens)
        elif self.pooling == "token":
            pooled = tokens[:, 0]
        elif self.pooling == "average":
            pooled = ops.mean(tokens, axis=1)
        return pooled if self.projection is None else self.projection(pooled)

    def _tokens(
        self,
        images: Any,
        layers: tuple[int, ...],
        kept_patches: Any = None,
        training: bool | None = None,
        masks: tuple[Any, Any] = (None, None),
        drop_path_factors: Any = None,
    ) -> dict[int, Any]:
        """Returns the tokens of each layer asked for; runs no block past the last."""
        grid = self.patch_embedding.grid(images.shape)
        check_pixels(images)
        masked_patches, mask_embedding = masks
        x = self.patch_embedding(  # (batch, tokens, hidden_dim)
            images, masked_patches=masked_patches, mask_embedding=mask_embedding
        )
        x = without_wrong_pictures(x, images)
        rotary = self.rotary(grid)
        if kept_patches is not None:
            x, rotary = self._keep(x, rotary, kept_patches)
        x = self.pre_norm(x)
        return self.run_blocks(
            x,
            layers,
            rotary,
            training,
            drop_path_factors,
            windowed=self._windowed_blocks(grid),
        )

    def rotary(self, grid: tuple[int, int]) -> RotaryTable | None:
        """Returns the RoPE table of a grid of patches; None without RoPE."""
        if not self.rope:
            return None
        cos, sin = rotary_table(
            grid,
            self.head_dim,
            class_token=self.class_token,
            reference_grid=self.rope_reference_grid,
        )
        return ops.convert_to_tensor(cos), ops.convert_to_tensor(sin)

    def _windowed_blocks(self, grid: tuple[int, int]) -> WindowedBlocks | None:
        if self.window_size is None:
            return None
        windows = Windows.over(grid, self.window_size, self.class_token)
        if windows is None:  # one covers the picture
            return None
        numbers = set(range(1, self.num_layers + 1)) - set(self.global_blocks)
        # Positions start anew in each window: it looks like a picture of its size.
        rotary = self.rotary(windows.window)
        return WindowedBlocks(windows, frozenset(numbers), rotary)

    def _keep(self, x: Any, rotary: Any, kept_patches: Any) -> tuple[Any, Any]:
        if self.window_size is not None:
            raise ValueError(
                f"kept_patches leaves no grid to cut into windows: it needs an encoder "
                f"without windows, got window_size={self.window_size}. Pass "
                f"kept_patches=None, or encoder.convert(window_size=None)."
            )
        kept = ops.cast(kept_patches, "int32")
        if self.class_token:
            kept = ops.pad(kept + 1, ((0, 0), (1, 0)))  # token 0 always stays
        x = ops.take_along_axis(x, kept[..., None], axis=1)
        if rotary is not None:
            rotary = tuple(ops.take(table, kept, axis=0) for table in rotary)
        return x, rotary

    def compute_output_shape(self, images_shape: Any, **shapes: Any) -> Any:
        tokens = self.patch_embedding.compute_output_shape(images_shape)
        channels = self.output_dim or self.hidden_dim
        if self.pooling is None:
            return (*tokens[:2], channels)
        return (tokens[0], channels)

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
        """Returns a new encoder for another patch or picture size, weights copied.

        Args:
            patch_size: side of a patch, pixels; None keeps it.
            image_size: side that the position embedding is resampled for; None keeps
                its grid, so that 448 pixels in patches of 14 become 512 in 16.
            kernel_resize: "bilinear" for pictures with detail for the new size,
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

    @classmethod
    def from_preset(cls, preset: str, **overrides: Any) -> Self:
        """Loads a preset: an encoder with its weights, downloaded once if need be.

        Args:
            preset: name (this class's `presets` lists them), official name, directory,
                file, `hf://owner/repo[@revision]` or `kaggle://...`. A dual encoder
                gives its vision tower.
            overrides: `dtype`, a dtype or policy such as "bfloat16". Of checkpoints in
                another project's format also `image_size`, in pixels.

        Returns:
            The encoder, with its weights. All are trainable, whatever was frozen when
            the preset was saved: to freeze it, set `encoder.trainable = False` before
            `compile`.

        Raises:
            CheckpointError: if there is no such preset, it is of another family, a file
                is damaged or can't be downloaded, or an override does not work.

        Example:
            >>> PEVisionEncoder.from_preset("pe_core_emoji_patch8_64").num_layers
            6
        """
        encoder: Self = load_preset(cls, preset, **overrides)
        return encoder

    def save_to_preset(self, directory: Any, **parts: Any) -> None:
        """Writes a preset directory that `from_preset` reads.

        Args:
            directory: where; made if missing.
            parts: `image_converter` and `metadata` to write along, and `dtype` of the
                file.
        """
        save_preset(self, directory, **parts)
