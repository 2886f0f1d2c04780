"""PE core: the dual encoder of images, videos and texts."""

import functools
import math
import os
from collections.abc import Mapping
from typing import Any, Literal, Self

import keras
from keras import ops

from keras_pe.layers.fine_tuning import flags_config, restore_trainable_flags
from keras_pe.models.compiled import run_compiled
from keras_pe.models.embedding import preset_class_vectors
from keras_pe.models.pair_model import PairModel, check_pair
from keras_pe.models.preset_model import PresetModel
from keras_pe.models.text_encoder import PETextEncoder
from keras_pe.models.tower import Tower
from keras_pe.models.video_embedding import average_in_parts, mean_of_frames
from keras_pe.models.vision_arguments import check_frames
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.presets.save import MAX_SHARD_GB, save_preset, warn_of_missing

TOWERS = ("vision_encoder", "text_encoder")
FrameAverage = Literal["normalized", "raw"]
INITIAL_LOGIT_SCALE = math.log(1 / 0.07)  # upstream `CLIP.__init__`
MAX_LOGIT_SCALE = 100.0  # Radford et al. 2021, section 2.5, and the paper


def l2_normalize(x: Any) -> Any:  # (..., channels)
    """Returns vectors of unit length, computed in float32."""
    x = ops.cast(x, "float32")
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(square, 1e-24))


@keras.saving.register_keras_serializable("keras_pe")
class PECore(PresetModel, PairModel):
    """A vision and a text tower whose embeddings are compared by their cosine.

    Args:
        vision_encoder: a `PEVisionEncoder` that pools.
        text_encoder: a `PETextEncoder` of the same `output_dim`.
        name: name of the model.
        max_logit_scale: the learned factor of the cosines is at most this, in training
            and in all that is computed from it; None for no limit. The paper's 100
            suits the softmax loss; models trained with the sigmoid loss pass it.

    Raises:
        ValueError: if the two embeddings differ in size, or the limit is no number
            above 1.

    Source: Perception Encoder, section 2; upstream `CLIP`.

    Example:
        >>> import numpy as np
        >>> vision = PEVisionEncoder(image_size=32, patch_size=8, hidden_dim=32,
        ...     num_layers=2, num_heads=4, intermediate_dim=64, output_dim=16)
        >>> text = PETextEncoder(vocabulary_size=600, context_length=8, hidden_dim=32,
        ...     num_layers=2, num_heads=4, intermediate_dim=64, output_dim=16)
        >>> model = PECore(vision, text)    # or PECore.from_preset(name)
        >>> images = np.zeros((2, 32, 32, 3), "float32")
        >>> ids = np.array([[598, 5, 599], [598, 6, 599], [598, 7, 599]], "int32")
        >>> images, texts = model.encode_image(images), model.encode_text(ids)
        >>> (np.asarray(images) @ np.asarray(texts).T).shape
        (2, 3)
    """

    def __init__(
        self,
        vision_encoder: PEVisionEncoder,
        text_encoder: PETextEncoder,
        name: str | None = None,
        *,
        max_logit_scale: float | None = MAX_LOGIT_SCALE,
    ) -> None:
        super().__init__(name=name or "pe_core", autocast=False)
        if vision_encoder.pooling is None:
            raise ValueError(
                "PECore needs a vision encoder that pools, got pooling=None (a PE "
                'lang or PE spatial tower?). Build it with pooling="attention".'
            )
        channels = vision_encoder.output_dim or vision_encoder.hidden_dim
        if channels != text_encoder.output_dim:
            raise ValueError(
                f"Both towers must give embeddings of one size, got {channels} from "
                f"the vision encoder and {text_encoder.output_dim} from the text "
                f"encoder. Set output_dim alike."
            )
        self.vision_encoder = vision_encoder
        self.text_encoder = text_encoder
        self.output_dim = channels
        self.max_logit_scale = max_logit_scale
        self.build(None)

    def build(self, inputs_shape: Any) -> None:
        if getattr(self, "built", False):  # loading a model builds it again
            return
        # float32 under any policy: exp() of it multiplies every cosine.
        self.logit_scale = self.add_weight(
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(INITIAL_LOGIT_SCALE),
            constraint=self._limited,  # optimizers apply it after each update
            name="logit_scale",
        )
        self.built = True

    def towers(self) -> dict[str, Tower]:
        """Returns the towers that this model consists of, by part."""
        return {"vision": self.vision_encoder, "text": self.text_encoder}

    # === The factor of the cosines ===
    @property
    def max_logit_scale(self) -> float | None:
        """Largest factor of the cosines; None for no limit."""
        return self._max_logit_scale

    @max_logit_scale.setter
    def max_logit_scale(self, value: float | None) -> None:
        if value is not None and not 1.0 < value < math.inf:
            raise ValueError(
                f"max_logit_scale must be above 1, or None for no limit, got {value}."
            )
        self._max_logit_scale = value

    def _limited(self, log_scale: Any) -> Any:
        if self.max_logit_scale is None:
            return ops.convert_to_tensor(log_scale)
        return ops.minimum(log_scale, math.log(self.max_logit_scale))

    def clamped_logit_scale(self) -> Any:
        """Returns the factor of the cosines, float32: never above `max_logit_scale`.

        Its gradient is that of the factor without a limit, so that a scale that has
        come to the limit, or was loaded from above it, can come down again.
        """
        log_scale = ops.convert_to_tensor(self.logit_scale)
        excess = ops.stop_gradient(log_scale - self._limited(log_scale))
        return ops.exp(log_scale - excess)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Embeds images and texts.

        Args:
            inputs: `images` `(batch, height, width, 3)` in [-1, 1]; `token_ids`
                `(batch, tokens)` int32; optionally `kept_patches` `(batch, kept)`.
            training: whether stochastic depth is active.

        Returns:
            `image_embeddings` and `text_embeddings`, float32 of unit length
            `(batch, output_dim)`, and `logit_scale`, the factor of the cosines,
            clamped.

        Raises:
            TypeError: if `inputs` is no mapping: images alone go to `encode_image`.
            ValueError: if one of the two is missing.
        """
        check_pair(inputs)
        kept_patches = inputs.get("kept_patches")
        image_embeddings = self.vision_encoder(
            inputs["images"], kept_patches=kept_patches, training=training
        )
        text_embeddings = self.text_encoder(inputs["token_ids"], training=training)
        return {
            "image_embeddings": l2_normalize(image_embeddings),
            "text_embeddings": l2_normalize(text_embeddings),
            "logit_scale": self.clamped_logit_scale(),
        }

    def compute_output_shape(self, inputs_shape: Any, **shapes: Any) -> Any:
        rows = None if inputs_shape is None else inputs_shape["images"][0]
        shape = (rows, self.output_dim)
        return {"image_embeddings": shape, "text_embeddings": shape, "logit_scale": ()}

    # === Inference ===
    def encode_image(
        self, images: Any, normalize: bool = True, *, gradient: bool = False
    ) -> Any:
        """Embeds images; compiled.

        Args:
            images: `(batch, height, width, 3)`, floating point in [-1, 1].
            normalize: whether embeddings get unit length (then float32). Raw ones may
                share a large constant part, which carries nothing. Standardise them
                before a head of your own learns from them; see `docs/fine_tuning.md`.
            gradient: whether gradients flow from the result; by default it holds no
                graph and is read by `np.asarray`. Calling the model gives gradients
                too.

        Returns:
            `(batch, output_dim)`.

        Raises:
            ValueError: if shape, dtype, size or values do not fit.
            TypeError: if these are files or PIL images.
        """
        images = self.vision_encoder.checked_images(images)
        method = functools.partial(self._encode_image, normalize=normalize)
        key = ("image", normalize)
        return run_compiled(self, key, method, images, gradient=gradient)

    def _encode_image(self, images: Any, normalize: bool) -> Any:
        embeddings = self.vision_encoder(images, training=False)
        return l2_normalize(embeddings) if normalize else embeddings

    def encode_text(
        self, token_ids: Any, normalize: bool = True, *, gradient: bool = False
    ) -> Any:
        """Embeds texts; compiled.

        Args:
            token_ids: `(batch, tokens)` int32, from `PETokenizer`.
            normalize: whether embeddings get unit length (then float32).
            gradient: as in `encode_image`.

        Returns:
            `(batch, output_dim)`.

        Raises:
            ValueError: if shape or dtype do not fit, or an id is not in the
                vocabulary.
            TypeError: if these are texts.
        """
        token_ids = self.text_encoder.checked_ids(token_ids)
        method = functools.partial(self._encode_text, normalize=normalize)
        key = ("text", normalize)
        return run_compiled(self, key, method, token_ids, gradient=gradient)

    def _encode_text(self, token_ids: Any, normalize: bool) -> Any:
        embeddings = self.text_encoder(token_ids, training=False)
        return l2_normalize(embeddings) if normalize else embeddings

    def encode_video(
        self,
        frames: Any,
        normalize: bool = True,
        frame_average: FrameAverage = "normalized",
        *,
        frame_mask: Any = None,
        chunk_size: int | None = None,
        gradient: bool = False,
    ) -> Any:
        """Embeds videos as the average of their frames' embeddings; compiled.

        The average knows nothing of the order of frames: a video and the same video
        backwards have one embedding.

        Args:
            frames: `(batch, frames, height, width, 3)`, floating point in [-1, 1].
            normalize: whether the result gets unit length. Upstream leaves the
                average as it is.
            frame_average: "normalized" averages frame embeddings of unit length
                (upstream's retrieval), "raw" the embeddings as they come (upstream's
                classification).
            frame_mask: `(batch, frames)` bool, for videos of different lengths: where
                it is False, a frame does not count and may hold anything, NaN too.
            chunk_size: frames of each video in a forward pass; what has been computed
                is a sum, so that memory does not grow with the length. None takes all.
            gradient: as in `encode_image`. With gradients all parts are held.

        Returns:
            `(batch, output_dim)`; float32 with a mask or in chunks.

        Raises:
            ValueError: if shape, dtype, size or `frame_average` do not fit, or a video
                has no frame that counts.

        Source: Perception Encoder, section 2.4; upstream `CLIP.encode_video`.

        Example:
            >>> import numpy as np
            >>> model = PECore.from_preset("pe_core_emoji_small_patch8_64")
            >>> videos = np.zeros((2, 6, 64, 64, 3), "float32")
            >>> mask = np.array([[True] * 6, [True] * 4 + [False] * 2])
            >>> found = model.encode_video(videos, frame_mask=mask, chunk_size=2)
            >>> np.asarray(found).shape
            (2, 192)
        """
        if frame_average not in ("normalized", "raw"):
            raise ValueError(
                f'frame_average must be "normalized" or "raw", got {frame_average!r}.'
            )
        if frame_mask is not None or chunk_size is not None:
            given = normalize, frame_average, frame_mask, chunk_size, gradient
            return average_in_parts(self, frames, *given)
        frames = self.vision_encoder.checked_images(frames)
        check_frames(frames.shape)
        method = functools.partial(
            self._encode_video, normalize=normalize, frame_average=frame_average
        )
        key = ("video", normalize, frame_average)
        return run_compiled(self, key, method, frames, gradient=gradient)

    def _encode_video(
        self, frames: Any, normalize: bool, frame_average: FrameAverage
    ) -> Any:
        count = frames.shape[1]
        images = ops.reshape(frames, (-1, *frames.shape[2:]))
        embeddings = self._encode_image(images, frame_average == "normalized")
        video = mean_of_frames(embeddings, count)
        return l2_normalize(video) if normalize else video

    def _sum_of_frames(self, frames: Any, mask: Any, frame_average: str) -> Any:
        count = frames.shape[1]
        images = ops.reshape(frames, (-1, *frames.shape[2:]))
        embeddings = self._encode_image(images, frame_average == "normalized")
        embeddings = ops.reshape(embeddings, (-1, count, self.output_dim))
        embeddings = ops.cast(embeddings, "float32")
        counted = ops.where(mask[..., None], embeddings, ops.zeros_like(embeddings))
        return ops.sum(counted, axis=1)

    def _average_of_sum(self, total: Any, count: Any, normalize: bool) -> Any:
        return l2_normalize(total / count) if normalize else total / count

    # === LoRA ===
    @property
    def trainable(self) -> bool:
        """Whether the model is trained; with LoRA, whether its updates are."""
        return bool(self._trainable)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.Model.trainable.fset(self, value)
        if value and self._towers_with_lora() == 2:
            self.logit_scale.trainable = False

    def _towers_with_lora(self) -> int:
        towers = (getattr(self, name, None) for name in TOWERS)
        return sum(tower is not None and tower.has_lora for tower in towers)

    def enable_lora(self, rank: int, alpha: float | None = None) -> None:
        """Adds LoRA to both towers and freezes the rest, the logit scale included.

        Args and raises: those of `PEVisionEncoder.enable_lora`.
        """
        if self._towers_with_lora():
            raise ValueError(
                f"A tower of {self.name} has LoRA already. Call enable_lora on the "
                f"other tower, or on PECore(vision_encoder.merge_lora(), ...)."
            )
        self.vision_encoder.enable_lora(rank, alpha)
        self.text_encoder.enable_lora(rank, alpha)
        self.logit_scale.trainable = False

    # === Config ===
    def get_config(self) -> dict[str, Any]:
        # The paper's limit unsaid: a preset stays readable to versions without one.
        limit = self.max_logit_scale
        return {
            "name": self.name,
            "vision_encoder": keras.saving.serialize_keras_object(self.vision_encoder),
            "text_encoder": keras.saving.serialize_keras_object(self.text_encoder),
            **({} if limit == MAX_LOGIT_SCALE else {"max_logit_scale": limit}),
            **flags_config(self),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        config = dict(config)
        for tower in TOWERS:
            config[tower] = keras.saving.deserialize_keras_object(config[tower])
        flags = config.pop("trainable_flags", {})
        model = cls(**config)
        if flags:  # the towers have theirs already
            restore_trainable_flags(model, flags)
        return model

    def save_to_preset(
        self,
        directory: str | os.PathLike[str],
        tokenizer: Any = None,
        image_converter: Any = None,
        metadata: Mapping[str, Any] | None = None,
        dtype: str | None = None,
        max_shard_size: float = MAX_SHARD_GB,
    ) -> None:
        """Writes a preset directory that `from_preset` reads.

        Args:
            directory: where; made if missing.
            tokenizer: a `PETokenizer` to write along; a warning says what can't be
                loaded without.
            image_converter: a `PEImageConverter` to write along; as well.
            metadata: more to say in metadata.json; JSON values. Classes and prompts,
                `{"zero_shot": {"class_names": [...], "templates": [...]}}`, are
                embedded and saved along, if a tokenizer is.
            dtype: of the weights in the file; None is the model's own.
            max_shard_size: gigabytes above which the weights are split into files.
        """
        warn_of_missing(tokenizer=tokenizer, image_converter=image_converter)
        class_vectors = None
        if metadata and metadata.get("zero_shot") is not None:
            class_vectors = functools.partial(
                preset_class_vectors, self, tokenizer, metadata
            )
        given = (tokenizer, image_converter, metadata, dtype, max_shard_size)
        save_preset(self, directory, *given, class_vectors)
