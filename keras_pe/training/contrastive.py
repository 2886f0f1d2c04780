"""The contrastive stage as a `keras.Model`: `compile` and `fit` do the rest."""

from typing import Any, Literal, Self

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
from keras_pe.training.checked_model import CheckedPairsModel
from keras_pe.training.chunked import (
    add_drop_path,
    map_chunks,
    merge_rows,
    num_chunks,
    take_drop_path,
)
from keras_pe.training.distribution import (
    cross_replica_gather,
    num_replicas,
    replica_loss_scale,
)
from keras_pe.training.latest import Latest
from keras_pe.training.mask_regularisation import mask_loss, used_patches
from keras_pe.training.pair_batches import (
    caption_ids,
    check_names,
    check_negatives,
    check_options,
    check_unlabelled,
)

INITIAL_SIGMOID_BIAS = -10.0  # Zhai et al. 2023: most pairs of a batch do not match


@keras.saving.register_keras_serializable("keras_pe")
class ContrastiveTrainer(CheckedPairsModel):
    """Trains a `PECore` on picture-caption pairs.

    Batches are dictionaries: `images` `(batch, height, width, 3)` in [-1, 1] and
    `token_ids` `(batch, tokens)`; with mask regularisation also `masked_patches`, bool
    `(rows, patches)`, masks for an evenly spaced part of the batch (a sixteenth in
    the paper); with patch dropping `kept_patches`, int32 `(batch, kept)`.

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
            of the others' pictures, as CLIP and the paper do; "ignore" leaves such
            pairs out of the loss.
        loss_chunk_size: rows of the loss matrix held at once, over all devices; None
            holds all of it.
        image_chunk_size: pictures that go through the vision tower at once, over all
            devices; None for the whole batch. Smaller ones bound the memory, for a
            third more arithmetic: each chunk is computed again in the backward pass.
        text_chunk_size: texts that go through the text tower at once, likewise.
        mask_weight: factor of the mask loss; 0 for no mask regularisation. The paper
            does not say what it used; the recipes take 1.
        mask_positions: "masked" (the paper's core model) or "all" tokens are aligned.
        mask_normed: whether tokens are compared after the final norm, which is what
            the pooling sees; the paper does not say.

    Raises:
        ValueError: if an option makes no sense. By `fit`, if a batch has arrays that
            nothing reads, labels, weights of samples, a single pair, more texts than
            pictures or token ids that do not exist, or can't be cut into the chunks
            asked for.

    Source: Perception Encoder, section 2.1 and table 18.

    Example:
        >>> trainer = ContrastiveTrainer(model)                       # doctest: +SKIP
        >>> trainer.compile(keras_pe.training.Lamb(2e-3))             # doctest: +SKIP
        >>> trainer.fit(batches, steps_per_epoch=1000)                # doctest: +SKIP
        >>> trainer.model.save_to_preset("my_encoder")                # doctest: +SKIP
    """

    known_arrays: tuple[str, ...] = (
        "images",
        "token_ids",
        "masked_patches",
        "kept_patches",
    )

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
        # The towers' policy: Keras scales the loss of a float16 model by its name.
        super().__init__(
            name=name or "contrastive_trainer",
            autocast=False,
            dtype=training_policy(model),
        )
        check_options(loss, duplicates, mask_positions, mask_weight)
        for option, size in (
            ("loss_chunk_size", loss_chunk_size),
            ("image_chunk_size", image_chunk_size),
            ("text_chunk_size", text_chunk_size),
        ):
            if size is not None and size < 1:
                raise ValueError(f"{option}={size}: expected 1 or more, or None.")
        if max_logit_scale is not None:
            model.max_logit_scale = max_logit_scale
        elif loss == "sigmoid" and model.max_logit_scale == MAX_LOGIT_SCALE:
            model.max_logit_scale = None
        self.model = model
        self.loss_kind = loss
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

    def build(self, inputs_shape: Any = None) -> None:
        """Does nothing: all weights are made when the trainer is."""

    def vocabularies(self) -> dict[str, int]:
        """Returns for each array of token ids how many ids there are."""
        return {"token_ids": self.model.text_encoder.vocabulary_size}

    # === Forward ===
    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Returns `image_embeddings`, `text_embeddings` and, if asked, `mask_loss`."""
        check_names(inputs, self.known_arrays)
        image_embeddings, mask_loss = self._encode_images(inputs, training)
        outputs = {
            "image_embeddings": image_embeddings,
            "text_embeddings": self._encode_texts(
                self.model.text_encoder, inputs["token_ids"], training
            ),
        }
        if mask_loss is not None:
            outputs["mask_loss"] = mask_loss
        return outputs

    def _num_chunks(self, x: Any, chunk_size: int | None, training: Any) -> int:
        if isinstance(x, keras.KerasTensor):  # Keras looks at shapes alone
            return 1
        return num_chunks(x.shape[0], chunk_size, num_replicas(), bool(training))

    def _encode_texts(self, tower: Any, token_ids: Any, training: bool | None) -> Any:
        chunks = self._num_chunks(token_ids, self.text_chunk_size, training)
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
        masks, kept = used_patches(inputs, self.mask_weight, training)
        chunks = self._num_chunks(images, self.image_chunk_size, training)
        if chunks == 1:
            return self._encode_chunk(images, kept, masks, None, training)
        rows = {"images": images}
        if kept is not None:
            rows["kept"] = kept
        if training:
            add_drop_path(rows, self.model.vision_encoder, images.shape[0])
        if masks is not None:
            # TensorFlow recomputes no function of bool: it would have a gradient.
            rows["masks"] = ops.cast(masks, "int32")

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

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        self._check_step(y, y_pred, sample_weight, training)
        scale = self.logit_scale()
        contrastive = self._contrastive_loss(x, y_pred, scale)
        rows = ops.shape(y_pred["image_embeddings"])[0]
        self.contrastive_metric.record(contrastive, rows, training)
        self.scale_metric.record(scale, rows, training)
        total = contrastive
        if self.mask_metric is not None and "mask_loss" in y_pred:
            self.mask_metric.record(y_pred["mask_loss"], rows, training)
            total = total + self.mask_weight * y_pred["mask_loss"]
        for added in self.losses:  # by `add_loss`, or of a regulariser
            total = total + ops.sum(ops.cast(added, total.dtype))
        return total * replica_loss_scale()

    def _check_step(
        self, y: Any, y_pred: Any, sample_weight: Any, training: bool
    ) -> None:
        """Refuses, when the step is traced, what would be left out in silence."""
        self._check_compiled()
        check_unlabelled(y, sample_weight)
        if training and self.loss_kind == "softmax":
            check_negatives(y_pred["image_embeddings"].shape[0])
        low = ("float16", "bfloat16")
        halves = {v.path: v.dtype for v in self.trainable_variables if v.dtype in low}
        if training and halves:
            first = min(halves)
            raise ValueError(
                f"Weights in {halves[first]} can't be trained: {len(halves)} of them, "
                f"such as {first}, would lose most updates, which are smaller than "
                f"their last digit. Build or load the model with "
                f'dtype="mixed_bfloat16".'
            )

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
            options["chunk_size"] = self._loss_rows()
        if self.loss_kind == "sigmoid":
            arguments.append(ops.convert_to_tensor(self.logit_bias))
            if self.loss_chunk_size is None:
                return sigmoid_contrastive_loss(*arguments, **options)
            return chunked_sigmoid_contrastive_loss(*arguments, **options)
        if self.loss_chunk_size is None:
            return softmax_contrastive_loss(*arguments, **options)
        return chunked_softmax_contrastive_loss(*arguments, **options)

    def _loss_rows(self) -> int:
        """Returns the rows of the loss matrix that this replica holds at once."""
        assert self.loss_chunk_size is not None
        return max(self.loss_chunk_size // num_replicas(), 1)

    # === Saving ===
    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": keras.saving.serialize_keras_object(self.model),
            "loss": self.loss_kind,
            # The model's has it too, but 100 there may be the default of another loss.
            "max_logit_scale": self.model.max_logit_scale,
            "duplicates": self.duplicates,
            "loss_chunk_size": self.loss_chunk_size,
            "image_chunk_size": self.image_chunk_size,
            "text_chunk_size": self.text_chunk_size,
            "mask_weight": self.mask_weight,
            "mask_positions": self.mask_positions,
            "mask_normed": self.mask_normed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        config = dict(config)
        for name in ("model", "student", "teacher"):
            if name in config:
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


def training_policy(model: PECore) -> str:
    """Returns the name of the dtype policy that a model is trained under."""
    names = [
        tower.dtype_policy.name for tower in (model.vision_encoder, model.text_encoder)
    ]
    return "mixed_float16" if "mixed_float16" in names else names[0]
