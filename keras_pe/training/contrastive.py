"""The contrastive stage as a `keras.Model`: `compile` and `fit` do the rest."""

import math
from typing import Any, Literal

import keras
from keras import ops

from keras_pe.losses.chunked_contrastive import chunked_softmax_contrastive_loss
from keras_pe.losses.contrastive import softmax_contrastive_loss
from keras_pe.losses.masked_alignment import masked_alignment_loss
from keras_pe.losses.sigmoid import (
    chunked_sigmoid_contrastive_loss,
    sigmoid_contrastive_loss,
)
from keras_pe.models.core import PECore, l2_normalize
from keras_pe.training.chunked import map_chunks, merge_rows, num_chunks
from keras_pe.training.distribution import cross_replica_gather, replica_loss_scale
from keras_pe.training.latest import Latest

INITIAL_SIGMOID_BIAS = -10.0  # Zhai et al. 2023: most pairs of a batch do not match


class ContrastiveTrainer(keras.Model):
    """Trains a `PECore` on picture-caption pairs.

    Batches are dictionaries: `images` `(batch, height, width, 3)` in [-1, 1] and
    `token_ids` `(batch, tokens)`; with mask regularisation also `masked_patches`, bool
    `(rows, patches)`, masks for an evenly spaced part of the batch (a sixteenth in
    the paper); with patch dropping `kept_patches`, int32 `(batch, kept)`.

    Args:
        model: the dual encoder; trained in place.
        loss: "softmax" (CLIP, the paper) or "sigmoid" (SigLIP).
        max_logit_scale: the learned factor of the cosines is clamped here.
        duplicates: equal captions in one batch: "negative" takes each as a negative
            of the others' pictures, as CLIP and the paper do; "ignore" leaves such
            pairs out of the loss.
        loss_chunk_size: rows of the loss matrix held at once; None holds all of it.
        image_chunk_size: pictures that go through the vision tower at once; None for
            the whole batch. Smaller ones bound the memory, for a third more
            arithmetic: each chunk is computed again in the backward pass.
        text_chunk_size: texts that go through the text tower at once.
        mask_weight: factor of the mask loss; 0 for no mask regularisation. The paper
            does not say what it used; the recipes take 1.
        mask_positions: "masked" (the paper's core model) or "all" tokens are aligned.
        mask_normed: whether tokens are compared after the final norm, which is what
            the pooling sees; the paper does not say.

    Raises:
        ValueError: if an option makes no sense.

    Source: Perception Encoder, section 2.1 and table 18.

    Example:
        >>> trainer = ContrastiveTrainer(model)                       # doctest: +SKIP
        >>> trainer.compile(keras_pe.training.Lamb(2e-3))             # doctest: +SKIP
        >>> trainer.fit(batches, steps_per_epoch=1000)                # doctest: +SKIP
    """

    def __init__(
        self,
        model: PECore,
        loss: Literal["softmax", "sigmoid"] = "softmax",
        max_logit_scale: float = 100.0,
        duplicates: Literal["negative", "ignore"] = "negative",
        loss_chunk_size: int | None = None,
        image_chunk_size: int | None = None,
        text_chunk_size: int | None = None,
        mask_weight: float = 0.0,
        mask_positions: Literal["masked", "all"] = "masked",
        mask_normed: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name or "contrastive_trainer", autocast=False)
        if max_logit_scale <= 1.0:
            raise ValueError(f"max_logit_scale must be above 1, got {max_logit_scale}.")
        if loss not in ("softmax", "sigmoid"):
            raise ValueError(f'loss must be "softmax" or "sigmoid", got {loss!r}.')
        if duplicates not in ("negative", "ignore"):
            raise ValueError(
                f'duplicates must be "negative" or "ignore", got {duplicates!r}.'
            )
        self.model = model
        self.loss_kind = loss
        self.max_log_scale = math.log(max_logit_scale)
        self.duplicates = duplicates
        self.loss_chunk_size = loss_chunk_size
        self.image_chunk_size = image_chunk_size
        self.text_chunk_size = text_chunk_size
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
                initializer=keras.initializers.RandomNormal(stddev=hidden_dim**-0.5),
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

    # === Forward ===
    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Returns `image_embeddings`, `text_embeddings` and, if asked, `mask_loss`."""
        image_embeddings, mask_loss = self._encode_images(inputs, training)
        outputs = {
            "image_embeddings": image_embeddings,
            "text_embeddings": self._encode_texts(inputs["token_ids"], training),
        }
        if mask_loss is not None:
            outputs["mask_loss"] = mask_loss
        return outputs

    def _encode_texts(self, token_ids: Any, training: bool | None) -> Any:
        tower = self.model.text_encoder
        chunks = num_chunks(token_ids.shape[0], self.text_chunk_size)
        if chunks == 1:
            return l2_normalize(tower(token_ids, training=training))
        rows = {"token_ids": token_ids}
        if training:
            add_drop_path(rows, tower, token_ids.shape[0])

        def encode(chunk: dict[str, Any]) -> Any:
            factors = take_drop_path(chunk)
            ids = chunk["token_ids"]
            return l2_normalize(tower(ids, drop_path_factors=factors))

        return merge_rows(map_chunks(encode, rows, chunks))

    def _encode_images(self, inputs: dict[str, Any], training: bool | None) -> Any:
        """Returns embeddings `(batch, output_dim)` and the mask loss or None."""
        images = inputs["images"]
        masks, kept = self._checked_patches(inputs, training)
        chunks = num_chunks(images.shape[0], self.image_chunk_size)
        if chunks == 1:
            return self._encode_chunk(images, kept, masks, None, training)
        rows = {"images": images}
        if kept is not None:
            rows["kept"] = kept
        if training:
            add_drop_path(rows, self.model.vision_encoder, images.shape[0])
        if masks is not None:
            rows["masks"] = masks

        def encode(chunk: dict[str, Any]) -> Any:
            embeddings, loss = self._encode_chunk(
                chunk["images"],
                chunk.get("kept"),
                chunk.get("masks"),
                take_drop_path(chunk),
                training,
            )
            return embeddings if loss is None else (embeddings, loss)

        results = map_chunks(encode, rows, chunks)
        if masks is None:
            return merge_rows(results), None
        return merge_rows(results[0]), ops.mean(results[1])

    def _checked_patches(
        self, inputs: dict[str, Any], training: bool | None
    ) -> tuple[Any, Any]:
        """Returns masks and kept patches, each None where there are none to use."""
        kept = inputs.get("kept_patches")
        if not self.mask_weight or not training:
            return None, kept
        masks = inputs.get("masked_patches")
        if masks is None:
            raise ValueError(
                f"mask_weight={self.mask_weight} needs masks in every batch, got "
                f"{sorted(inputs)}. Add masked_patches "
                f"(keras_pe.training.patch_sampling draws them), or set mask_weight=0."
            )
        if kept is not None:
            raise ValueError(
                "Mask regularisation compares a masked picture token by token with "
                "the whole one, so it can't go with patch dropping: give "
                "masked_patches or kept_patches, not both."
            )
        return masks, kept

    def _encode_chunk(
        self, images: Any, kept: Any, masks: Any, factors: Any, training: bool | None
    ) -> Any:
        vision = self.model.vision_encoder
        tokens = vision.last_tokens(  # (batch, tokens, hidden_dim)
            images, kept, drop_path_factors=factors, training=training
        )
        embeddings = l2_normalize(vision.head(tokens))
        if masks is None:
            return embeddings, None
        return embeddings, self._mask_loss(images, tokens, masks)

    def _mask_loss(self, images: Any, tokens: Any, masks: Any) -> Any:
        """Returns how far masked pictures' tokens are from the whole pictures'.

        The copies never reach the pooling, and the target is a constant: this loss
        and the contrastive one share the blocks but no path.
        """
        vision = self.model.vision_encoder
        count = masks.shape[0]
        if count is None or images.shape[0] % count:
            raise ValueError(
                f"The number of masked pictures must divide the batch, got {count} "
                f"masks for {images.shape[0]} pictures."
            )
        # Evenly spaced rows: where the batch is sharded, each device masks its own.
        each = images.shape[0] // count
        masked_tokens = vision.last_tokens(
            images[::each],
            masked_patches=masks,
            mask_embedding=ops.convert_to_tensor(self.mask_embedding),
            training=False,
        )
        full_tokens = ops.stop_gradient(tokens[::each])
        if self.mask_normed and vision.norm is not None:
            masked_tokens = vision.norm(masked_tokens)
            full_tokens = ops.stop_gradient(vision.norm(full_tokens))
        first = int(vision.class_token)
        return masked_alignment_loss(
            masked_tokens[:, first:],
            full_tokens[:, first:],
            masks,
            positions=self.mask_positions,
        )

    # === Loss ===
    def logit_scale(self) -> Any:
        """Returns the factor of the cosines, clamped.

        The clamp is part of the graph: at the limit the gradient is zero, and an
        optimiser step can overshoot it only until the next clamp.
        """
        log_scale = ops.convert_to_tensor(self.model.logit_scale)
        return ops.exp(ops.minimum(log_scale, self.max_log_scale))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        scale = self.logit_scale()
        contrastive = self._contrastive_loss(x, y_pred, scale)
        self.contrastive_metric.update_state(contrastive)
        self.scale_metric.update_state(scale)
        total = contrastive
        if self.mask_metric is not None and "mask_loss" in y_pred:
            self.mask_metric.update_state(y_pred["mask_loss"])
            total = total + self.mask_weight * y_pred["mask_loss"]
        return total * replica_loss_scale()

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
            options["chunk_size"] = self.loss_chunk_size
        if self.loss_kind == "sigmoid":
            arguments.append(ops.convert_to_tensor(self.logit_bias))
            if self.loss_chunk_size is None:
                return sigmoid_contrastive_loss(*arguments, **options)
            return chunked_sigmoid_contrastive_loss(*arguments, **options)
        if self.loss_chunk_size is None:
            return softmax_contrastive_loss(*arguments, **options)
        return chunked_softmax_contrastive_loss(*arguments, **options)


def caption_ids(token_ids: Any) -> Any:  # (batch, tokens) int32
    """Returns a number a caption: equal captions get equal ones.

    A polynomial hash that wraps around in int32; two different captions of a batch
    of 131,072 collide about twice in total, which leaves out two pairs in 17 billion.
    """
    powers = [pow(1_000_003, i, 2**32) for i in range(token_ids.shape[1])]
    signed = [p - 2**32 if p >= 2**31 else p for p in powers]
    weights = ops.convert_to_tensor(signed, "int32")
    return ops.sum(ops.cast(token_ids, "int32") * weights, axis=-1)


def add_drop_path(rows: dict[str, Any], tower: Any, batch: int) -> None:
    """Adds a tower's stochastic-depth factors to arrays that are cut by rows."""
    factors = tower.draw_drop_path(batch)  # (blocks, 2, batch, 1, 1)
    if factors is not None:
        rows["drop_path"] = ops.transpose(factors, (2, 0, 1, 3, 4))


def take_drop_path(chunk: dict[str, Any]) -> Any:
    """Returns a chunk's stochastic-depth factors in the blocks' layout, or None."""
    factors = chunk.get("drop_path")
    return None if factors is None else ops.transpose(factors, (1, 2, 0, 3, 4))
