"""Distillation of a large dual encoder into a small one."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Self

import keras
from keras import ops

from keras_pe.arrays import check_sizes
from keras_pe.losses.distillation import (
    chunked_kl_distillation_loss,
    kl_distillation_loss,
)
from keras_pe.models.core import PECore
from keras_pe.training.devices.distribution import cross_replica_gather
from keras_pe.training.trainers.base import BaseTrainer, Latest, Term, loss_rows


@keras.saving.register_keras_serializable("keras_pe")
class DistillationTrainer(BaseTrainer):
    """Trains a student to match how a teacher ranks the images and texts of a batch.

    Batches are those of `ContrastiveTrainer`, with images of the teacher's size, and
    `teacher_token_ids` where the teacher has another tokenizer. The teacher runs in the
    chunks of the student.

    Args:
        student: the dual encoder that is trained, in place.
        teacher: the dual encoder that is matched; frozen by this.
        teacher_logit_scale: factor of the teacher's cosines. The paper's 200 is twice
            the student's limit: a sharper distribution than the teacher was trained
            with.
        image_size: side of the student's images; None for the teacher's. They are
            scaled down on the device.
        teacher_dtype: dtype policy of the teacher; None for the student's. A teacher
            of another policy is copied into this one: `trainer.teacher`. Softmax,
            norms and embeddings stay float32.
        max_logit_scale: as of `ContrastiveTrainer`.
        loss_chunk_size, image_chunk_size, text_chunk_size: as of `ContrastiveTrainer`.

    Raises:
        ValueError: if an option makes no sense here.

    Source: Perception Encoder, section 2.4, appendix C.3 and table 20.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PECore, PETextEncoder, PEVisionEncoder
        >>> def small(num_layers):
        ...     return PECore(
        ...         PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...             num_layers=num_layers, num_heads=2, intermediate_dim=32,
        ...             output_dim=8, pooling_heads=2),
        ...         PETextEncoder(vocabulary_size=60, context_length=4, hidden_dim=16,
        ...             num_layers=1, num_heads=2, intermediate_dim=32, output_dim=8))
        >>> batch = {"images": np.zeros((4, 16, 16, 3), "float32"),
        ...     "token_ids": np.arange(16, dtype="int32").reshape(4, 4)}
        >>> trainer = DistillationTrainer(small(1), small(2))
        >>> trainer.compile(keras.optimizers.AdamW(1e-3))
        >>> batches = ((batch,) for batch in [batch])
        >>> history = trainer.fit(batches, steps_per_epoch=1, verbose=0)
        >>> sorted(history.history)
        ['contrastive_loss', 'logit_scale', 'loss']
    """

    known_arrays = ("images", "token_ids", "teacher_token_ids", "kept_patches")
    needed_arrays = ("images", "token_ids")
    one_row_is_nothing = True

    def __init__(
        self,
        student: PECore,
        teacher: PECore,
        teacher_logit_scale: float = 200.0,
        image_size: int | None = None,
        teacher_dtype: str | None = None,
        max_logit_scale: float | None = None,
        loss_chunk_size: int | None = None,
        image_chunk_size: int | None = None,
        text_chunk_size: int | None = None,
        name: str | None = None,
    ) -> None:
        if student is teacher:
            raise ValueError("Student and teacher are the same model.")
        check_teacher_scale(teacher_logit_scale)
        if image_size is not None:
            check_sizes(image_size=image_size)
        super().__init__(
            student,
            name or "distillation_trainer",
            loss_chunk_size=loss_chunk_size,
            image_chunk_size=image_chunk_size,
            text_chunk_size=text_chunk_size,
        )
        if max_logit_scale is not None:
            student.max_logit_scale = max_logit_scale
        teacher.trainable = False
        self.teacher = in_policy(teacher, teacher_dtype or self.dtype_policy.name)
        self.teacher_logit_scale = teacher_logit_scale
        self.image_size = image_size
        self.contrastive_metric = Latest("contrastive_loss")
        self.scale_metric = Latest("logit_scale")
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Returns the embeddings of both models, the teacher's as constants."""
        self.check_inputs(inputs)
        images, token_ids = inputs["images"], inputs["token_ids"]
        theirs = inputs.get("teacher_token_ids", token_ids)
        taught = {
            "teacher_image_embeddings": self._taught("vision", {"images": images}),
            "teacher_text_embeddings": self._taught("text", {"token_ids": theirs}),
        }
        if self.image_size is not None:
            images = _square(images, self.image_size)
        seen = {"images": images}
        if "kept_patches" in inputs:
            seen["kept_patches"] = inputs["kept_patches"]
        student = self.model.towers()
        sizes = self.image_chunk_size, self.text_chunk_size
        return {
            "image_embeddings": self.embed(student["vision"], seen, sizes[0], training),
            "text_embeddings": self.embed(
                student["text"], {"token_ids": token_ids}, sizes[1], training
            ),
            **taught,
        }

    def _taught(self, part: str, rows: dict[str, Any]) -> Any:
        """Returns a teacher tower's embeddings `(batch, channels)`, as constants."""
        sizes = {"vision": self.image_chunk_size, "text": self.text_chunk_size}
        tower = self.teacher.towers()[part]
        return ops.stop_gradient(self.embed(tower, rows, sizes[part], False))

    @property
    def teachers(self) -> tuple[keras.Model, ...]:
        """The frozen models, which a run's checkpoint leaves out."""
        return (self.teacher,)

    def vocabularies(self) -> dict[str, int]:
        """Returns for each array of token ids how many ids there are."""
        return {
            "token_ids": self.model.text_encoder.vocabulary_size,
            "teacher_token_ids": self.teacher.text_encoder.vocabulary_size,
        }

    def terms(self, x: Mapping[str, Any], y_pred: Any) -> Iterator[Term]:
        scale = self.model.clamped_logit_scale()
        yield Term(self.contrastive_metric, self._divergence(y_pred, scale), 1.0)
        yield Term(self.scale_metric, scale, None)

    def _divergence(self, y_pred: Any, scale: Any) -> Any:
        arguments = (
            y_pred["image_embeddings"],
            y_pred["text_embeddings"],
            scale,
            y_pred["teacher_image_embeddings"],
            y_pred["teacher_text_embeddings"],
            self.teacher_logit_scale,
        )
        gather = cross_replica_gather()
        if self.loss_chunk_size is None:
            return kl_distillation_loss(*arguments, gather=gather)
        return chunked_kl_distillation_loss(
            *arguments, chunk_size=loss_rows(self.loss_chunk_size), gather=gather
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        student = config.pop("model")
        return {
            **config,
            "student": student,
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "teacher_logit_scale": self.teacher_logit_scale,
            "image_size": self.image_size,
            "teacher_dtype": self.teacher.vision_encoder.dtype_policy.name,
            "max_logit_scale": self.model.max_logit_scale,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        # Said by versions in which this trainer was a kind of the contrastive one.
        former = ("mask_positions", "mask_normed")
        kept = {key: value for key, value in config.items() if key not in former}
        return super().from_config(kept)


def _square(images: Any, side: int) -> Any:  # (batch, height, width, 3)
    """Returns square images of a side, scaled if they have another one."""
    height, width = images.shape[1:3]
    if height != width:
        raise ValueError(
            f"image_size={side} makes square images of square ones, got {height}x"
            f"{width}. Give square images, or no image_size."
        )
    if height == side:
        return images
    return ops.image.resize(
        images, (side, side), antialias=True, data_format="channels_last"
    )


def in_policy(model: PECore, policy: str) -> PECore:
    """Returns a model under a dtype policy: itself, or a copy with its weights.

    Raises:
        ValueError: if its weights do not fit a model that is made anew, as those of
            LoRA or of quantised layers.
    """
    towers = (model.vision_encoder, model.text_encoder)
    if all(tower.dtype_policy.name == policy for tower in towers):
        return model
    vision, text = (
        type(tower).from_config({**tower.get_config(), "dtype": policy})
        for tower in towers
    )
    copy = PECore(vision, text, name=model.name, max_logit_scale=model.max_logit_scale)
    shapes = [[tuple(w.shape) for w in found.weights] for found in (model, copy)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{model.name} can't be copied into {policy}: it has LoRA or quantised "
            f"weights. Give teacher_dtype={towers[0].dtype_policy.name!r} to take it "
            f"as it is."
        )
    for ours, theirs in zip(copy.weights, model.weights, strict=True):
        ours.assign(theirs)
    copy.trainable = False
    return copy


def check_teacher_scale(scale: float) -> None:
    """Refuses a factor by which a teacher ranks nothing, or the other way round.

    Raises:
        ValueError: unless it is a number above 0.
    """
    if not 0.0 < scale < math.inf:
        raise ValueError(
            f"teacher_logit_scale must be more than 0, got {scale}. The paper takes "
            "200."
        )
