"""Contrastive training as a `keras.Model`: `compile` and `fit` do the rest."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import keras
from keras import ops

from keras_pe.layers.initializers import RandomNormal
from keras_pe.losses.chunked_contrastive import chunked_softmax_contrastive_loss
from keras_pe.losses.contrastive import softmax_contrastive_loss
from keras_pe.losses.sigmoid import (
    chunked_sigmoid_contrastive_loss,
    sigmoid_contrastive_loss,
)
from keras_pe.models.core import MAX_LOGIT_SCALE, PECore, l2_normalize
from keras_pe.models.video_embedding import mean_of_frames
from keras_pe.training.devices.distribution import cross_replica_gather
from keras_pe.training.trainers.base import (
    BaseTrainer,
    Latest,
    Term,
    loss_rows,
    take_drop_path,
)
from keras_pe.training.trainers.patch_masking import mask_loss, used_patches

INITIAL_SIGMOID_BIAS = -10.0  # Zhai et al. 2023: most pairs of a batch do not match


@keras.saving.register_keras_serializable("keras_pe")
class ContrastiveTrainer(BaseTrainer):
    """Trains a `PECore` on image-caption pairs.

    Batches are dictionaries: `images` `(batch, height, width, 3)` in [-1, 1] and
    `token_ids` `(batch, tokens)`; with mask regularisation also `masked_patches`, bool
    `(rows, patches)`, masks for an evenly spaced part of the batch (a sixteenth in
    the paper); with patch dropping `kept_patches`, int32 `(batch, kept)`. Images
    `(batch, frames, height, width, 3)` are clips: embeddings of frames are averaged.

    The logs of a training step are those of that step; `loss` alone is the mean of an
    epoch, as in Keras. `evaluate` and validation give means over all batches. Of a
    model in mixed_float16 the loss is scaled as Keras does it.

    Args:
        model: the dual encoder; trained in place.
        loss: "softmax" (CLIP, the paper) or "sigmoid" (SigLIP).
        max_logit_scale: limit of the learned factor of the cosines, set on the model:
            each update is followed by a clamp of the weight, whose gradient stays
            whole. None keeps the limit of the model, but takes off the paper's 100
            for "sigmoid", whose published scales go up to about 117.
        duplicates: equal captions in one batch: "negative" takes each as a negative
            of the others' images, as CLIP and the paper do; "ignore" leaves such
            pairs out of the loss.
        loss_chunk_size: rows of the loss matrix held at once, over all devices; None
            holds all of it.
        image_chunk_size: images, or clips, that go through the vision tower at once,
            over all devices; None for the whole batch. Smaller ones bound the memory,
            for a third more arithmetic: each chunk is computed again in the backward
            pass.
        text_chunk_size: texts that go through the text tower at once, likewise.
        mask_weight: factor of the mask loss; 0 for no mask regularisation. The paper
            does not say what it used; the recipes take 1.
        mask_positions: "masked" (the paper's core model) or "all" tokens are aligned.
        mask_normed: whether tokens are compared after the final norm, which is what
            the pooling sees; the paper does not say.

    Raises:
        ValueError: if an option makes no sense. By `fit`, if a batch has arrays that
            nothing reads, labels, weights of samples, a single pair, more texts than
            images or token ids that do not exist, or can't be cut into the chunks
            asked for.

    Source: Perception Encoder, sections 2.1 and 2.4, tables 18 and 19.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PECore, PETextEncoder, PEVisionEncoder
        >>> model = PECore(
        ...     PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...         num_layers=1, num_heads=2, intermediate_dim=32,
        ...         output_dim=8, pooling_heads=2),
        ...     PETextEncoder(vocabulary_size=60, context_length=4, hidden_dim=16,
        ...         num_layers=1, num_heads=2, intermediate_dim=32, output_dim=8))
        >>> batch = {"images": np.zeros((4, 16, 16, 3), "float32"),
        ...     "token_ids": np.arange(16, dtype="int32").reshape(4, 4)}
        >>> trainer = ContrastiveTrainer(model)
        >>> trainer.compile(keras.optimizers.AdamW(1e-3))
        >>> batches = ((batch,) for batch in [batch])
        >>> history = trainer.fit(batches, steps_per_epoch=1, verbose=0)
        >>> sorted(history.history)
        ['contrastive_loss', 'logit_scale', 'loss']
    """

    known_arrays = ("images", "token_ids", "masked_patches", "kept_patches")
    needed_arrays = ("images", "token_ids")

    def __init__(
        self,
        model: PECore,
        loss: Literal["softmax", "sigmoid"] = "softmax",
        max_logit_scale: float | None = None,
        duplicates: Literal["negative", "ignore"] = "negative",
        loss_chunk_size: int | None = None,
        image_chunk_size: int | None = None,
        text_chunk_size: int | None = None,
        mask_weight: float = 0.0,
        mask_positions: Literal["masked", "all"] = "masked",
        mask_normed: bool = True,
        name: str | None = None,
    ) -> None:
        _check_options(loss, duplicates, mask_positions, mask_weight)
        super().__init__(
            model,
            name or "contrastive_trainer",
            loss_chunk_size=loss_chunk_size,
            image_chunk_size=image_chunk_size,
            text_chunk_size=text_chunk_size,
        )
        if max_logit_scale is not None:
            model.max_logit_scale = max_logit_scale
        elif loss == "sigmoid" and model.max_logit_scale == MAX_LOGIT_SCALE:
            model.max_logit_scale = None
        self.loss_kind = loss
        self.one_row_is_nothing = loss == "softmax"
        self.duplicates = duplicates
        self.mask_weight = mask_weight
        self.mask_positions = mask_positions
        self.mask_normed = mask_normed
        self.contrastive_metric = Latest("contrastive_loss")
        self.mask_metric = Latest("mask_loss") if mask_weight else None
        self.scale_metric = Latest("logit_scale")
        # Part of the training, not of the model: published checkpoints have neither.
        self.mask_embedding = self.logit_bias = None
        if mask_weight:
            hidden_dim = model.vision_encoder.hidden_dim
            self.mask_embedding = self.add_weight(
                shape=(hidden_dim,),
                dtype="float32",
                initializer=RandomNormal(stddev=hidden_dim**-0.5),
                name="mask_embedding",
            )
        if loss == "sigmoid":
            self.logit_bias = self.add_weight(
                shape=(),
                dtype="float32",
                initializer=keras.initializers.Constant(INITIAL_SIGMOID_BIAS),
                name="logit_bias",
            )
        self.built = True

    def vocabularies(self) -> dict[str, int]:
        """Returns for each array of token ids how many ids there are."""
        return {"token_ids": self.model.text_encoder.vocabulary_size}

    # === Forward ===
    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Returns `image_embeddings`, `text_embeddings` and, if asked, `mask_loss`."""
        self.check_inputs(inputs)
        outputs = self._encode_images(inputs, training)
        texts, size = {"token_ids": inputs["token_ids"]}, self.text_chunk_size
        tower = self.model.text_encoder
        outputs["text_embeddings"] = self.embed(tower, texts, size, training)
        return outputs

    def _encode_images(
        self, inputs: dict[str, Any], training: bool | None
    ) -> dict[str, Any]:
        """Returns the embeddings `(batch, output_dim)`, and the mask loss if asked."""
        vision = self.model.vision_encoder
        masks, kept = None, inputs.get("kept_patches")
        if self.mask_weight or "masked_patches" in inputs:
            masks, kept = used_patches(inputs, self.mask_weight, training)
        if masks is not None:
            # TensorFlow recomputes no function of bool: it would have a gradient.
            masks = ops.cast(masks, "int32")
        rows = {"images": inputs["images"], "kept": kept, "masks": masks}
        frames = num_frames(inputs["images"].shape, kept, masks)

        def encode(chunk: dict[str, Any]) -> dict[str, Any]:
            images = chunk["images"]
            if frames is not None:  # of a clip, each an image of its own
                images = ops.reshape(images, (-1, *images.shape[2:]))
            (tokens,) = vision.layer_tokens(  # (rows, tokens, hidden_dim)
                images,
                [-1],
                kept_patches=chunk.get("kept"),
                drop_path_factors=take_drop_path(chunk),
                training=training,
            )
            embeddings = l2_normalize(vision.head(tokens))
            if frames is not None:
                embeddings = l2_normalize(mean_of_frames(embeddings, frames))
            outputs = {"image_embeddings": embeddings}
            if "masks" in chunk:
                loss = self._mask_loss(chunk["images"], tokens, chunk["masks"])
                outputs["mask_loss"] = ops.reshape(loss, (1,))  # one a chunk
            return outputs

        given = {name: array for name, array in rows.items() if array is not None}
        size = self.image_chunk_size
        outputs = self.in_chunks(encode, given, size, training, vision, frames or 1)
        if masks is not None:
            outputs["mask_loss"] = ops.mean(outputs["mask_loss"])
        return dict(outputs)

    def _mask_loss(self, images: Any, tokens: Any, masks: Any) -> Any:
        return mask_loss(
            self.model.vision_encoder,
            images,
            tokens,
            masks,
            self.mask_embedding,
            positions=self.mask_positions,
            normed=self.mask_normed,
        )

    # === Loss ===
    def logit_scale(self) -> Any:
        """Returns the factor of the cosines, never above the limit, gradient kept."""
        return self.model.clamped_logit_scale()

    @property
    def loss_weights(self) -> dict[str, float]:
        """The factors of the terms that a step minimises, by their metrics' names."""
        return {"contrastive_loss": 1.0, "mask_loss": self.mask_weight}

    def terms(self, x: Mapping[str, Any], y_pred: Any) -> Iterator[Term]:
        scale = self.logit_scale()
        loss = self._contrastive_loss(x, y_pred, scale)
        yield Term(self.contrastive_metric, loss, 1.0)
        yield Term(self.scale_metric, scale, None)
        if self.mask_metric is not None and "mask_loss" in y_pred:
            yield Term(self.mask_metric, y_pred["mask_loss"], self.mask_weight)

    def _contrastive_loss(self, x: Any, y_pred: Any, scale: Any) -> Any:
        arguments = [y_pred["image_embeddings"], y_pred["text_embeddings"], scale]
        options: dict[str, Any] = {}
        gather = cross_replica_gather()
        if gather is not None:
            options["gather"] = gather
        if self.duplicates == "ignore":
            options["duplicates"] = "ignore"
            options["caption_ids"] = caption_ids(x["token_ids"])
        if self.loss_chunk_size is not None:
            options["chunk_size"] = loss_rows(self.loss_chunk_size)
        if self.loss_kind == "sigmoid":
            arguments.append(ops.convert_to_tensor(self.logit_bias))
            if self.loss_chunk_size is None:
                return sigmoid_contrastive_loss(*arguments, **options)
            return chunked_sigmoid_contrastive_loss(*arguments, **options)
        if self.loss_chunk_size is None:
            return softmax_contrastive_loss(*arguments, **options)
        return chunked_softmax_contrastive_loss(*arguments, **options)

    # === Saving ===
    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "loss": self.loss_kind,
            # The model's has it too, but 100 there may be the default of another loss.
            "max_logit_scale": self.model.max_logit_scale,
            "duplicates": self.duplicates,
            "mask_weight": self.mask_weight,
            "mask_positions": self.mask_positions,
            "mask_normed": self.mask_normed,
        }


def _check_options(
    loss: str, duplicates: str, mask_positions: str, mask_weight: float
) -> None:
    """Refuses options of `ContrastiveTrainer` that make no sense.

    Raises:
        ValueError: naming the option.
    """
    if loss not in ("softmax", "sigmoid"):
        raise ValueError(f'loss must be "softmax" or "sigmoid", got {loss!r}.')
    if duplicates not in ("negative", "ignore"):
        raise ValueError(
            f'duplicates must be "negative" or "ignore", got {duplicates!r}.'
        )
    if mask_positions not in ("masked", "all"):
        raise ValueError(
            f'mask_positions must be "masked" or "all", got {mask_positions!r}.'
        )
    if not 0.0 <= mask_weight < math.inf:
        raise ValueError(f"mask_weight must be 0 or more, got {mask_weight}.")


def num_frames(shape: Any, kept: Any = None, masks: Any = None) -> int | None:
    """Returns how many frames clips have, or None if a batch holds images.

    Raises:
        ValueError: if patches of clips are to be masked or dropped, or clips have no
            frames, or nobody knows how many.
    """
    if len(shape) != 5:
        return None
    if not shape[1]:
        raise ValueError(
            f"Clips (batch, frames, height, width, 3) need frames, as many in all of "
            f"them and known when a step is compiled, got {tuple(shape)}."
        )
    if kept is not None or masks is not None:
        raise ValueError(
            f"Patches are masked and dropped of images, got clips {tuple(shape)}. "
            f"Train on clips with mask_weight=0 and without kept_patches."
        )
    return int(shape[1])


def caption_ids(token_ids: Any) -> Any:  # (batch, tokens) int32
    """Returns a number a caption: equal captions get equal ones.

    A polynomial hash that wraps around in int32; two different captions of a batch
    of 131,072 collide about twice in total, which leaves out two pairs in 17 billion.
    """
    powers = [pow(1_000_003, i, 2**32) for i in range(token_ids.shape[1])]
    signed = [p - 2**32 if p >= 2**31 else p for p in powers]
    weights = ops.convert_to_tensor(signed, "int32")
    return ops.sum(ops.cast(token_ids, "int32") * weights, axis=-1)
